-- One row: how many prompt families a study has, and the tiers of its cells.
SELECT count(DISTINCT prompt_group)::BIGINT AS prompts,
    string_agg(DISTINCT tier, ', ' ORDER BY tier) AS tiers
FROM cell WHERE study = ? AND current
