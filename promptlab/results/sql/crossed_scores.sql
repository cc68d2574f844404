-- A row is a score at a level of one axis and a level of another.
SELECT prompt_group, levels[?] AS part, level, value, tier FROM scored_by_axis
WHERE study = ? AND measure = ? AND axis = ? AND status = 'ok' AND value IS NOT NULL AND levels[?] IS NOT NULL
    AND list_contains(?::VARCHAR[], probe_id)
ORDER BY level_position, cell_id, seed, probe_id, target
