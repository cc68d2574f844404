"""Specificity: what each further detail of a prompt changes.

    d        details that the prompt states, the `level` of the tables here
    slope    change of a value (entropy, distance between seeds, success) per detail, per prompt, by least squares

A longer prompt changes images by its length alone. Filler of the same length is the control: its slope is taken off.
The slope is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow
from promptlab.results.findings.needle import slopes
from promptlab.results.queries import StudyScores
from promptlab.stats.paired import Finding, curves_of, mean_finding

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["applies", "find", "slope"]

MEASURES = ("diversity.seed_distance", "diversity.scene_entropy", "exposure.colourfulness")


def applies(axes: Sequence[AxisColumn]) -> bool:
    """Whether an axis is a ladder of details."""
    return any(column.part == "arm" for column in axes)


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    """The slope per detail of each measure, along each ladder."""
    for arm, axis in data.parts("arm"):
        for measure in MEASURES:
            scores = data.scores(measure, axis)
            if scores.empty:
                continue
            arms = scores["cell_id"].map(dict(zip(data.rows["cell_id"], data.level(arm), strict=True)))
            details, filler = scores[arms != "filler"], scores[arms == "filler"]
            result = partial(slope, details, filler if len(filler) else None, rng=rng)
            yield FindingRow("slope per detail, less filler's", axis, measure, result)


def slope(scores: pd.DataFrame, control: pd.DataFrame | None = None, *, rng: np.random.Generator) -> Finding:
    """Change of `value` per level, from columns prompt_group, seed, level and value; a mean over complete prompts.

    With a `control` (filler of the same length, at the same levels), each prompt's slope minus that of its control:
    what the details do beyond what length does.
    """
    curves = curves_of(scores).complete()
    if len(curves.levels) < 2:
        raise ValueError(f"{len(curves.levels)} levels: a slope needs at least 2")
    details = slopes(curves)
    if control is None:
        return mean_finding(details, rng=rng, n=curves.n, n_dropped=curves.n_dropped)
    other = curves_of(control).complete()
    if not np.array_equal(other.levels, curves.levels):
        raise ValueError(
            f"control has levels {other.levels.tolist()}: those of the scores are {curves.levels.tolist()}"
        )
    fillers = dict(zip(other.groups, slopes(other), strict=True))
    difference = np.array(
        [value - fillers.get(group, np.nan) for group, value in zip(curves.groups, details, strict=True)]
    )
    return mean_finding(difference, rng=rng, n=curves.n + other.n, n_dropped=curves.n_dropped + other.n_dropped)
