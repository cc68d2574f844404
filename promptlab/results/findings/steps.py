"""Steps: how many of them suffice, judged against many at the same seed.

    N          num_inference_steps, the `level` of the tables here
    reference  the largest N, say 200, which stands for "as many as you like"
    loss(N)    value at the reference minus value at N, at the same seed, a mean over prompts; for a distance to the
               reference's picture, the distance itself
    N*         the smallest N from which on loss stays below a margin that is fixed beforehand

N steps are non-inferior if the whole 90 % interval of the loss lies below the margin (a one-sided test at 5 %). N* is
read off the mean curve and has a bootstrap interval over prompts; `enough` is the smallest N from which on every
tested N is non-inferior, which asks for more: evidence.

References:
    Schuirmann 1987, as in `promptlab.stats.hypotheses`. Lu et al. 2022, DPM-Solver++ (arXiv 2211.01095): 15 to 20
    steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats as scipy_stats

from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow, Result
from promptlab.results.queries import StudyScores
from promptlab.stats.paired import Curves, Finding, curve_finding, curves_of
from promptlab.stats.resampling import Floats, bca

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MARGIN", "Convergence", "Loss", "applies", "convergence", "find"]


AXIS = "num_inference_steps"
MARGIN = 0.03
"""The loss of `binding.correct` that does not matter."""


def applies(axes: Sequence[AxisColumn]) -> bool:
    """Whether the study varies the number of steps."""
    return any(column.name == AXIS for column in axes)


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    """The steps from which on the loss stays below the margin, and the steps that are shown to be enough."""
    measure = "binding.correct"
    scores = data.scores(measure, AXIS)
    if scores["level"].nunique() < 2:
        return

    def converged() -> Result:
        found = convergence(scores, MARGIN, rng=rng)
        enough = {
            **{"estimate": found.enough, "n_prompts": found.knee.n_groups, "n": found.knee.n},
            "reason": None
            if found.enough is not None
            else "no number of steps is shown to be enough by so many prompts",
            "method": "90 % interval below the margin",
        }
        name = f"steps from which on the loss to {found.reference:g} is below {MARGIN:g}"
        return [
            FindingRow(name, AXIS, measure, found.knee, module="convergence"),
            FindingRow("steps shown to be enough", AXIS, measure, enough, module="convergence"),
        ]

    yield FindingRow("steps that are enough", AXIS, measure, converged, module="convergence")


@dataclass(frozen=True)
class Loss:
    """What N steps lose: `low`, `high` is the 90 % interval; `p` that of "loses the margin or more", one-sided."""

    steps: float
    estimate: float
    low: float | None
    high: float | None
    p: float | None
    non_inferior: bool | None


@dataclass(frozen=True)
class Convergence:
    """`knee` is N* with a 95 % interval; `enough` the smallest N with evidence, None where none has it."""

    losses: tuple[Loss, ...]
    knee: Finding
    enough: float | None
    reference: float
    margin: float


def convergence(
    scores: pd.DataFrame, margin: float, *, rng: np.random.Generator, distance: bool = False
) -> Convergence:
    """Losses and N*, from columns prompt_group, seed, level (steps) and value; complete prompts only.

    `value` is better when higher (accuracy), or with `distance` a distance to the reference's image at the same seed,
    of which the reference's own rows are 0 or left out. The reference is the largest level.
    """
    if not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"margin is {margin}: a finite loss above 0 is allowed, fixed before the data are seen")
    curves = curves_of(scores).complete()
    if len(curves.levels) < 2:
        raise ValueError(f"{len(curves.levels)} numbers of steps: at least 2 are needed, the largest is the reference")
    lost = curves.means if distance else curves.means[:, -1:] - curves.means
    losses = Curves(curves.groups, curves.levels, lost, curves.n, curves.n_dropped)
    knee = curve_finding(
        losses,
        lambda means: _stays_below(means, curves.levels, margin),
        rng=rng,
        beyond=f"the loss is not below {margin:g} even at {curves.levels[-1]:g} steps",
    )
    tested = curves.levels if distance else curves.levels[:-1]
    rows = tuple(_loss(float(level), lost[:, i], margin, rng) for i, level in enumerate(tested)) if len(lost) else ()
    enough = None
    for row in reversed(rows):
        if not row.non_inferior:
            break
        enough = row.steps
    return Convergence(rows, replace(knee, detail={"margin": margin}), enough, float(curves.levels[-1]), margin)


def _stays_below(means: Floats, levels: Floats, margin: float) -> Floats:
    """The first level from which on a row (rows, levels) stays below the margin; infinite where the last is not."""
    above = means >= margin
    last_above = len(levels) - 1 - above[:, ::-1].argmax(axis=1)
    first = np.where(above.any(axis=1), last_above + 1, 0)
    found: Floats = np.append(levels, np.inf)[first]
    return found


def _loss(steps: float, lost: Floats, margin: float, rng: np.random.Generator) -> Loss:
    n, mean = len(lost), float(lost.mean())
    if n < 2:
        return Loss(steps, mean, None, None, None, None)
    error = float(lost.std(ddof=1) / np.sqrt(n))
    if error <= 1e-12 * max(1.0, abs(mean)):
        p = float(mean >= margin)
        return Loss(steps, mean, mean, mean, p, mean < margin)
    low, high, _ = bca(lost, rng=rng, resamples=2000, confidence=0.9)
    p = float(scipy_stats.t.cdf((mean - margin) / error, n - 1))
    return Loss(steps, mean, low, high, p, high < margin and p < 0.05)
