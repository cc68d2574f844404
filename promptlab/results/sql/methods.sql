-- One row: models, backends and settings of the study.
SELECT string_agg(DISTINCT model, ', ') AS model, string_agg(DISTINCT backend, ', ') AS backend,
    count(*) AS cells, count(DISTINCT prompt) AS prompts, count(DISTINCT prompt_group) AS "prompt families",
    string_agg(DISTINCT num_inference_steps::VARCHAR, ', ') AS num_inference_steps,
    string_agg(DISTINCT guidance_scale::VARCHAR, ', ') AS guidance_scale,
    string_agg(DISTINCT width || ' x ' || height, ', ') AS size
FROM cell WHERE study = ? AND current
