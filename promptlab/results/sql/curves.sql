-- A row is a measure, a prompt family and a level: the sum and number of its scores.
SELECT score.measure, cell.prompt_group, min(cell.prompt) AS prompt, level.level, min(cell.tier) AS tier,
    fsum(score.total) AS total, sum(score.with_value)::BIGINT AS n, bool_and(score.rate) AS rate,
    min(level.level_position) AS place, min(cell.id) AS first
FROM cell_score score
JOIN cell ON cell.study = score.study AND cell.id = score.cell_id
JOIN level ON level.study = cell.study AND level.cell_id = cell.id AND level.axis = $by
WHERE score.study = $study AND score.with_value > 0
    AND (score.measure, score.probe_id) IN (SELECT unnest($measures::VARCHAR[]), unnest($probes::VARCHAR[]))
GROUP BY ALL ORDER BY place, first
