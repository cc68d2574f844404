-- A row is a measure that a probe gave to images of the study.
SELECT probe || '.' || measured.measure AS measure, sum(with_value)::BIGINT AS n,
    any_value(description) AS description, any_value(unit) AS unit, any_value(lower) AS lower,
    any_value(upper) AS upper, any_value(higher_is_better) AS higher_is_better
FROM measured LEFT JOIN measure ON measure.name = measured.measure
WHERE study = ? GROUP BY 1 ORDER BY 1
