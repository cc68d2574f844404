-- A row is a contrast that the study declares.
SELECT name, probe, measure, target, axis, level_a, level_b, conditions FROM contrast WHERE study = ? ORDER BY position
