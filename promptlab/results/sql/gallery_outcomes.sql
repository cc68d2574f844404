-- A row is an image of a prompt with several objects, and its outcome.
SELECT prompt, seed, file, outcome FROM outcomes
WHERE study = ? AND measure = 'correct' AND outcome IS NOT NULL AND file IS NOT NULL
    AND (SELECT count(*) FROM binding WHERE binding.prompt_id = outcomes.prompt_id) > 1
ORDER BY cell_id, seed
