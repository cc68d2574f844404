"""Needle: is a detail still seen when it stands at token k of a long prompt?

    k        place of the needle among the tokens, the `level` of the tables here
    R(k)     recall: share of images in which the needle's detail is there, a mean over prompts
    limit    tokens that the encoder reads; a needle at k >= limit was cut off
    step     R at the last place before the limit minus R at the first place beyond, per prompt
    slope    of R per 10 tokens, by least squares over the places before the limit, per prompt
    area     mean height of R over the places before the limit (trapezia), per prompt, [0, 1]

What was cut off cannot be recalled: images of prompts that agree up to the limit are equal, byte for byte, and so the
recall beyond it is exactly that of prompts without needle. That is an equality to be checked, not a test to be run.

References:
    Kamradt 2023, Needle In A Haystack. Zhang et al. 2024, Long-CLIP (arXiv 2403.15378): what 77 tokens keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow, Result
from promptlab.results.queries import StudyScores, kept_prompts, number_of
from promptlab.stats.paired import Curves, Finding, Interval, curves_of, mean_finding, mean_interval, need
from promptlab.stats.resampling import Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LIMIT", "Equality", "Recall", "applies", "find", "recall", "slopes", "truncation_equality"]


LIMIT = 76
"""The first token that CLIP's 77 cut off: the last of them is the end mark."""


def applies(axes: Sequence[AxisColumn]) -> bool:
    """Whether an axis moves a needle along the tokens."""
    return any(column.part == "at" for column in axes)


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    """Recall at the longest prompts, and whether prompts that agree up to the limit give equal images."""
    measure = "binding.noun"
    for axis, length in data.parts("at"):
        longest = max((n for level in data.axes[length] if (n := number_of(level)) is not None), default=None)
        part = replace(data, rows=data.rows[data.level(length).map(number_of) == longest])
        scores = part.scores(measure, axis)
        if scores.empty:
            continue

        def recalled(scores: pd.DataFrame = scores, axis: str = axis) -> Result:
            found = recall(scores, LIMIT, rng=rng)
            return [
                FindingRow("recall: step at the limit", axis, measure, found.step),
                FindingRow("recall: slope per 10 tokens, inside", axis, measure, found.slope),
                FindingRow("recall: mean recall, inside", axis, measure, found.area),
            ]

        yield FindingRow("recall", axis, measure, recalled)
        same = truncation_equality(kept_prompts(data))
        share = None if same.equal is None else same.n_equal / same.n_pairs
        result = {"n": same.n_pairs, "estimate": share, "method": "exact", "reason": same.reason}
        yield FindingRow("pictures alike up to the limit are equal", axis, "image.pixels", result)


@dataclass(frozen=True)
class Recall:
    """R(k) with intervals, and its summaries: each None with a reason where too few places lie on a side."""

    levels: tuple[float, ...]
    recall: tuple[Interval, ...]
    step: Finding
    slope: Finding
    area: Finding


@dataclass(frozen=True)
class Equality:
    """Pairs of images that must be equal: `equal` None where there is no pair; `differing` names the first ones."""

    equal: bool | None
    n_pairs: int
    n_equal: int
    differing: tuple[str, ...] = ()
    reason: str | None = None


def recall(scores: pd.DataFrame, limit: float, *, rng: np.random.Generator) -> Recall:
    """Needle recall from the columns prompt_group, seed, level (token index of the needle) and value (1 or 0).

    `limit` is the first place that is cut off (76 for CLIP's 77 tokens, the last of which is the end).
    """
    curves = curves_of(scores)
    number = scores["level"].astype(float)
    intervals = tuple(
        mean_interval(part["value"].tolist(), part["prompt_group"].tolist(), rng=rng, resamples=2000)
        for part in (scores[np.isclose(number, level)] for level in curves.levels)
    )
    inside, outside = curves.levels < limit, curves.levels >= limit
    blank: Floats = np.full(len(curves.groups), np.nan)
    step, slope, area = blank, blank, blank
    if inside.any() and outside.any():
        step = curves.means[:, np.flatnonzero(inside)[-1]] - curves.means[:, np.flatnonzero(outside)[0]]
    window = Curves(curves.groups, curves.levels[inside], curves.means[:, inside], curves.n, curves.n_dropped)
    if inside.sum() > 1:
        slope = 10 * slopes(window)
        area = np.asarray(np.trapezoid(window.means, window.levels, axis=1)) / np.ptp(window.levels)
    counted = {"n": curves.n, "n_dropped": curves.n_dropped}
    return Recall(
        tuple(map(float, curves.levels)),
        intervals,
        *(mean_finding(values, rng=rng, limit=limit, **counted) for values in (step, slope, area)),
    )


def slopes(curves: Curves) -> Floats:
    """Least-squares slope of each prompt's curve, (n_groups,), per unit of level; NaN where a level is missing."""
    away = curves.levels - curves.levels.mean()
    if len(curves.levels) < 2:
        raise ValueError("a slope needs at least 2 levels")
    slope: Floats = curves.means @ away / (away @ away)
    return slope


def truncation_equality(images: pd.DataFrame) -> Equality:
    """Are images equal whose prompts agree up to the limit?

    `images` has the columns kept (what of the prompt the encoder reads, any key), seed and pixels (SHA-256 of the
    raw pixels, None if there is no image). Every image is compared with the first of the same `kept` and seed.
    """
    need(images, "kept", "seed", "pixels")
    n = same = 0
    differing: list[str] = []
    made = images[images["pixels"].notna()]
    for (kept, seed), part in made.groupby(["kept", "seed"], sort=False):
        first, *others = part["pixels"].tolist()
        n += len(others)
        same += sum(other == first for other in others)
        if any(other != first for other in others):
            differing.append(f"{kept!r} at seed {seed}")
    if not n:
        return Equality(None, 0, 0, (), "no two pictures share what is kept and a seed")
    return Equality(same == n, n, same, tuple(differing[:5]))
