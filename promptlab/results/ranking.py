"""Which wording wins: levels of an axis, or whole prompts, by a measure, and how far each is behind the best.

    behind      best minus this one, over pictures that differ in nothing else: same prompt family, seed, other levels

Of whole prompts the seeds are resampled, so an interval speaks of that prompt alone. Pictures are added up in the
database, by prompt family (by seed, of whole prompts), so that a hundred thousand of them take as long as a hundred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.results.queries import preferred_probe_ids
from promptlab.stats.paired import interval_of_totals, paired_effect

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["ranking"]

COLUMNS = (
    *("level", "mean", "low", "high", "n", "n_prompts", "tier"),
    *("behind", "behind_low", "behind_high", "best_image"),
)

# A unit is resampled, a setting is what both sides of a pair share beside it and the seed. Numbers stand for texts:
# by them a hundred thousand rows group and join several times as fast; that two settings of ten thousand share a number
# of 64 bits has a chance of 1 in 10^11.
_ARM = """
CREATE TEMP TABLE arm AS
WITH design AS (
    SELECT cell_id, max(level) FILTER (axis = $axis) AS level,
        sum(hash(axis, level)) FILTER (axis <> $axis) AS rest
    FROM level WHERE study = $study GROUP BY cell_id
)
SELECT cell.id, cell.prompt_id, cell.position, cell.tier,
    CASE WHEN $axis IS NULL THEN cell.prompt ELSE design.level END AS level,
    CASE WHEN $axis IS NOT NULL THEN dense_rank() OVER (ORDER BY cell.prompt_group) END AS family,
    CASE WHEN $axis IS NOT NULL THEN coalesce(design.rest, 0)
        ELSE hash(guidance_scale, num_inference_steps, model, negative_prompt) END AS setting,
    row_number() OVER (ORDER BY cell.id) AS place
FROM cell LEFT JOIN design ON design.cell_id = cell.id
WHERE cell.study = $study AND cell.current AND cell.prompt_group = coalesce($group, cell.prompt_group)
"""
_SAID = """
CREATE TEMP TABLE said AS
SELECT arm.place, coalesce(arm.family, cell_image.seed) AS unit, cell_image.seed, score.target, score.value
FROM arm
JOIN cell_image ON cell_image.study = $study AND cell_image.cell_id = arm.id
JOIN image ON image.id = cell_image.image AND image.status = 'ok'
JOIN score ON score.image = image.id AND coalesce(score.prompt_id, arm.prompt_id) = arm.prompt_id
WHERE score.measure = $measure AND score.value IS NOT NULL AND arm.level IS NOT NULL
    AND list_contains($probes::VARCHAR[], score.probe_id)
"""
_TOTALS = """
SELECT arm.level, said.unit, fsum(said.value) AS total, count(*) AS n, bool_and(said.value IN (0, 1)) AS rate,
    min(arm.tier) AS tier, min(arm.place) AS place,
    (SELECT higher_is_better IS NOT DISTINCT FROM false FROM measure WHERE name = $measure) AS lower
FROM said JOIN arm ON arm.place = said.place GROUP BY ALL ORDER BY arm.level, place, said.unit
"""
_PAIRS = """
WITH mean AS (
    SELECT arm.level, said.unit, arm.setting, said.seed, said.target, avg(said.value) AS value
    FROM said JOIN arm ON arm.place = said.place
    WHERE list_contains($levels::VARCHAR[], arm.level) GROUP BY ALL
)
SELECT mean.level, mean.unit, avg(best.value) AS best, avg(mean.value) AS value FROM mean
JOIN mean best ON best.level = $best AND best.unit = mean.unit AND best.setting = mean.setting
    AND best.seed = mean.seed AND best.target = mean.target
WHERE mean.level <> $best GROUP BY ALL ORDER BY ALL
"""
_BEST = """
WITH picture AS (
    SELECT place, seed, avg(value) * CASE WHEN $lower THEN 1 ELSE -1 END AS loss FROM said GROUP BY ALL
), best AS (
    SELECT arm.level, arg_min({'place': arm.place, 'seed': seed}, (loss, arm.position, seed)) AS found
    FROM picture JOIN arm ON arm.place = picture.place
    WHERE list_contains($levels::VARCHAR[], arm.level) GROUP BY ALL
)
SELECT best.level, cell_image.image FROM best
JOIN arm ON arm.place = best.found.place
JOIN cell_image ON cell_image.study = $study AND cell_image.cell_id = arm.id AND cell_image.seed = best.found.seed
"""


def ranking(
    store: Store,
    study: str,
    measure: str,
    axis: str | None = None,
    seed: int = 0,
    probe: str | None = None,
    group: str | None = None,
    most: int = 200,
) -> pd.DataFrame:
    """Wordings by a measure, the best first: levels of `axis`, or whole prompts if None; the `most` best.

    Where several probes give the measure, `probe` says whose word counts, as in `tables.outcome_shares`. `group` is a
    prompt family: of its pictures alone; None takes all. Of a measure of which neither way is better the highest first.

    Columns: level, mean, low, high, n, n_prompts, tier; behind, behind_low, behind_high (see module); best_image, the
    id of the picture with the best value at this level (ties: the first of the plan).
    """
    import pandas as pd

    probes = preferred_probe_ids(store, study, measure, probe)
    with store.connect() as connection:
        connection.execute(_ARM, {"study": study, "axis": axis, "group": group})
        connection.execute(_SAID, {"study": study, "measure": measure, "probes": probes})
        rows = connection.execute(_TOTALS, {"measure": measure}).df()
        if not len(rows):
            return pd.DataFrame(columns=list(COLUMNS))
        sums = rows.groupby("level")[["total", "n"]].sum()
        lower = bool(rows["lower"].fillna(False).all())
        means = (sums["total"] / sums["n"]).sort_values(ascending=lower).head(most)
        best = str(means.index[0])
        levels = [str(name) for name in means.index]
        paired = connection.execute(_PAIRS, {"best": best, "levels": levels}).df()
        images = dict(connection.execute(_BEST, {"study": study, "levels": levels, "lower": lower}).fetchall())
    rows = rows[rows["level"].isin(means.index)]
    parts, gaps = dict(list(rows.groupby("level"))), dict(list(paired.groupby("level")))
    rng = np.random.default_rng(seed)
    out = []
    for level in means.index:
        part = parts[level]
        interval = interval_of_totals(part["total"].tolist(), part["n"].tolist(), part["rate"].tolist(), rng=rng)
        row: dict[str, Any] = {"level": level, "mean": interval.estimate, "low": interval.low, "high": interval.high}
        row |= {"n": int(part["n"].sum()), "n_prompts": 1 if axis is None else len(part), "tier": part["tier"].iloc[0]}
        row["best_image"] = images[level]
        if level != best:
            both = gaps.get(level, paired.head(0))
            groups = both["unit"].tolist()
            gap = paired_effect(both["best"].tolist(), both["value"].tolist(), groups, rng=rng, resamples=2000)
            row |= {"behind": gap.estimate, "behind_low": gap.low, "behind_high": gap.high}
        out.append(row)
    return pd.DataFrame(out, columns=list(COLUMNS))
