"""Intervals from what a database has added up: sums and counts of each prompt in place of one row a picture.

    total, n    sum of the values of a prompt's pictures, and how many they are
    rate        whether every value is 0 or 1

The same as `stats.mean_interval` of the pictures themselves: where prompts weigh the same, only the mean of each
matters; where pictures do, or there is one prompt, rates are spelled out again, picture by picture. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from promptlab.pairing import Floats
from promptlab.stats import Interval, mean_interval

__all__ = ["interval_of_rates", "interval_of_totals"]


def interval_of_rates(
    hits: Sequence[int] | Floats,
    counts: Sequence[int] | Floats,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    weigh: Literal["prompts", "images"] = "prompts",
) -> Interval:
    """A rate: `hits` of `counts` pictures of each prompt, both (prompts,). Prompts without pictures drop out.

    `n` of the result counts prompts where their means are all that matters.
    """
    k, n = (np.asarray(side, dtype=np.int64) for side in (hits, counts))
    k, n = k[n > 0], n[n > 0]
    if weigh == "prompts" and len(n) > 1:
        return mean_interval(k / n, np.arange(len(n)), rng=rng, resamples=resamples)
    values = np.repeat(np.tile([1.0, 0.0], len(n)), np.column_stack([k, n - k]).ravel())
    return mean_interval(values, np.repeat(np.arange(len(n)), n), rng=rng, resamples=resamples, weigh=weigh)


def interval_of_totals(
    totals: Sequence[float] | Floats,
    counts: Sequence[int] | Floats,
    rates: Sequence[bool],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> Interval:
    """A mean over prompts; each argument (prompts,), every count at least 1. If they are no rates, `n` counts prompts.

    Raises ValueError for a count of 0.
    """
    sums, n = np.asarray(totals, dtype=np.float64), np.asarray(counts, dtype=np.int64)
    if (n < 1).any():
        raise ValueError("a prompt without a picture has no mean: leave it out")
    if all(rates):
        return interval_of_rates(np.rint(sums).tolist(), n.tolist(), rng=rng, resamples=resamples)
    return mean_interval(sums / n, np.arange(len(n)), rng=rng, resamples=resamples)
