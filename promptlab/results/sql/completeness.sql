-- A row is a status of planned images, with its reason.
SELECT coalesce(image.status, 'missing') AS status, image.reason, count(*) AS n
FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
LEFT JOIN image ON image.id = cell_image.image
WHERE cell.current AND cell.study = ?
GROUP BY ALL ORDER BY n DESC
