-- A row of the temporary table is a colour that a probe saw at one object of one image.
-- Places stand for cells, since numbers join fast.
CREATE TEMP TABLE seen AS
WITH arm AS (
    SELECT *, row_number() OVER (ORDER BY id) AS place FROM cell WHERE study = $study AND current
)
SELECT arm.place, arm.prompt_id, arm.prompt_group, arm.tier, cell_image.seed, score.probe_id, score.target, score.label
FROM arm
JOIN cell_image ON cell_image.study = $study AND cell_image.cell_id = arm.id
JOIN image ON image.id = cell_image.image AND image.status = 'ok'
JOIN score ON score.image = image.id AND coalesce(score.prompt_id, arm.prompt_id) = arm.prompt_id
WHERE score.measure = 'colour' AND score.label IS NOT NULL AND list_contains($probes::VARCHAR[], score.probe_id)
