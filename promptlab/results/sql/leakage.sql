-- A row is an attribute, the noun of the other object, a prompt family and where images show the attribute, counted.
-- The view `leakage`, added up by prompt in the order of the cells: the same random numbers resample the same prompts.
-- Equal labels are counted before they are taken apart.
WITH requested AS (
    SELECT a.prompt_id, a.object, a.attribute, b.object AS other_object, b.noun AS other
    FROM binding a JOIN binding b ON b.prompt_id = a.prompt_id AND b.object <> a.object AND b.attribute <> a.attribute
), pair AS (
    SELECT one.prompt_id, one.prompt_group, one.target AS object, one.label AS object_shown,
        two.target AS other_object, two.label AS other_shown,
        min(one.tier) AS tier, min(one.place) AS first, count(*) AS n
    FROM seen one
    JOIN seen two ON two.place = one.place AND two.seed = one.seed AND two.probe_id = one.probe_id
        AND two.target <> one.target
    GROUP BY ALL
), judged AS (
    SELECT pair.*, requested.attribute, requested.other,
        list_contains(string_split(pair.object_shown, '|'), requested.attribute) AS kept,
        list_contains(string_split(pair.other_shown, '|'), requested.attribute) AS leaked
    FROM pair JOIN requested USING (prompt_id, object, other_object)
)
SELECT attribute, other, prompt_group, min(tier) AS tier, sum(n)::BIGINT AS n, min(first) AS first,
    CASE WHEN kept AND leaked THEN 'both' WHEN kept THEN 'own' WHEN leaked THEN 'other' ELSE 'nowhere' END AS went
FROM judged GROUP BY ALL ORDER BY first, attribute, other, went
