-- Views for everyday questions. They show current cells only (see table cell).

-- Every score of every planned picture, with its cell, its settings and what the number means.
-- One row: (study, cell_id, seed, probe, measure, target). Only rows with status 'ok' belong in a mean.
-- `levels` maps axis to level: SELECT levels['order'], avg(value) FROM scored WHERE status = 'ok' GROUP BY ALL
CREATE VIEW scored AS
WITH cell_levels AS (
    SELECT study, cell_id, map_from_entries(list({'k': axis, 'v': level} ORDER BY axis)) AS levels
    FROM level
    GROUP BY study, cell_id
)
SELECT
    cell.study, cell.id AS cell_id, cell.prompt_group, cell.prompt, cell.prompt_id, cell.backend, cell.model, cell.tier,
    cell.guidance_scale, cell.distilled_guidance_scale, cell.num_inference_steps, cell.height, cell.width,
    cell.scheduler, cell.negative_prompt,
    cell_levels.levels, cell_image.seed, cell_image.image, image.status, image.file,
    score.probe, score.measure, score.target, score.value, score.label, score.reason,
    measure.unit, measure.lower, measure.upper, measure.higher_is_better
FROM cell
JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image
JOIN score ON score.image = image.id AND coalesce(score.prompt_id, cell.prompt_id) = cell.prompt_id
LEFT JOIN cell_levels ON cell_levels.study = cell.study AND cell_levels.cell_id = cell.id
LEFT JOIN measure ON measure.name = score.measure
WHERE cell.current;

-- The same, one row for each axis as well, to group by any axis or to put its number on a scale.
CREATE VIEW scored_by_axis AS
SELECT scored.*, level.axis, level.level, level.level_number, level.level_position
FROM scored
JOIN level ON level.study = scored.study AND level.cell_id = scored.cell_id;

-- Outcomes of binding, of pictures that are ok: one row a picture, probe and target; the six columns are 1 or 0, so
-- that avg() is a rate. All are NULL where the probe could not tell (see reason): count(outcome) is the shown n.
CREATE VIEW outcomes AS
SELECT
    study, cell_id, prompt_group, prompt, prompt_id, backend, model, tier, guidance_scale, num_inference_steps, levels,
    seed, image, file, probe, measure, target, label AS outcome, reason,
    (label = 'correct')::INTEGER AS correct,
    (label = 'swap')::INTEGER AS swap,
    (label = 'leak')::INTEGER AS leak,
    (label = 'other')::INTEGER AS other,
    (label = 'neglect')::INTEGER AS neglect,
    (label = 'fused')::INTEGER AS fused
FROM scored
WHERE status = 'ok'
    AND measure IN (
        SELECT measure FROM score WHERE label IN ('correct', 'swap', 'leak', 'other', 'neglect', 'fused')
    );

-- How much of each current cell is there: planned = ok + failed + missing.
CREATE VIEW completeness AS
SELECT
    cell.study, cell.id AS cell_id, cell.position, cell.prompt_group, cell.prompt, cell.model, cell.tier,
    count(*) AS planned,
    count(*) FILTER (image.status = 'ok') AS ok,
    count(*) FILTER (image.status <> 'ok') AS failed,
    count(*) FILTER (image.id IS NULL) AS missing
FROM cell
JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
LEFT JOIN image ON image.id = cell_image.image
WHERE cell.current
GROUP BY ALL;

-- Why pictures are not ok, by model and tier.
CREATE VIEW failures AS
SELECT cell.study, cell.model, cell.tier, image.status, image.reason, count(*) AS n
FROM cell
JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image
WHERE cell.current AND image.status <> 'ok'
GROUP BY ALL;
