-- A row is an image that was made, with the levels of its cell.
WITH named AS (
    SELECT study, cell_id, map_from_entries(list({'k': axis, 'v': level} ORDER BY axis)) AS levels
    FROM level GROUP BY study, cell_id
)
SELECT cell.prompt_group, cell.tier, cell_image.seed, named.levels, image.file, image.pixels
FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image
JOIN named ON named.study = cell.study AND named.cell_id = cell.id
WHERE cell.study = ? AND cell.current AND image.status = 'ok' AND image.file IS NOT NULL AND image.pixels IS NOT NULL
ORDER BY cell.position, cell_image.seed
