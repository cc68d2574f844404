"""Burn: what too much guidance does to colour, and the guidance from which on it does.

    w        guidance_scale, the `level` of the tables here
    vector   for each measure of exposure, its paired difference between w and a reference guidance
    w*       burn point: the smallest w at which the mean curve exceeds a threshold, straight lines between levels
    bend     the w at which two straight lines that meet fit the mean curve best

The threshold is a fact about images that are not burnt, say the 99th percentile of p95 chroma over the training set
or over drawn truth: `threshold_of`. w* is a property of a model, and estimated, never assumed to be 15.

References:
    Lin et al. 2024, Common Diffusion Noise Schedules and Sample Steps Are Flawed (arXiv 2305.08891): overexposure.
    Sadat et al. 2024, Eliminating Oversaturation and Artifacts of High Guidance Scales (arXiv 2410.02416).
    Hudson 1966, Fitting Segmented Curves Whose Join Points Have to Be Estimated. The burn point is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow, Result
from promptlab.results.queries import StudyScores, number_of
from promptlab.stats.paired import Curves, Effect, Finding, curve_finding, curves_of, need, paired_effect
from promptlab.stats.resampling import Floats, Values, numbers_of, sign_flip

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["applies", "bend", "burn_point", "burn_vector", "find", "threshold_of"]


AXIS = "guidance_scale"
MEASURES = ("colourfulness", "mean_chroma", "p95_chroma", "clipped_share", "rms_contrast", "mean_luma")
"""The measures of exposure that make up the burn vector."""


def applies(axes: Sequence[AxisColumn]) -> bool:
    """Whether the study varies guidance."""
    return any(column.name == AXIS for column in axes)


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    """The burn vector, the burn point and the bend.

    The baseline is the lowest guidance of 1 or more. The threshold is what 99 of 100 images there stay below.
    """
    import pandas as pd

    chroma = "exposure.p95_chroma"
    levels = sorted(n for level in data.axes.get(AXIS, ()) if (n := number_of(level)) is not None)
    curve = data.scores(chroma, AXIS)
    if len(levels) < 2 or curve.empty:
        return
    baseline = next((w for w in levels if w >= 1), levels[0])
    several = [data.scores(f"exposure.{name}", AXIS).assign(measure=name) for name in MEASURES]
    keys = ["prompt_group", "seed", "level", "measure"]
    scores = pd.concat(several).groupby(keys, sort=False)["value"].mean().reset_index()
    if levels[-1] > baseline:
        label = f"change from w = {baseline:g} to {levels[-1]:g}"

        def vector() -> Result:
            effects = burn_vector(scores, levels[-1], baseline, rng=rng)
            return [FindingRow(label, AXIS, f"exposure.{name}", effect) for name, effect in effects.items()]

        yield FindingRow(label, AXIS, "exposure", vector)
    unburnt = curve.loc[np.isclose(curve["level"], baseline), "value"]
    threshold = threshold_of(unburnt.to_numpy())
    above = curve[curve["level"] >= baseline]
    point = partial(burn_point, above, threshold, rng=rng)
    yield FindingRow(f"w* at which it exceeds {threshold:.3g}", AXIS, chroma, point)
    yield FindingRow("w at which its curve bends", AXIS, chroma, partial(bend, curve, rng=rng))


def threshold_of(values: Values, quantile: float = 0.99) -> float:
    """The `quantile` of what images that are not burnt show, values (n,) of one measure."""
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}: a share between 0 and 1, such as 0.99, is allowed")
    known = numbers_of(values, "values")
    known = known[~np.isnan(known)]
    if not len(known):
        raise ValueError("no value was measured: a threshold needs images that are not burnt")
    return float(np.quantile(known, quantile))


def burn_vector(scores: pd.DataFrame, at: float, reference: float, *, rng: np.random.Generator) -> dict[str, Effect]:
    """For each measure the paired difference of guidance `at` minus `reference`, at shared seeds, over prompts.

    `scores` has the columns prompt_group, seed, level (guidance), measure and value.
    """
    need(scores, "prompt_group", "seed", "level", "measure", "value")
    found = {}
    for measure in dict.fromkeys(scores["measure"]):
        part = scores[scores["measure"] == measure]
        arms = [part[np.isclose(part["level"].astype(float), w)] for w in (at, reference)]
        if any(arm.empty for arm in arms):
            levels = ", ".join(f"{w:g}" for w in sorted(set(part["level"].astype(float))))
            raise ValueError(f"{measure} has no pair of levels {at:g} and {reference:g}: it has {levels}")
        both = arms[0].merge(arms[1], on=["prompt_group", "seed"], suffixes=("_at", "_reference"))
        found[str(measure)] = paired_effect(
            both["value_at"].tolist(),
            both["value_reference"].tolist(),
            both["prompt_group"].tolist(),
            both["seed"].tolist(),
            rng=rng,
        )
    return found


def burn_point(scores: pd.DataFrame, threshold: float, *, rng: np.random.Generator) -> Finding:
    """w*, with a bootstrap interval over prompts, from columns prompt_group, seed, level (guidance) and value.

    `p` is that of "at the highest guidance prompts lie about the threshold". None beyond the levels, with a reason; a
    curve that exceeds the threshold from the first level on gives that level, and says so.
    """
    curves = curves_of(scores)
    _need_levels(curves, 2)
    top = curves.levels[-1]
    found = curve_finding(
        curves,
        lambda means: _crossing(means, curves.levels, threshold),
        rng=rng,
        beyond=f"the threshold of {threshold:g} is not exceeded up to {top:g}",
    )
    last = curves.complete().means
    p = sign_flip(last[:, -1] - threshold, rng=rng)[0] if len(last) > 1 else None
    reason = found.reason
    if found.estimate == curves.levels[0]:
        reason = (
            f"the threshold of {threshold:g} is exceeded from the lowest level on: w* is {found.estimate:g} or less"
        )
    return replace(found, p=p, reason=reason, detail={"threshold": threshold})


def _crossing(means: Floats, levels: Floats, threshold: float) -> Floats:
    """Where each row (rows, levels) first exceeds the threshold, on straight lines; infinite where it never does."""
    over = means > threshold
    first = over.argmax(axis=1)
    rows = np.arange(len(means))
    before = np.maximum(first - 1, 0)
    rise = means[rows, first] - means[rows, before]
    share = np.where(first > 0, (threshold - means[rows, before]) / np.where(rise == 0, 1, rise), 0.0)
    place = levels[before] + share * (levels[first] - levels[before])
    found: Floats = np.where(over.any(axis=1), place, np.inf)
    return found


def bend(scores: pd.DataFrame, *, rng: np.random.Generator, resamples: int = 1000) -> Finding:
    """The change point of two straight lines that meet, by least squares over the mean curve; at least 5 levels.

    `detail` holds the slopes before and after. `p` is None: with a bend fitted anywhere, "no bend" has no simple test.
    """
    curves = curves_of(scores)
    _need_levels(curves, 5)
    knots = np.linspace(curves.levels[1], curves.levels[-2], 200)
    # One projection a knot: the residual of every resampled curve at every knot is then a single product.
    bases = [_lines(curves.levels, knot) for knot in knots]
    off = np.stack([np.eye(len(curves.levels)) - basis @ np.linalg.pinv(basis) for basis in bases])

    def best(means: Floats) -> Floats:
        errors = ((off[None] @ means[:, None, :, None])[..., 0] ** 2).sum(axis=2)
        place: Floats = knots[errors.argmin(axis=1)]
        return place

    found = curve_finding(curves, best, rng=rng, resamples=resamples)
    if found.estimate is None:
        return found
    mean = curves.complete().means.mean(axis=0)
    _, before, change = np.linalg.pinv(_lines(curves.levels, found.estimate)) @ mean
    return replace(found, detail={"slope_before": float(before), "slope_after": float(before + change)})


def _lines(levels: Floats, knot: float) -> Floats:
    lines: Floats = np.stack([np.ones_like(levels), levels, np.maximum(levels - knot, 0)], axis=1)
    return lines


def _need_levels(curves: Curves, least: int) -> None:
    if len(curves.levels) < least:
        raise ValueError(f"{len(curves.levels)} levels of guidance: at least {least} are needed")
