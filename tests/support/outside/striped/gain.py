"""The finding: what one step of guidance adds to sharpness. Its interface is that of `promptlab/results/findings`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow
from promptlab.results.queries import StudyScores
from promptlab.stats.paired import Finding, curves_of, mean_finding

kind = "finding"
AXIS, MEASURE = "guidance_scale", "sharp.sharpness"


def applies(axes: Sequence[AxisColumn]) -> bool:
    return any(column.name == AXIS for column in axes)


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    scores = data.scores(MEASURE, AXIS)
    if len(scores):
        yield FindingRow("sharpness per step of guidance", AXIS, MEASURE, partial(gain, scores, rng))


def gain(scores: pd.DataFrame, rng: np.random.Generator) -> Finding:
    curves = curves_of(scores).complete()
    if len(curves.levels) < 2:
        raise ValueError("one level of guidance: a gain needs at least 2")
    gains = (curves.means[:, -1] - curves.means[:, 0]) / (curves.levels[-1] - curves.levels[0])
    return mean_finding(gains, rng=rng, n=curves.n, n_dropped=curves.n_dropped)
