-- A row is a study: how many images it planned, and what became of them.
SELECT c.study, count(*) AS cells, sum(planned)::BIGINT AS planned, sum(ok)::BIGINT AS ok,
    sum(failed)::BIGINT AS failed, sum(missing)::BIGINT AS missing,
    (SELECT status FROM run WHERE run.study = c.study ORDER BY started DESC LIMIT 1) AS last_run
FROM completeness c GROUP BY c.study ORDER BY c.study
