-- A row of the temporary table is a cell.
-- A unit is resampled. A setting is what both sides of a pair share besides it and the seed. Numbers stand for texts,
-- because a hundred thousand rows then group and join several times as fast. The chance that two of ten thousand
-- settings share a number of 64 bits is 1 in 10^11.
CREATE TEMP TABLE arm AS
WITH design AS (
    SELECT cell_id, max(level) FILTER (axis = $axis) AS level,
        sum(hash(axis, level)) FILTER (axis <> $axis) AS rest
    FROM level WHERE study = $study GROUP BY cell_id
)
SELECT cell.id, cell.prompt_id, cell.position, cell.tier,
    CASE WHEN $axis IS NULL THEN cell.prompt ELSE design.level END AS level,
    CASE WHEN $axis IS NOT NULL THEN dense_rank() OVER (ORDER BY cell.prompt_group) END AS family,
    CASE WHEN $axis IS NOT NULL THEN coalesce(design.rest, 0)
        ELSE hash(guidance_scale, num_inference_steps, model, negative_prompt) END AS setting,
    row_number() OVER (ORDER BY cell.id) AS place
FROM cell LEFT JOIN design ON design.cell_id = cell.id
WHERE cell.study = $study AND cell.current AND cell.prompt_group = coalesce($group, cell.prompt_group)
