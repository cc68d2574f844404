"""Which wording wins: levels of an axis, or whole prompts, by a measure, and how far each is behind the best.

    behind      best minus this one, over pictures that differ in nothing else: same prompt family, seed, other levels

Of whole prompts the seeds are resampled, so an interval speaks of that prompt alone. Pictures are added up in the
database, by prompt family (by seed, of whole prompts), so that a hundred thousand of them take as long as a hundred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.stats import paired_effect
from promptlab.totals import interval_of_totals

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["ranking", "said_by"]

COLUMNS = ("level", "mean", "low", "high", "n", "n_prompts", "tier", "behind", "behind_low", "behind_high")

# A group is what is resampled; a setting is what both sides of a pair share beside it.
_ARMS = """
WITH arm AS (
    SELECT cell_id, max(level) FILTER (axis = $axis) AS level,
        string_agg(axis || '=' || level, '|' ORDER BY axis) FILTER (axis <> $axis) AS rest
    FROM level WHERE study = $study GROUP BY cell_id
), said AS (
    SELECT split_part(s.probe, '-', 1) AS probe, s.value, s.tier, s.higher_is_better, s.cell_id, s.seed, s.target,
        CASE WHEN $axis IS NULL THEN s.prompt ELSE arm.level END AS level,
        CASE WHEN $axis IS NULL THEN printf('%020d', s.seed) ELSE s.prompt_group END AS prompt_group,
        CASE WHEN $axis IS NULL
            THEN concat_ws('|', s.guidance_scale, s.num_inference_steps, s.model, s.negative_prompt) ELSE arm.rest
        END AS rest
    FROM scored s LEFT JOIN arm ON arm.cell_id = s.cell_id
    WHERE s.study = $study AND s.measure = $measure AND s.status = 'ok' AND s.value IS NOT NULL
)
"""
_TOTALS = f"""{_ARMS}
SELECT probe, level, prompt_group, fsum(value) AS total, count(*) AS n, bool_and(value IN (0, 1)) AS rate,
    min(tier) AS tier, bool_and(higher_is_better IS NOT DISTINCT FROM false) AS lower, min(cell_id) AS first
FROM said WHERE level IS NOT NULL GROUP BY ALL ORDER BY level, first, prompt_group
"""
_PAIRS = f"""{_ARMS}, mean AS (
    SELECT level, prompt_group, rest, seed, target, avg(value) AS value FROM said
    WHERE probe = $probe AND list_contains($levels::VARCHAR[], level) GROUP BY ALL
)
SELECT mean.level, mean.prompt_group, avg(best.value) AS best, avg(mean.value) AS value FROM mean
JOIN mean best ON best.level = $best AND best.prompt_group = mean.prompt_group AND best.seed = mean.seed
    AND best.target = mean.target AND best.rest IS NOT DISTINCT FROM mean.rest
WHERE mean.level <> $best GROUP BY ALL ORDER BY ALL
"""


def said_by(rows: pd.DataFrame, probe: str | None) -> pd.DataFrame:
    """The rows of one probe, whatever its version: of several that tell a measure, no picture may count twice.

    `probe` if given, else binding, else human, else the first by name that has any.
    """
    said = rows["probe"].str.split("-").str[0]
    there = set(said)
    chosen = probe or next((name for name in ("binding", "human") if name in there), min(there, default=""))
    return rows[said == chosen]


def ranking(
    store: Store, study: str, measure: str, axis: str | None = None, seed: int = 0, most: int = 200
) -> pd.DataFrame:
    """Wordings by a measure, the best first: levels of `axis`, or whole prompts if None; the `most` best.

    Columns: level, mean, low, high, n, n_prompts, tier, and behind, behind_low, behind_high (see module).
    """
    import pandas as pd

    asked = {"study": study, "measure": measure, "axis": axis}
    rows = said_by(store.query(_TOTALS, asked), None)
    if not len(rows):
        return pd.DataFrame(columns=list(COLUMNS))
    sums = rows.groupby("level")[["total", "n"]].sum()
    means = (sums["total"] / sums["n"]).sort_values(ascending=bool(rows["lower"].all())).head(most)
    best = str(means.index[0])
    paired = store.query(
        _PAIRS, {**asked, "probe": rows["probe"].iloc[0], "best": best, "levels": [str(name) for name in means.index]}
    )
    rows = rows[rows["level"].isin(means.index)]
    parts, gaps = dict(list(rows.groupby("level"))), dict(list(paired.groupby("level")))
    rng = np.random.default_rng(seed)
    out = []
    for level in means.index:
        part = parts[level]
        interval = interval_of_totals(part["total"].tolist(), part["n"].tolist(), part["rate"].tolist(), rng=rng)
        row: dict[str, Any] = {"level": level, "mean": interval.estimate, "low": interval.low, "high": interval.high}
        row |= {"n": int(part["n"].sum()), "n_prompts": 1 if axis is None else len(part), "tier": part["tier"].iloc[0]}
        if level != best:
            both = gaps.get(level, paired.head(0))
            groups = both["prompt_group"].tolist()
            gap = paired_effect(both["best"].tolist(), both["value"].tolist(), groups, rng=rng, resamples=2000)
            row |= {"behind": gap.estimate, "behind_low": gap.low, "behind_high": gap.high}
        out.append(row)
    return pd.DataFrame(out, columns=list(COLUMNS))
