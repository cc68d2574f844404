-- A row is a level and a unit: the sum and number of its scores.
SELECT arm.level, arm_score.unit, fsum(arm_score.value) AS total, count(*) AS n,
    bool_and(arm_score.value IN (0, 1)) AS rate, min(arm.tier) AS tier, min(arm.place) AS place,
    (SELECT higher_is_better IS NOT DISTINCT FROM false FROM measure WHERE name = $measure) AS lower
FROM arm_score JOIN arm ON arm.place = arm_score.place GROUP BY ALL ORDER BY arm.level, place, arm_score.unit
