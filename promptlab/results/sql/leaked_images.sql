-- A row is an image in which another object shows the attribute. `kept` is the score of the attribute's own object,
-- `taken` that of the other. It is the view `leakage`, begun at the few prompts that ask for the attribute.
WITH requested AS (
    SELECT a.prompt_id, a.object, b.object AS other_object, b.noun AS other FROM binding a
    JOIN binding b ON b.prompt_id = a.prompt_id AND b.object <> a.object AND b.attribute <> a.attribute
    WHERE a.attribute = $attribute AND b.noun = coalesce($other, b.noun)
), shown AS (
    SELECT cell.prompt, cell.prompt_id, cell_image.seed, image.id AS image, image.file, requested.*
    FROM requested JOIN cell ON cell.prompt_id = requested.prompt_id AND cell.study = $study AND cell.current
    JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
    JOIN image ON image.id = cell_image.image AND image.status = 'ok'
)
SELECT shown.image, shown.file, shown.prompt, shown.seed, shown.other, taken.label AS other_shown,
    CASE WHEN list_contains(string_split(kept.label, '|'), $attribute) THEN 'both' ELSE 'other' END AS went
FROM shown
JOIN score kept ON kept.image = shown.image AND coalesce(kept.prompt_id, shown.prompt_id) = shown.prompt_id
    AND kept.measure = 'colour' AND kept.target = shown.object AND kept.label IS NOT NULL
JOIN score taken ON taken.image = shown.image AND coalesce(taken.prompt_id, shown.prompt_id) = shown.prompt_id
    AND taken.measure = 'colour' AND taken.target = shown.other_object
    AND taken.probe_id = kept.probe_id
WHERE list_contains(string_split(taken.label, '|'), $attribute) AND list_contains($probes::VARCHAR[], kept.probe_id)
ORDER BY went DESC, shown.prompt, shown.seed, shown.image LIMIT $most
