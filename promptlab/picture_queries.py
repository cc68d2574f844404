"""The two questions behind `Loaded.pictures`: which pictures, filtered, sorted and paged; and their scores."""

from __future__ import annotations

__all__ = ["PICTURES", "SCORES"]

PICTURES = """
WITH wanted AS (SELECT unnest($axes::VARCHAR[]) AS axis, unnest($levels::VARCHAR[]) AS level), here AS (
    SELECT cell.*, cell_image.seed, cell_image.image, coalesce(image.status, 'missing') AS status, image.reason,
        image.file,
        (SELECT arg_max(label, probe) FROM score WHERE score.image = cell_image.image AND measure = 'correct'
            AND coalesce(score.prompt_id, cell.prompt_id) = cell.prompt_id
            AND list_contains($said_by::VARCHAR[], probe)) AS outcome,
        (SELECT avg(value) FROM score WHERE score.image = cell_image.image AND measure = $measure
            AND coalesce(score.prompt_id, cell.prompt_id) = cell.prompt_id
            AND list_contains($probes::VARCHAR[], probe)) AS sorter,
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
FROM here
WHERE ($status IS NULL OR status = $status) AND ($outcome IS NULL OR outcome = $outcome)
    AND ($seed IS NULL OR seed::VARCHAR = $seed) AND ($prompt_group IS NULL OR prompt_group = $prompt_group)
ORDER BY CASE WHEN $down THEN -sorter ELSE sorter END NULLS LAST, position, seed
LIMIT $most OFFSET $skip
"""

SCORES = """
SELECT cell_id, image, split_part(probe, '-', 1) || '.' || measure AS measure, avg(value) AS value
FROM scored
WHERE study = $study AND status = 'ok' AND value IS NOT NULL AND list_contains($images::VARCHAR[], image)
    AND list_contains($cells::VARCHAR[], cell_id)
GROUP BY ALL
"""
