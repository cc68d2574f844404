-- A row is a score of an image that is ok, with the number of objects in its prompt.
SELECT scored.prompt_group, scored.cell_id, scored.seed, scored.levels, scored.probe,
    scored.measure, scored.target, scored.value, scored.tier, scored.prompt_id,
    (SELECT count(DISTINCT object) FROM binding WHERE binding.prompt_id = scored.prompt_id) AS objects
FROM scored WHERE study = ? AND status = 'ok' AND list_contains(?::VARCHAR[], probe)
ORDER BY cell_id, seed, probe_id, measure, target
