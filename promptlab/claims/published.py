"""Published results run again: is what we measure inside the tolerance of what was printed?

    value, tolerance     as printed, and how far a rerun may lie off; both stand in the study, with their source
    estimate             mean of the measure over all pictures (each weighs the same, as in the papers), with a
                         bootstrap interval over prompts
    inside               |estimate - value| <= tolerance

A published cell has no interval of its own, and reruns of one cell have differed by 0.02 to 0.10; hence a tolerance and
not a test. A stand-in (another model than the study's, or one that is drawn) is compared all the same and said to be
one: its figure speaks of the machinery alone. What was not measured is no result, with the reasons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from promptlab.errors import StudyError
from promptlab.stats.paired import Interval, mean_interval
from promptlab.store.database import level_text
from promptlab.study.study import ProbeUse, Published, Study

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["Comparison", "as_measured", "compare", "sentences"]


@dataclass(frozen=True)
class Comparison:
    """A published result and ours. `verdict` None: nothing was measured, and `reasons` say why, most frequent first."""

    published: Published
    measure: str
    interval: Interval
    verdict: Literal["inside", "outside"] | None
    model: str
    tier: str | None
    reasons: tuple[tuple[str, int], ...] = ()


def as_measured(study: Study, measure: str | None = None, model: str | None = None) -> Study:
    """The study with every published result compared by `measure` (probe.measure) and made by `model`, where given.

    Raises StudyError: nothing published, or no measure to compare it with.
    """
    if not study.published:
        raise StudyError(
            f"study {study.name} has no published results: write value, tolerance and source, `published:`"
        )
    if measure is not None:
        results = [{**result.model_dump(exclude_unset=True), "measure": measure} for result in study.published]
        published = tuple(Published.model_validate(result) for result in results)
        probe = measure.split(".", 1)[0]
        probes = study.probes
        if probe not in [use.name for use in probes]:
            probes = (*probes, ProbeUse(name=probe))
        study = _copy(study, {"published": published, "probes": probes})
    for result in study.published:
        if result.measure is None:
            judge = f" ({result.judge})" if result.judge else ""
            raise StudyError(
                f"{result.name}: nothing here measures what was published{judge}; "
                "name a stand-in with --measure PROBE.MEASURE, or `promptlab run` the study without comparing"
            )
    return study if model is None else _copy(study, {"model": model})


def _copy(study: Study, changes: dict[str, object]) -> Study:
    return study.model_copy(update=changes)


_SCORES = """
SELECT image, prompt_group, levels, model, tier, avg(value) AS value, min(reason) AS reason
FROM scored
WHERE study = ? AND status = 'ok' AND measure = ? AND probe = ?
GROUP BY ALL ORDER BY image
"""


def compare(study: Study, store: Store, seed: int = 0) -> tuple[Comparison, ...]:
    """Every published result of `study` against the published database; see `as_measured`."""
    return tuple(_compared(study, store, result, seed) for result in study.published)


def _compared(study: Study, store: Store, result: Published, seed: int) -> Comparison:
    probe, measure = (result.measure or ".").split(".", 1)
    rows = store.query(_SCORES, [study.name, measure, probe])
    where = {axis: level_text(level) for axis, level in result.where.items()}
    kept = [all(dict(levels or {}).get(axis) == level for axis, level in where.items()) for levels in rows["levels"]]
    rows = rows[np.array(kept, dtype=bool)]
    values = [None if value is None or value != value else float(value) for value in rows["value"]]
    interval = mean_interval(values, rows["prompt_group"].tolist(), rng=np.random.default_rng(seed), weigh="images")
    verdict: Literal["inside", "outside"] | None = None
    if interval.estimate is not None:
        verdict = "inside" if abs(interval.estimate - result.value) <= result.tolerance else "outside"
    missing = rows["reason"][[value is None for value in values]]
    reasons = tuple((str(why), int(n)) for why, n in missing.value_counts().items())
    tiers = rows["tier"].dropna().unique().tolist()
    tier = tiers[0] if len(tiers) == 1 else None
    return Comparison(result, result.measure or "", interval, verdict, study.model, tier, reasons)


def sentences(comparison: Comparison, written: Study) -> Iterator[str]:
    """What to tell a person; `written` is the study as its file has it, so that a stand-in is called one."""
    result, interval = comparison.published, comparison.interval
    yield f"\n{written.name}, {result.name}: published {result.value:g} +- {result.tolerance:g} ({result.source})"
    if result.judge:
        yield f"  judged there by {result.judge}; here by {comparison.measure}"
    if interval.estimate is None:
        yield "  here: not measured, so neither inside nor outside"
    else:
        ends = "" if interval.low is None or interval.high is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
        over = f"{interval.n} pictures of {interval.n_groups} prompts"
        yield f"  here: {interval.estimate:.3f}{ends} over {over}: {comparison.verdict}"
    for why, n in comparison.reasons[:3]:
        yield f"  not measured in {n} pictures: {why}"
    if comparison.tier in ("T0", "T1") or comparison.model != written.model:
        yield (
            f"  {comparison.model} (tier {comparison.tier}) stands in for {written.model}: this shows that the study "
            "runs, and nothing about the published figure"
        )
