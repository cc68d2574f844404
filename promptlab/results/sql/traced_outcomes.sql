-- A row is the attention contrast of an image, with the outcome that the scene parser found in it.
SELECT a.prompt_group, a.levels, a.value, o.outcome FROM scored AS a JOIN outcomes AS o USING (study, cell_id, seed)
WHERE study = ? AND a.measure = 'attention_contrast' AND a.status = 'ok' AND o.probe = 'binding'
    AND a.value IS NOT NULL AND o.outcome IN ('correct', 'swap', 'leak') ORDER BY a.image
