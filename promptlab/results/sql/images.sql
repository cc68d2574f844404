-- A row is a planned image at the requested levels.
WITH wanted AS (SELECT unnest($axes::VARCHAR[]) AS axis, unnest($levels::VARCHAR[]) AS level), planned AS (
    SELECT cell.*, cell_image.seed, cell_image.image, coalesce(image.status, 'missing') AS status, image.reason,
        image.file,
        (SELECT arg_max(label, probe_id) FROM score WHERE score.image = cell_image.image AND measure = 'correct'
            AND coalesce(score.prompt_id, cell.prompt_id) = cell.prompt_id
            AND list_contains($outcome_probes::VARCHAR[], probe_id)) AS outcome,
        (SELECT avg(value) FROM score WHERE score.image = cell_image.image AND measure = $measure
            AND coalesce(score.prompt_id, cell.prompt_id) = cell.prompt_id
            AND list_contains($probes::VARCHAR[], probe_id)) AS sorter,
        (SELECT map_from_entries(list({'k': axis, 'v': level} ORDER BY axis)) FROM level
            WHERE level.study = cell.study AND level.cell_id = cell.id) AS levels
    FROM cell
    JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
    LEFT JOIN image ON image.id = cell_image.image
    WHERE cell.current AND cell.study = $study AND NOT EXISTS (
        SELECT 1 FROM wanted WHERE NOT EXISTS (
            SELECT 1 FROM level WHERE level.study = cell.study AND level.cell_id = cell.id
                AND level.axis = wanted.axis AND level.level = wanted.level))
)
SELECT image, file, status, reason, outcome, id AS cell_id, prompt_group, prompt, negative_prompt, levels, seed, model,
    tier, guidance_scale, num_inference_steps, height, width, scheduler
FROM planned
WHERE ($status IS NULL OR status = $status) AND ($outcome IS NULL OR outcome = $outcome)
    AND ($seed IS NULL OR seed::VARCHAR = $seed) AND ($prompt_group IS NULL OR prompt_group = $prompt_group)
ORDER BY CASE WHEN $descending THEN -sorter ELSE sorter END NULLS LAST, position, seed
LIMIT $most OFFSET $skip
