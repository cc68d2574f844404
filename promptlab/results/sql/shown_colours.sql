-- A row is a label that objects showed and the attributes that their prompts asked for: how often that was.
WITH counted AS (SELECT label, prompt_id, count(*) AS n FROM seen GROUP BY ALL)
SELECT counted.label, coalesce(claims.requested, []) AS requested, sum(counted.n)::BIGINT AS n FROM counted
LEFT JOIN (
    SELECT prompt_id, list(attribute ORDER BY position) AS requested FROM binding WHERE attribute IS NOT NULL
    GROUP BY prompt_id
) claims USING (prompt_id)
GROUP BY ALL ORDER BY ALL
