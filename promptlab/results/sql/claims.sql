-- A row is a claim with its verdict.
SELECT * FROM verdict
ORDER BY regexp_extract(claim_id, '[0-9]+')::BIGINT, claim_id
