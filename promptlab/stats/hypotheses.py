"""Judging many contrasts, equivalence, trends and effect sizes.

    p        a p-value in [0, 1]
    margin   the largest difference that would not matter, in the unit of the values
    L        Page's statistic: the sum over prompts of level rank x value rank

"No difference found" is not "no difference": only `tost` may claim the latter, and only within its margin.

References:
    A Simple Sequentially Rejective Multiple Test Procedure, Holm 1979.
    Controlling the False Discovery Rate, Benjamini and Hochberg 1995.
    A Comparison of the Two One-Sided Tests Procedure and the Power Approach, Schuirmann 1987 (TOST).
    Ordered Hypotheses for Multiple Treatments: A Significance Test for Linear Ranks, Page 1963.
    Dominance Statistics: Ordinal Analyses to Answer Ordinal Questions, Cliff 1993.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from promptlab.stats.paired import Interval
from promptlab.stats.resampling import SHUFFLED, Floats, Groups, Values, bootstrap_counts, numbers_of, pair_prompts

__all__ = ["Equivalence", "Trend", "benjamini_hochberg", "cliffs_delta", "holm", "odds_ratio", "page_trend", "tost"]


@dataclass(frozen=True)
class Equivalence:
    """Is a - b inside (-margin, margin)? `low`, `high` is the 1 - 2 alpha interval; `equivalent` iff p < alpha."""

    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    margin: float
    equivalent: bool | None
    n_groups: int
    n_pairs: int
    n_dropped: int
    reason: str | None = None


@dataclass(frozen=True)
class Trend:
    """Do values rise along ordered levels? `p` is one-sided; `correlation` is the prompts' mean rank correlation.

    `correlation` lies in [-1, 1] and leaves out prompts whose values are all equal (None if all are).
    """

    statistic: float
    p: float
    correlation: float | None
    n_groups: int
    n_levels: int


def _p_values(p: Sequence[float] | Floats) -> Floats:
    values = numbers_of(p, "p")
    if not len(values):
        raise ValueError("no p-value given: a family needs at least one")
    if np.isnan(values).any() or (values < 0).any() or (values > 1).any():
        raise ValueError("a p-value lies in [0, 1]: leave contrasts that have none out of the family, and say so")
    return values


def holm(p: Sequence[float] | Floats) -> Floats:
    """Holm's adjusted p-values, (n,) in the given order: below alpha, the family-wise error stays below alpha."""
    values = _p_values(p)
    n = len(values)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(n, 0, -1)))
    return adjusted


def benjamini_hochberg(p: Sequence[float] | Floats) -> Floats:
    """Adjusted p-values, (n,), that control the false discovery rate: for exploring a grid, not for confirming."""
    adjusted: Floats = np.asarray(scipy_stats.false_discovery_control(_p_values(p), method="bh"))
    return adjusted


def tost(values_a: Values, values_b: Values, groups: Groups, *, margin: float, alpha: float = 0.05) -> Equivalence:
    """Two one-sided t-tests on the prompts' mean differences: is a - b smaller than `margin` either way?

    If every prompt shows the same difference, the answer follows without a test: p is 0 inside the margin, 1 outside.
    """
    if not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"margin is {margin}: a finite difference above 0 is allowed, fixed before the data are seen")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}: a share between 0 and 0.5, such as 0.05, is allowed")
    pairs = pair_prompts(values_a, values_b, groups)
    d = pairs.difference
    n = len(d)
    if n < 2:
        reason = "no pair was measured in both arms" if n == 0 else "one prompt: a test over prompts needs at least 2"
        estimate = float(d[0]) if n else None
        return Equivalence(estimate, None, None, None, margin, None, n, pairs.n_pairs, pairs.n_dropped, reason)
    mean, error = float(d.mean()), float(d.std(ddof=1) / np.sqrt(n))
    if error <= 1e-12 * max(1.0, abs(mean)):
        p, half = float(abs(mean) >= margin), 0.0
        alike: str | None = "every prompt shows the same difference"
    else:
        alike = None
        p = float(scipy_stats.t.sf((margin - abs(mean)) / error, n - 1))
        half = float(scipy_stats.t.isf(alpha, n - 1)) * error
    return Equivalence(mean, mean - half, mean + half, p, margin, p < alpha, n, pairs.n_pairs, pairs.n_dropped, alike)


def page_trend(values: NDArray[Any], *, rng: np.random.Generator, resamples: int = 10_000) -> Trend:
    """Page's test that values rise along the levels, by permuting the levels within each prompt.

    Arguments:
        values: (n_groups, n_levels), one mean for each prompt and level, levels in the order that the claim predicts.
            Give the levels reversed to ask for a fall.

    Rates over a few seeds are full of ties, for which the tables and `scipy.stats.page_trend_test` are only
    approximate; permuting the midranks stays exact up to the number of draws, p = (b + 1) / (resamples + 1).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 3:
        raise ValueError(f"values has shape {array.shape}: (prompts, levels) with at least 3 levels is allowed")
    if not np.isfinite(array).all():
        raise ValueError("values has cells that were not measured: keep the prompts that are complete")
    n, k = array.shape
    ranks = scipy_stats.rankdata(array, axis=1)
    level = np.arange(1.0, k + 1)
    statistic = float((ranks @ level).sum())
    as_large = 0
    step = max(1, SHUFFLED // (n * k))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        shuffled = rng.permuted(np.broadcast_to(ranks, (rows, n, k)), axis=2)
        as_large += int(((shuffled @ level).sum(axis=1) >= statistic - 1e-9).sum())
    away = ranks - (k + 1) / 2
    norm = np.sqrt((away**2).sum(axis=1) * (k**3 - k) / 12)
    varied = norm > 0
    correlation = float((away[varied] @ level / norm[varied]).mean()) if varied.any() else None
    return Trend(statistic, (as_large + 1) / (resamples + 1), correlation, n, k)


def cliffs_delta(a: Values, b: Values) -> float:
    """P(a > b) - P(a < b) over all pairs of one value of `a` (n,) and one of `b` (m,); in [-1, 1]. Not paired."""
    first, second = numbers_of(a, "a"), numbers_of(b, "b")
    if not len(first) or not len(second) or np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("a and b need at least one value each, all of them measured")
    n, m = len(first), len(second)
    rank_sum = scipy_stats.rankdata(np.concatenate([first, second]))[:n].sum()
    return float(2 * (rank_sum - n * (n + 1) / 2) / (n * m) - 1)


def odds_ratio(
    values_a: Values,
    values_b: Values,
    groups: Groups,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Odds of arm a over odds of arm b, of the prompt-averaged rates, with a percentile bootstrap over prompts.

    Values are 0, 1 or None. A rate of 0 or 1 has no odds: the estimate, or the bound that meets it, is None.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: a share between 0 and 1, such as 0.95, is allowed")
    for name, values in (("values_a", values_a), ("values_b", values_b)):
        x = numbers_of(values, name)
        if not np.isin(x[~np.isnan(x)], (0.0, 1.0)).all():
            raise ValueError(f"{name} holds values other than 0, 1 and None: odds are of yes against no")
    pairs = pair_prompts(values_a, values_b, groups)
    n = len(pairs.a)
    counted = (n, pairs.n_pairs, pairs.n_dropped)
    if n == 0:
        return Interval(None, None, None, *counted, "none", confidence, "no pair was measured in both arms")

    def log_odds_ratio(a: Floats, b: Floats) -> Floats:
        a, b = np.clip(a, 0.0, 1.0), np.clip(b, 0.0, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: Floats = np.log(a) - np.log1p(-a) - np.log(b) + np.log1p(-b)
        return ratio

    estimate = float(np.exp(log_odds_ratio(pairs.a.mean(keepdims=True), pairs.b.mean(keepdims=True))[0]))
    if not (np.isfinite(estimate) and estimate > 0):
        return Interval(None, None, None, *counted, "none", confidence, "a rate is 0 or 1: it has no odds")
    if n == 1:
        return Interval(estimate, None, None, *counted, "none", confidence, "one prompt: an interval needs at least 2")
    chunks = [log_odds_ratio(c @ pairs.a / n, c @ pairs.b / n) for c in bootstrap_counts(n, resamples, rng)]
    samples = np.concatenate(chunks)
    samples = np.sort(samples[~np.isnan(samples)])
    # Nearest ranks, not interpolation: between a finite value and an infinite one there is nothing to interpolate.
    tail = (1 - confidence) / 2
    bounds = samples[[int(tail * (len(samples) - 1)), int(np.ceil((1 - tail) * (len(samples) - 1)))]]
    low, high = (float(np.exp(bound)) if np.isfinite(bound) else None for bound in bounds)
    reason = "a resampled rate is 0 or 1: a bound has no value" if low is None or high is None else None
    return Interval(estimate, low, high, *counted, "percentile over prompts", confidence, reason)
