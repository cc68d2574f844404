"""Specificity: what each further detail of a prompt changes, and whether details hinder one another.

    d        details that the prompt states, the `level` of the tables here
    slope    change of a value (entropy, distance between seeds, success) per detail, per prompt, by least squares
    x_i(s)   1 if detail i is right in the picture at seed s, else 0; k details
    P        mean over prompts of the share of pictures in which all k are right
    Q        mean over prompts of what independent details would give: the product of x_1(s_1) .. x_k(s_k), averaged
             over distinct seeds s_1 .. s_k, which no two details of one picture share
    ratio    ln P - ln Q: 0 independent, below 0 they hinder one another, above 0 they come together

A product of rates over all prompts would count prompts of unequal difficulty as details that come together; Q is taken
within prompts. The product of k rates over the same m seeds is biased by their covariance over m; distinct seeds are
not. The sum over distinct seeds is one over the partitions of the k details into blocks,

    sum over partitions of prod over blocks b of (-1)^(|b| - 1) (|b| - 1)! sum_s prod_{i in b} x_i(s)

References:
    Okawa et al. 2023, Compositional Abilities Emerge Multiplicatively (arXiv 2310.09336). The estimator is ours; the
    identity is Moebius inversion on the lattice of partitions, Rota 1964.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from math import factorial
from typing import TYPE_CHECKING

import numpy as np

from promptlab.results.findings.needle import slopes
from promptlab.stats.curves import Finding, curves_of, mean_finding, need
from promptlab.stats.resampling import Floats, bootstrap_counts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compounding", "distinct_product", "slope"]

MOST_PARTS = 7


def slope(scores: pd.DataFrame, control: pd.DataFrame | None = None, *, rng: np.random.Generator) -> Finding:
    """Change of `value` per level, from columns prompt_group, seed, level and value; a mean over complete prompts.

    With a `control` (filler of the same length, at the same levels), each prompt's slope minus that of its control:
    what the details do beyond what length does.
    """
    curves = curves_of(scores).complete()
    if len(curves.levels) < 2:
        raise ValueError(f"{len(curves.levels)} levels: a slope needs at least 2")
    own = slopes(curves)
    if control is None:
        return mean_finding(own, rng=rng, n=curves.n, n_dropped=curves.n_dropped)
    other = curves_of(control).complete()
    if not np.array_equal(other.levels, curves.levels):
        raise ValueError(
            f"control has levels {other.levels.tolist()}: those of the scores are {curves.levels.tolist()}"
        )
    fillers = dict(zip(other.groups, slopes(other), strict=True))
    difference = np.array([mine - fillers.get(group, np.nan) for group, mine in zip(curves.groups, own, strict=True)])
    return mean_finding(difference, rng=rng, n=curves.n + other.n, n_dropped=curves.n_dropped + other.n_dropped)


def compounding(
    scores: pd.DataFrame, *, rng: np.random.Generator, resamples: int = 4000, confidence: float = 0.95
) -> Finding:
    """The ratio ln P - ln Q, from columns prompt_group, seed, part (which detail) and value (1 right, 0 wrong).

    `p` is that of "within a prompt the details are independent", by dealing each detail's seeds anew. A picture counts
    if all k details were measured, a prompt if it has at least k such pictures. `detail` holds P, Q and the product of
    rates over all prompts. None where P or Q is 0, with a reason.
    """
    need(scores, "prompt_group", "seed", "part", "value")
    blank = Finding(None, None, None, None, 0, 0, len(scores), reason="no prompt was measured")
    if scores.empty:
        return blank
    wide = scores.assign(value=scores["value"].astype(float)).pivot(
        index=["prompt_group", "seed"], columns="part", values="value"
    )
    k = wide.shape[1]
    if not 2 <= k <= MOST_PARTS:
        raise ValueError(f"{k} details: 2 to {MOST_PARTS} are allowed")
    whole = wide.dropna()
    if not whole.isin([0, 1]).all(axis=None):
        raise ValueError("value holds other than 1, 0 and None: a detail is right, wrong or not measured")
    prompts = [part.to_numpy(dtype=np.float64) for _, part in whole.groupby(level="prompt_group", sort=False)]
    prompts = [x for x in prompts if len(x) >= k]
    n, pictures = len(prompts), sum(map(len, prompts))
    blank = Finding(None, None, None, None, n, pictures, len(wide) - pictures, confidence=confidence)
    if not n:
        return replace(blank, reason=f"no prompt has {k} pictures with all {k} details measured")
    together = np.array([x.prod(axis=1).mean() for x in prompts])
    apart = np.array([distinct_product(x) for x in prompts])
    pooled = float(np.prod(np.mean([x.mean(axis=0) for x in prompts], axis=0)))
    detail = {"all_right": float(together.mean()), "if_independent": float(apart.mean()), "product_of_rates": pooled}
    estimate = _ratio(together.mean(keepdims=True), apart.mean(keepdims=True))[0]
    p = _dealt_anew(prompts, float(together.mean()), rng)
    if not np.isfinite(estimate):
        which = "all details together are" if together.mean() <= 0 else "independent details would be"
        return replace(blank, p=p, reason=f"{which} never right: no ratio", detail=detail)
    if n == 1:
        reason = "one prompt: an interval over prompts needs at least 2"
        return replace(blank, estimate=float(estimate), p=p, reason=reason, detail=detail)
    drawn = [_ratio(c @ together / n, c @ apart / n) for c in bootstrap_counts(n, resamples, rng)]
    samples, tail = np.sort(np.concatenate(drawn)), (1 - confidence) / 2
    last = len(samples) - 1
    bounds = [samples[int(tail * last)], samples[int(np.ceil((1 - tail) * last))]]
    low, high = (float(bound) if np.isfinite(bound) else None for bound in bounds)
    open_end = "a resampled rate is 0: a bound has no value" if low is None or high is None else None
    method = "percentile over prompts; seeds dealt anew"
    found = replace(blank, estimate=float(estimate), low=low, high=high, p=p, method=method)
    return replace(found, reason=open_end, detail=detail)


def _ratio(together: Floats, apart: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.log(np.maximum(together, 0)) - np.log(np.maximum(apart, 0))
    return np.where(np.isnan(ratio), np.inf, ratio)


def _dealt_anew(prompts: list[Floats], observed: float, rng: np.random.Generator, resamples: int = 999) -> float:
    """Two-sided permutation p of the mean share of pictures with every detail right."""
    drawn = np.zeros(resamples)
    for x in prompts:
        many = np.broadcast_to(x.T, (resamples, x.shape[1], len(x)))
        drawn += rng.permuted(many, axis=2).prod(axis=1).mean(axis=1) / len(prompts)
    above = int((drawn >= observed - 1e-12).sum())
    below = int((drawn <= observed + 1e-12).sum())
    return min(1.0, 2 * (min(above, below) + 1) / (resamples + 1))


def distinct_product(x: Floats) -> float:
    """Mean of x_1(s_1) .. x_k(s_k) over all choices of distinct seeds; `x` is (m, k), m >= k."""
    m, k = x.shape
    if m < k:
        raise ValueError(f"{m} seeds and {k} details: as many distinct seeds as details are needed")
    total = 0.0
    for partition in _partitions(k):
        signs = [(-1) ** (len(block) - 1) * factorial(len(block) - 1) for block in partition]
        sums = [x[:, list(block)].prod(axis=1).sum() for block in partition]
        total += float(np.prod(signs) * np.prod(sums))
    return total * factorial(m - k) / factorial(m)


@cache
def _partitions(k: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """All partitions of 0..k-1 into blocks."""

    def grow(i: int) -> Iterator[tuple[tuple[int, ...], ...]]:
        if i == 0:
            yield ()
            return
        for partition in grow(i - 1):
            yield (*partition, (i - 1,))
            for b, block in enumerate(partition):
                yield (*partition[:b], (*block, i - 1), *partition[b + 1 :])

    return tuple(grow(k))
