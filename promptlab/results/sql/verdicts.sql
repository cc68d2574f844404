-- A row is an image as one judge saw it.
-- The order is fixed, else the same random numbers would resample other prompts.
SELECT probe AS judge, image, prompt_id, prompt_group, tier, any_value(label) AS outcome,
    any_value(CASE WHEN measure = 'correct' THEN value WHEN value IS NOT NULL THEN (value > 0.5)::DOUBLE END) AS verdict
FROM scored
WHERE study = ? AND status = 'ok' AND measure IN ('correct', 'vqascore') AND target = ''
GROUP BY ALL ORDER BY image, prompt_id, judge
