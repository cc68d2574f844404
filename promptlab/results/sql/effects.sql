-- A row is a contrast of the study.
SELECT * EXCLUDE (run),
    (SELECT string_agg(DISTINCT tier, ', ' ORDER BY tier) FROM cell WHERE cell.study = effect.study AND current)
    AS tier
FROM effect WHERE study = ? ORDER BY contrast
