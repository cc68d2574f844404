"""Compounding: whether the details of a prompt hinder one another.

    x_i(s)   1 if detail i is right in the image at seed s, else 0; k details
    P        mean over prompts of the share of images in which all k are right
    Q        mean over prompts of what independent details would give: the product of x_1(s_1) .. x_k(s_k), averaged
             over distinct seeds s_1 .. s_k, which no two details of one image share
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

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from math import factorial
from typing import TYPE_CHECKING

import numpy as np

from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow, Result
from promptlab.results.queries import StudyScores, right_objects
from promptlab.stats.paired import Finding, need
from promptlab.stats.resampling import Floats, bootstrap_counts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["applies", "compounding", "distinct_product", "find"]

MOST_PARTS = 7


def applies(axes: Sequence[AxisColumn]) -> bool:
    """Always: prompts decide, not axes. `find` gives nothing where no prompt has two objects."""
    return True


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    """The ratio for the two objects of a prompt."""
    scores = right_objects(data, 2)
    if scores.empty:
        return
    axis: str | None = ""
    result: Result | partial[Finding] = partial(compounding, scores, rng=rng)
    if scores.duplicated(["prompt_group", "seed", "part"]).any():
        axis, result = (
            None,
            {"reason": "a prompt has several cells: hold the other axes at a level, where={axis: level}"},
        )
    yield FindingRow("compounding", axis, "binding.colour", result, module="specificity")


def compounding(
    scores: pd.DataFrame, *, rng: np.random.Generator, resamples: int = 4000, confidence: float = 0.95
) -> Finding:
    """The ratio ln P - ln Q, from columns prompt_group, seed, part (which detail) and value (1 right, 0 wrong).

    `p` is that of "within a prompt the details are independent", by dealing each detail's seeds anew. An image counts
    if all k details were measured, a prompt if it has at least k such images. `detail` holds P, Q and the product of
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
    n, images = len(prompts), sum(map(len, prompts))
    blank = Finding(None, None, None, None, n, images, len(wide) - images, confidence=confidence)
    if not n:
        return replace(blank, reason=f"no prompt has {k} images with all {k} details measured")
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
    """Two-sided permutation p of the mean share of images with every detail right."""
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
