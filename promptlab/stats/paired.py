"""Estimates whose unit of inference is the prompt.

Images of one prompt resemble each other, so n images are not n independent facts: a test that counts images finds
differences that are not there (`promptlab.stats.power` shows how many). Here every number is first averaged
within its prompt (its *group*), and only prompts are resampled, flipped or counted.

    a, b      the two arms of a contrast; every difference is a minus b, as in `scipy.stats.ttest_rel`
    d_j       mean over the seeds of prompt j of (a - b), both arms at the same seed, hence from the same initial noise
    estimate  the mean of d_j: each prompt weighs the same, however many seeds it kept
    dz        mean(d_j) / sd(d_j)

A value that is None or NaN was not measured. Its pair (its image, in `mean_interval`) is dropped and counted, and a
prompt left with nothing drops out. An infinite value is refused. What the data cannot give is None, with a reason. The
interval speaks of other prompts at these seeds, not of other seeds.

`interval_of_rates` and `interval_of_totals` take what a database has added up: sums and counts of each prompt, in place
of one row an image. They equal `mean_interval` of the images themselves. Where prompts weigh the same, only the mean of
each matters. Where images weigh the same, or there is one prompt, rates are spelled out again, image by image.

`mean_finding` and `curve_finding` take a tidy table: one row an image (or an image and object), with columns named as
in the view `scored` (prompt_group, seed, level, value). A finding is one number with its interval.

    y_jk     mean over the seeds of prompt j at level k
    curve    (k,) mean over prompts of y_jk: each prompt weighs the same

A prompt that lacks a level drops out of what needs all of them, and is counted; nothing is filled in.

References:
    `promptlab.stats.resampling` for the bootstrap and the sign flips.
    Probable Inference, the Law of Succession, and Statistical Inference, Wilson 1927.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats as scipy_stats

from promptlab.errors import nearest
from promptlab.stats.resampling import (
    Floats,
    Groups,
    Values,
    bca,
    bootstrap_counts,
    numbers_of,
    pair_prompts,
    positions_of,
    sign_flip,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Curves",
    "Effect",
    "Finding",
    "Interval",
    "curve_finding",
    "curves_of",
    "interval_of_rates",
    "interval_of_totals",
    "mean_finding",
    "mean_interval",
    "need",
    "paired_effect",
    "wilson",
]


@dataclass(frozen=True)
class Interval:
    """A mean or rate with its interval. `n` values of `n_groups` prompts were used, `n_dropped` were not measured.

    `estimate`, `low`, `high` are None where the data cannot give them; `reason` says why, or what to beware of.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n_groups: int
    n: int
    n_dropped: int
    method: str
    confidence: float = 0.95
    reason: str | None = None


@dataclass(frozen=True)
class Effect:
    """A paired difference a - b over prompts. None where the data cannot give a number; `reason` says why.

    Attributes:
        estimate, low, high: mean of the prompts' differences and its interval.
        p: two-sided sign-flip permutation p of "the differences are symmetric about 0".
        dz: mean over standard deviation of the prompts' differences.
        mean_a, mean_b: the arms' means over the same prompts and pairs.
        seed_correlation: correlation of a and b at shared seeds within prompts: what same-seed pairing buys.
        n_dropped: pairs dropped because an arm was not measured.
    """

    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    n_groups: int
    n_pairs: int
    n_dropped: int
    dz: float | None
    mean_a: float | None
    mean_b: float | None
    seed_correlation: float | None
    method: str
    confidence: float = 0.95
    reason: str | None = None


def paired_effect(
    values_a: Values,
    values_b: Values,
    groups: Groups,
    seeds: Groups | None = None,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Effect:
    """The difference a - b, paired at shared seeds and averaged within prompts; arguments as in `pair_prompts`.

    No pair: everything None. One prompt: the estimate alone. All prompts alike: an interval of no width, with a reason.
    """
    pairs = pair_prompts(values_a, values_b, groups, seeds)
    d = pairs.difference
    n = len(d)
    low = high = p = dz = None
    method, reason = "none", None
    if n == 0:
        reason = "no pair was measured in both arms"
    elif n == 1:
        reason = "one prompt: an interval and a p-value need at least 2"
    else:
        low, high, method = bca(d, rng=rng, resamples=resamples, confidence=confidence)
        p, exact = sign_flip(d, rng=rng, resamples=resamples)
        method += "; sign flips, exact" if exact else f"; sign flips, {resamples} drawn"
        spread = float(d.std(ddof=1))
        if method.startswith("degenerate"):
            reason = "every prompt shows the same difference: the data give the interval no width"
        else:
            dz = float(d.mean()) / spread
            if n < 6:
                reason = f"{n} prompts: no sign-flip p can be below {2 / 2**n:.3g}, and the interval is rough"
    return Effect(
        estimate=float(d.mean()) if n else None,
        low=low,
        high=high,
        p=p,
        n_groups=n,
        n_pairs=pairs.n_pairs,
        n_dropped=pairs.n_dropped,
        dz=dz,
        mean_a=float(pairs.a.mean()) if n else None,
        mean_b=float(pairs.b.mean()) if n else None,
        seed_correlation=pairs.seed_correlation,
        method=method,
        confidence=confidence,
        reason=reason,
    )


def mean_interval(
    values: Values,
    groups: Groups,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
    weigh: Literal["prompts", "images"] = "prompts",
) -> Interval:
    """A mean or a rate (values 0 and 1) with a bootstrap over prompts.

    `weigh` says what weighs the same: each prompt, or each picture ("of all pictures with both objects").
    A rate takes Wilson's interval where resampling sees no spread: with one prompt (over its pictures; it speaks of
    this prompt alone) and with all pictures alike (over prompts, as if each were one picture).
    """
    if weigh not in ("prompts", "images"):
        raise ValueError(f"weigh is {weigh!r}: 'prompts' or 'images' is allowed")
    numbers = numbers_of(values, "values")
    if len(numbers) != len(groups):
        raise ValueError(f"every value needs its prompt: {len(numbers)} values, {len(groups)} groups")
    index = positions_of(groups)[1]
    kept = ~np.isnan(numbers)
    x, index = numbers[kept], np.unique(index[kept], return_inverse=True)[1]
    n_groups, n_dropped = len(np.unique(index)), int((~kept).sum())
    if not len(x):
        return Interval(None, None, None, 0, 0, n_dropped, "none", confidence, "no value was measured")
    counts = np.bincount(index).astype(np.float64)
    means = np.bincount(index, weights=x) / counts
    estimate = float(means.mean() if weigh == "prompts" else x.mean())
    low: float | None
    high: float | None
    is_rate = bool(np.isin(x, (0.0, 1.0)).all())
    reason = None
    if n_groups == 1 and is_rate:
        low, high = wilson(int(x.sum()), len(x), confidence=confidence)
        method, reason = "Wilson over images", "one prompt: the interval speaks of this prompt alone"
    elif n_groups == 1:
        low = high = None
        method, reason = "none", "one prompt: an interval over prompts needs at least 2"
    elif is_rate and np.ptp(x) == 0:
        low, high = wilson(int(x[0]) * n_groups, n_groups, confidence=confidence)
        method, reason = "Wilson over prompts", "all pictures alike: each prompt counts as one"
    else:
        low, high, method = bca(
            means, counts if weigh == "images" else None, rng=rng, resamples=resamples, confidence=confidence
        )
        if method == "degenerate":
            reason = "every prompt has the same mean: the data give the interval no width"
    return Interval(estimate, low, high, n_groups, len(x), n_dropped, method, confidence, reason)


def wilson(k: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for `k` successes in `n` independent trials, 0 <= k <= n, n >= 1."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} successes of {n}: 0 <= k <= n and n >= 1 are allowed")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: a share between 0 and 1, such as 0.95, is allowed")
    low, high = scipy_stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


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


@dataclass(frozen=True)
class Finding:
    """One number that an analysis came to. None where the data cannot give it; `reason` says why, or what to beware of.

    `p` is two-sided, of the null hypothesis that the analysis names; `n` pictures of `n_groups` prompts were used,
    `n_dropped` rows were not measured.
    """

    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    n_groups: int
    n: int
    n_dropped: int = 0
    method: str = "none"
    confidence: float = 0.95
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Curves:
    """Prompt means: `means` (n_groups, n_levels), NaN where a prompt has no measured value at a level; levels rise."""

    groups: tuple[Hashable, ...]
    levels: Floats
    means: Floats
    n: int
    n_dropped: int

    def complete(self) -> Curves:
        """Only prompts that were measured at every level."""
        whole = np.flatnonzero(~np.isnan(self.means).any(axis=1))
        kept = tuple(self.groups[j] for j in whole)
        return Curves(kept, self.levels, self.means[whole], self.n, self.n_dropped)

    def at(self, level: float) -> Floats:
        """Prompt means at one level, (n_groups,). Raises ValueError for a level that is not there."""
        found = np.flatnonzero(np.isclose(self.levels, level))
        if not len(found):
            known = ", ".join(f"{value:g}" for value in self.levels)
            raise ValueError(f"no level is {level:g}: the table has {known or 'none'}")
        column: Floats = self.means[:, found[0]]
        return column


def need(scores: pd.DataFrame, *columns: str) -> None:
    """Raises ValueError where a column is missing, naming the nearest that is there."""
    for name in columns:
        if name not in scores.columns:
            known = [str(column) for column in scores.columns]
            raise ValueError(f"the table has no column {name!r}: it has {', '.join(known)}{nearest(name, known)}")


def curves_of(scores: pd.DataFrame) -> Curves:
    """The prompts' curves, from the columns prompt_group, level and value."""
    need(scores, "prompt_group", "level", "value")
    value, level = numbers_of(list(scores["value"]), "value"), numbers_of(list(scores["level"]), "level")
    if np.isnan(level).any():
        raise ValueError("level holds what is no number: leave those rows out, or give them a place on the axis")
    groups, row = positions_of(list(scores["prompt_group"]))
    levels, column = np.unique(level, return_inverse=True)
    kept = ~np.isnan(value)
    cell = (row * len(levels) + column)[kept]
    counts = np.bincount(cell, minlength=len(groups) * len(levels))
    totals = np.bincount(cell, weights=value[kept], minlength=len(groups) * len(levels))
    with np.errstate(invalid="ignore"):
        means = (totals / counts).reshape(len(groups), len(levels))
    return Curves(groups, levels, means, int(kept.sum()), int((~kept).sum()))


def mean_finding(
    values: Floats, *, rng: np.random.Generator, n: int, n_dropped: int = 0, resamples: int = 10_000, **detail: Any
) -> Finding:
    """The mean of one number a prompt, `values` (n_groups,); `p` of "they are symmetric about 0". NaN drops out."""
    known = values[~np.isnan(values)]
    groups = len(known)
    if groups < 2:
        reason = "no prompt was measured" if not groups else "one prompt: an interval and a p-value need at least 2"
        return Finding(
            float(known[0]) if groups else None, None, None, None, groups, n, n_dropped, reason=reason, detail=detail
        )
    low, high, method = bca(known, rng=rng, resamples=resamples)
    p, exact = sign_flip(known, rng=rng, resamples=resamples)
    alike = "every prompt shows the same value: the data give the interval no width" if method == "degenerate" else None
    method += "; sign flips, exact" if exact else f"; sign flips, {resamples} drawn"
    return Finding(float(known.mean()), low, high, p, groups, n, n_dropped, method=method, reason=alike, detail=detail)


def curve_finding(
    curves: Curves,
    statistic: Callable[[Floats], Floats],
    *,
    rng: np.random.Generator,
    resamples: int = 4000,
    confidence: float = 0.95,
    beyond: str = "",
) -> Finding:
    """A number read off the mean curve, with a percentile bootstrap over complete prompts; `p` is None.

    `statistic` maps mean curves (rows, n_levels) to numbers (rows,); infinite where the number lies beyond the levels
    (`beyond` says so in words): an estimate or bound that is infinite comes out None.
    """
    whole = curves.complete()
    n = len(whole.groups)
    if n == 0:
        return Finding(None, None, None, None, 0, curves.n, curves.n_dropped, reason="no prompt has every level")
    estimate = _finite(statistic(whole.means.mean(axis=0, keepdims=True))[0])
    reason = beyond if estimate is None else None
    counted = (n, curves.n, curves.n_dropped)
    if n == 1:
        reason = "one prompt: an interval over prompts needs at least 2"
        return Finding(estimate, None, None, None, *counted, reason=reason)
    drawn = [statistic(c @ whole.means / n) for c in bootstrap_counts(n, resamples, rng)]
    # Nearest ranks, not interpolation: between a finite value and an infinite one there is nothing to interpolate.
    samples, tail = np.sort(np.concatenate(drawn)), (1 - confidence) / 2
    last = len(samples) - 1
    low, high = _finite(samples[int(tail * last)]), _finite(samples[int(np.ceil((1 - tail) * last))])
    if reason is None and (low is None or high is None):
        reason = f"{'the lower' if low is None else 'the upper'} bound: {beyond}"
    method = f"percentile over prompts, {resamples} drawn"
    return Finding(estimate, low, high, None, *counted, method=method, confidence=confidence, reason=reason)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
