-- A row is a probe that gave the measure to an image of the study.
SELECT DISTINCT probe, probe_id FROM measured
WHERE study = ? AND measure = ? AND with_value + with_label > 0 ORDER BY probe_id
