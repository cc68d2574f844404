-- A row is a score of a probe that traces images.
SELECT prompt_group, image, levels, probe, measure, target, value FROM scored
WHERE study = ? AND status = 'ok' AND probe IN ('attention', 'ablation', 'padding')
ORDER BY prompt_group, image, target
