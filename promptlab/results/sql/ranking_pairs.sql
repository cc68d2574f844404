-- A row is a level and a unit: its mean and that of the best level, over images that differ in nothing else.
WITH mean AS (
    SELECT arm.level, arm_score.unit, arm.setting, arm_score.seed, arm_score.target, avg(arm_score.value) AS value
    FROM arm_score JOIN arm ON arm.place = arm_score.place
    WHERE list_contains($levels::VARCHAR[], arm.level) GROUP BY ALL
)
SELECT mean.level, mean.unit, avg(best.value) AS best, avg(mean.value) AS value FROM mean
JOIN mean best ON best.level = $best AND best.unit = mean.unit AND best.setting = mean.setting
    AND best.seed = mean.seed AND best.target = mean.target
WHERE mean.level <> $best GROUP BY ALL ORDER BY ALL
