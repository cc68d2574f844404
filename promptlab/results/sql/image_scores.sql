-- A row is the mean of a measure over the targets of one image.
SELECT cell_id, image, probe || '.' || measure AS measure, avg(value) AS value
FROM scored
WHERE study = $study AND status = 'ok' AND value IS NOT NULL AND list_contains($images::VARCHAR[], image)
    AND list_contains($cells::VARCHAR[], cell_id)
GROUP BY ALL
