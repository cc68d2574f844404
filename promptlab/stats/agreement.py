"""How far raters agree: Krippendorff's alpha for categories.

    unit       what is rated; its raters may be others than those of the next unit, and as many as there were
    o(c, k)    coincidences: pairs of one unit's ratings with the values c and k, each unit weighing 1 / (ratings - 1)
    n(c), n    ratings of value c, and all, in units with two ratings or more
    D_o        share of coincidences that disagree: 1 - sum o(c, c) / n
    D_e        the same if ratings were dealt out by chance: (n^2 - sum n(c)^2) / (n (n - 1))
    alpha      1 - D_o / D_e: 1 perfect, 0 chance, below 0 worse than chance

With equally many ratings r of N units alpha = kappa + (1 - kappa) / (N r), kappa being Fleiss'. Units of one group (the
pictures of one prompt) are resampled together. Krippendorff himself asks for 0.8, and 0.667 for tentative conclusions.

References:
    Krippendorff 2011, Computing Krippendorff's Alpha-Reliability. Hayes and Krippendorff 2007, Answering the Call for a
    Standard Reliability Measure for Coding Data. Fleiss 1971, Measuring Nominal Scale Agreement among Many Raters.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from promptlab.stats.resampling import Groups, bootstrap_counts, positions_of

__all__ = ["Agreement", "krippendorff_alpha"]


@dataclass(frozen=True)
class Agreement:
    """Alpha with a percentile interval over groups; None with a `reason` where the ratings cannot give it.

    `observed` is 1 - D_o, the share of pairs that agree, in [0, 1].
    """

    alpha: float | None
    low: float | None
    high: float | None
    observed: float | None
    n_units: int
    n_ratings: int
    n_groups: int
    reason: str | None = None


def krippendorff_alpha(
    units: Sequence[Sequence[Hashable | None]],
    groups: Groups | None = None,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Agreement:
    """Alpha of nominal ratings.

    Arguments:
        units: (N,) the ratings of each unit; None is a rating that is missing. Units with fewer than two count nothing.
        groups: (N,) what is resampled; each unit by itself if None.
    """
    if groups is not None and len(groups) != len(units):
        raise ValueError(f"every unit needs its group: {len(units)} units, {len(groups)} groups")
    rated = [[value for value in unit if value is not None] for unit in units]
    kept = [i for i, values in enumerate(rated) if len(values) > 1]
    names, index = positions_of([i if groups is None else groups[i] for i in kept])
    place = {value: k for k, value in enumerate(dict.fromkeys(v for i in kept for v in rated[i]))}
    agreeing, counts_by_value = np.zeros(len(names)), np.zeros((len(names), len(place)))
    for group, i in zip(index, kept, strict=True):
        counts = np.bincount([place[value] for value in rated[i]], minlength=len(place))
        agreeing[group] += (counts * (counts - 1)).sum() / (len(rated[i]) - 1)
        counts_by_value[group] += counts
    n = int(counts_by_value.sum())
    if not n:
        return Agreement(None, None, None, None, 0, 0, 0, "no unit has two ratings")
    observed = float(agreeing.sum() / n)
    if len(place) < 2:
        why = "all ratings are the same: what chance would give is not known"
        return Agreement(None, None, None, observed, len(kept), n, len(names), why)
    alpha = float(_alphas(agreeing[None].sum(axis=1), counts_by_value.sum(axis=0)[None])[0])
    if len(names) < 2:
        why = "one group: an interval needs at least 2"
        return Agreement(alpha, None, None, observed, len(kept), n, len(names), why)
    drawn = [_alphas(rows @ agreeing, rows @ counts_by_value) for rows in bootstrap_counts(len(names), resamples, rng)]
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.concatenate(drawn), [tail, 1 - tail])
    return Agreement(alpha, float(low), float(high), observed, len(kept), n, len(names))


def _alphas(agreeing: np.ndarray, counts_by_value: np.ndarray) -> np.ndarray:
    """Alpha of each row: agreeing coincidences (rows,), ratings by value (rows, values). NaN where all are the same."""
    n = counts_by_value.sum(axis=1)
    expected = (n**2 - (counts_by_value**2).sum(axis=1)) / (n * (n - 1))
    result: np.ndarray = 1 - (1 - agreeing / n) / np.where(expected > 0, expected, np.nan)
    return result
