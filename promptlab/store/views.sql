-- Views for everyday questions. They show current cells only (see table cell).

-- Every score of every planned picture, with its cell, its settings and what the number means.
-- One row: (study, cell_id, seed, probe_id, measure, target). Only rows with status 'ok' belong in a mean.
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
    score.probe, score.probe_id, score.measure, score.target, score.value, score.label, score.reason,
    measure.unit, measure.lower, measure.upper, measure.higher_is_better
FROM cell
JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image
JOIN score ON score.image = image.id AND coalesce(score.prompt_id, cell.prompt_id) = cell.prompt_id
LEFT JOIN cell_levels ON cell_levels.study = cell.study AND cell_levels.cell_id = cell.id
LEFT JOIN measure ON measure.name = score.measure
ANTI JOIN outdated ON outdated.study = cell.study AND outdated.probe_id = score.probe_id
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
    seed, image, file, probe, probe_id, measure, target, label AS outcome, reason,
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

-- Where an attribute went that was asked of one of several objects: one row a picture, probe, attribute and other object,
-- of pictures in which both objects were found. went: own (its object alone has it), both, other (the other alone),
-- nowhere (neither). Labels of people may name several colours, "red|white"; each counts. What the background took
-- over is in no row: no probe here sees that.
CREATE VIEW leakage AS
WITH seen AS (
    SELECT study, cell_id, prompt_group, prompt, prompt_id, model, tier, levels, seed, image, file, probe, probe_id, target,
        string_split(label, '|') AS shown
    FROM scored
    WHERE status = 'ok' AND measure = 'colour' AND label IS NOT NULL
), asked AS (
    SELECT prompt_id, object, noun, attribute FROM binding WHERE attribute IS NOT NULL
)
SELECT
    own.study, own.cell_id, own.prompt_group, own.prompt, own.prompt_id, own.model, own.tier, own.levels, own.seed,
    own.image, own.file, own.probe, own.probe_id, a.object, a.noun, a.attribute, b.object AS other_object, b.noun AS other,
    b.attribute AS other_attribute, own.shown AS object_shown, theirs.shown AS other_shown,
    list_contains(own.shown, a.attribute) AS kept, list_contains(theirs.shown, a.attribute) AS leaked,
    CASE
        WHEN kept AND leaked THEN 'both' WHEN kept THEN 'own' WHEN leaked THEN 'other' ELSE 'nowhere'
    END AS went
FROM seen own
JOIN asked a ON a.prompt_id = own.prompt_id AND a.object = own.target
JOIN asked b ON b.prompt_id = a.prompt_id AND b.object <> a.object AND b.attribute <> a.attribute
JOIN seen theirs ON theirs.study = own.study AND theirs.cell_id = own.cell_id AND theirs.seed = own.seed
    AND theirs.probe_id = own.probe_id AND theirs.target = b.object;

-- Claims about prompting and what the data say, by the last `promptlab claims`. One row a claim; intervals and p as in
-- table effect. A difference counts in `unit`; n counts units of inference, never pictures.
CREATE VIEW verdict AS
SELECT
    contrast AS claim_id, detail ->> 'claim' AS claim, verdict, estimate, low, high, detail ->> 'unit' AS unit,
    p, p_adjusted, n_groups AS n, coalesce(detail ->> 'unit_of_inference', 'prompt') AS unit_of_inference,
    detail ->> 'expects' AS expects, (detail ->> 'margin')::DOUBLE AS margin, detail ->> 'tier' AS tier,
    reason, detail ->> 'design' AS design, detail ->> 'size' AS size, detail ->> 'source' AS source,
    detail ->> 'comparator' AS comparator
FROM effect
WHERE study = 'claims' AND verdict IS NOT NULL;
