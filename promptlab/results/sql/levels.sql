-- A row is a level of an axis, in the order of the study.
SELECT axis, level FROM level JOIN cell ON cell.study = level.study AND cell.id = level.cell_id
WHERE cell.study = ? AND cell.current GROUP BY axis, level ORDER BY axis, min(level_position)
