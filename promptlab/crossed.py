"""Means of a measure over two axes at once: a curve along one of them for each level of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from promptlab.one_probe import ids_of_one_probe
from promptlab.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["crossed_means"]


def crossed_means(store: Store, study: str, measure: str, by: str, split: str, seed: int = 0) -> pd.DataFrame:
    """Mean of `measure` at each pair of levels of the axes `by` and `split` that the study holds.

    Columns: part (the level of `split`), level, mean, low, high (95 %, over prompts), n, n_prompts, tier. Where several
    probes give the measure, one counts, as in `outcome_shares`.
    """
    import pandas as pd

    rows = store.query(
        """
        SELECT prompt_group, levels[?] AS part, level, value, tier FROM scored_by_axis
        WHERE study = ? AND measure = ? AND axis = ? AND status = 'ok' AND value IS NOT NULL AND levels[?] IS NOT NULL
            AND list_contains(?::VARCHAR[], probe)
        ORDER BY level_position, cell_id, seed, probe, target
        """,
        [split, study, measure, by, split, ids_of_one_probe(store, study, measure)],
    )
    rng = np.random.default_rng(seed)
    out = []
    for (part, level), some in rows.groupby(["part", "level"], sort=False):
        groups = some["prompt_group"].tolist()
        found = mean_interval(some["value"].tolist(), groups, rng=rng, resamples=2000)
        row = {"part": part, "level": level, "mean": found.estimate, "low": found.low, "high": found.high}
        out.append({**row, "n": len(some), "n_prompts": len(set(groups)), "tier": some["tier"].iloc[0]})
    return pd.DataFrame(out, columns=["part", "level", "mean", "low", "high", "n", "n_prompts", "tier"])
