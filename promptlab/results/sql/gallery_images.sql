-- A row is the first image of a cell.
SELECT DISTINCT ON (cell.position) cell.prompt, cell_image.seed, image.file, NULL AS outcome FROM cell
JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
WHERE cell.study = ? AND cell.current ORDER BY cell.position, cell_image.seed LIMIT ?
