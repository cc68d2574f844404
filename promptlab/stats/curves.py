"""From a tidy table of scores to one number with its interval: what the analyses of single claims share.

A table has one row a picture (or a picture and object), with columns named as in the view `scored`:

    prompt_group  the prompt family, the unit of inference      seed   the initial noise
    level         where on the axis, a number                   value  what was measured; None or NaN: it was not

    y_jk     mean over the seeds of prompt j at level k
    curve    (k,) mean over prompts of y_jk: each prompt weighs the same

Values are averaged within prompts first; only prompts are resampled or flipped. What the data cannot give is None, with
a reason. Nothing is filled in: a prompt that lacks a level drops out of what needs all of them, and is counted.

References:
    `promptlab.stats.paired` and `promptlab.stats.resampling` for the intervals and the sign flips.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import nearest
from promptlab.stats.resampling import Floats, bca, bootstrap_counts, numbers_of, positions_of, sign_flip

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Curves", "Finding", "curve_finding", "curves_of", "mean_finding", "need"]


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
