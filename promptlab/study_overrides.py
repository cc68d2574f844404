"""A study as its file says, but for what a person asks of this one run: another model, or without an axis.

A model that has no such setting refuses an axis; the rest of the study is as good without it. What goes with an axis is
said, never dropped in silence: the rules that name it, the contrasts along it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from promptlab.errors import StudyError, nearest
from promptlab.mistakes import Mistake
from promptlab.records import Level
from promptlab.study import Study
from promptlab.study_checks import check_study
from promptlab.study_contrasts import check_contrasts

__all__ = ["with_budget", "with_model", "without_axis"]


def with_model(study: Study, model: str) -> Study:
    """The same study on another model. Raises StudyError where the study varies the model itself."""
    for name, axis in study.axes.items():
        if "model" in axis.columns(name):
            message = "this study varies the model itself; run it without --model, or remove the axis"
            raise study.error(("axes", name), message, key=True)
    return study.model_copy(update={"model": model})


def with_budget(study: Study, usd: float) -> Study:
    """The same study with US dollars that one run may spend. Raises StudyError where pictures cost nothing."""
    if not isfinite(usd) or usd <= 0:
        raise StudyError(f"--budget: given {usd:g}; allowed: US dollars above 0")
    if study.backend != "hosted":
        raise StudyError(f"--budget: pictures of the backend {study.backend} cost nothing; leave it out")
    return study.model_copy(update={"budget_usd": usd})


def without_axis(study: Study, name: str) -> tuple[Study, tuple[str, ...]]:
    """The study without the axis `name`, and the names of the contrasts that go with it.

    Its setting is then the study's own or the model's default. Excluding rules that name the axis go; contrasts and
    published results elsewhere no longer ask for a level of it. Raises StudyError for an axis that is not there, or
    without which the study does not hold together, such as one that fills the prompt.
    """
    if name not in study.axes:
        names = ", ".join(study.axes) or "none"
        raise study.error(("axes",), f"no axis {name!r} to leave out; there are: {names}{nearest(name, study.axes)}")
    gone = set(study.axes[name].columns(name))
    left = [c for c in study.contrasts if c.axis not in gone]
    left_out = tuple(c.name for c in study.contrasts if c.axis in gone)
    changed = study.model_copy(
        update={
            "axes": {key: axis for key, axis in study.axes.items() if key != name},
            "exclude": tuple(rule for rule in study.exclude if not gone & rule.keys()),
            "units": study.units and tuple(unit for unit in study.units if unit != name),
            "contrasts": tuple(c.model_copy(update={"where": _kept(c.where, gone)}) for c in left),
            "published": tuple(p.model_copy(update={"where": _kept(p.where, gone)}) for p in study.published),
        }
    )
    try:
        check_study(changed)
        check_contrasts(changed)
    except Mistake as mistake:
        raise study.error(("axes", name), f"cannot be left out: {mistake.message}", key=True) from None
    return changed, left_out


def _kept(where: Mapping[str, Level], gone: set[str]) -> dict[str, Level]:
    return {column: level for column, level in where.items() if column not in gone}
