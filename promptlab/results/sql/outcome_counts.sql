-- A row is a prompt family of two objects, a level and an outcome: how many images show it.
SELECT cell.prompt_group, score.label AS outcome, level.level, min(cell.tier) AS tier,
    sum(score.scores)::BIGINT AS n, min(cell.position) AS first
FROM cell_score score
JOIN cell ON cell.study = score.study AND cell.id = score.cell_id
LEFT JOIN level ON level.study = cell.study AND level.cell_id = cell.id AND level.axis = $by
WHERE score.study = $study AND score.measure = 'correct' AND score.label IS NOT NULL
    AND list_contains($probes::VARCHAR[], score.probe_id)
    AND cell.prompt_id IN (SELECT prompt_id FROM binding GROUP BY prompt_id HAVING count(*) = 2)
GROUP BY ALL ORDER BY first, outcome
