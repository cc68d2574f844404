-- A row is a fact about the software and the device of the runs.
SELECT name, any_value(value) AS value FROM fact JOIN run ON run.id = fact.run
WHERE run.study = ? AND (name IN ('torch', 'diffusers', 'transformers', 'open_clip_torch', 'duckdb')
    OR name IN ('diffusion.commit', 'diffusion.dtype', 'diffusion.device', 'diffusion.batch_size'))
GROUP BY name ORDER BY name
