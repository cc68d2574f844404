-- A row is a score of one measure by one probe.
-- The order is fixed, else the same random numbers would resample other prompts, and the bounds would wander.
SELECT prompt_group, seed, levels, probe_id, target, value
FROM scored
WHERE study = ? AND measure = ? AND probe = ? AND status = 'ok'
ORDER BY cell_id, seed, probe_id, target
