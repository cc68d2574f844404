-- A row is an object as the scene parser found it: its share of the canvas, and twice its centre in pixels.
SELECT scored.prompt_group, scored.cell_id, scored.seed, scored.levels, scored.target,
    (SELECT count(DISTINCT object) FROM binding WHERE binding.prompt_id = scored.prompt_id) AS objects,
    (score.detail ->> '$.area')::DOUBLE AS area,
    (score.detail ->> '$.box[0]')::DOUBLE + (score.detail ->> '$.box[2]')::DOUBLE AS x
FROM scored JOIN score ON score.image = scored.image AND score.probe_id = scored.probe_id
    AND score.target = scored.target AND score.measure = scored.measure
    AND coalesce(score.prompt_id, scored.prompt_id) = scored.prompt_id
WHERE study = ? AND status = 'ok' AND scored.measure = 'noun' AND scored.probe = 'binding'
ORDER BY scored.cell_id, scored.seed, scored.target
