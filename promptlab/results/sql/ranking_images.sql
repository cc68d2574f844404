-- A row is a level with the image that has the best value there.
WITH image_loss AS (
    SELECT place, seed, avg(value) * CASE WHEN $lower THEN 1 ELSE -1 END AS loss FROM arm_score GROUP BY ALL
), best AS (
    SELECT arm.level, arg_min({'place': arm.place, 'seed': seed}, (loss, arm.position, seed)) AS found
    FROM image_loss JOIN arm ON arm.place = image_loss.place
    WHERE list_contains($levels::VARCHAR[], arm.level) GROUP BY ALL
)
SELECT best.level, cell_image.image FROM best
JOIN arm ON arm.place = best.found.place
JOIN cell_image ON cell_image.study = $study AND cell_image.cell_id = arm.id AND cell_image.seed = best.found.seed
