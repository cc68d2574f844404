-- A row of the temporary table is a score of an image of `arm`.
CREATE TEMP TABLE arm_score AS
SELECT arm.place, coalesce(arm.family, cell_image.seed) AS unit, cell_image.seed, score.target, score.value
FROM arm
JOIN cell_image ON cell_image.study = $study AND cell_image.cell_id = arm.id
JOIN image ON image.id = cell_image.image AND image.status = 'ok'
JOIN score ON score.image = image.id AND coalesce(score.prompt_id, arm.prompt_id) = arm.prompt_id
WHERE score.measure = $measure AND score.value IS NOT NULL AND arm.level IS NOT NULL
    AND list_contains($probes::VARCHAR[], score.probe_id)
