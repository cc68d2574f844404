"""What excludes, units, contrasts and published results say about the axes: which columns there are, and which levels.

A contrast pairs cells of one prompt family, so it cannot run along an axis that makes up the family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from promptlab.axes import SETTINGS, Axis, settle
from promptlab.lengths import Ladder
from promptlab.levels import Range, Values, Zip
from promptlab.listed import Prompts
from promptlab.manipulations import Paraphrase
from promptlab.mistakes import Mistake, allowed, shown
from promptlab.records import Level, Part
from promptlab.study_probes import check_probes
from promptlab.yaml_strict import Route

if TYPE_CHECKING:
    from promptlab.study import Contrast, Study

__all__ = ["MOST_LEVELS", "check_contrasts", "fillings", "levels_of", "unit_axes"]

PARTS: dict[str, tuple[str, ...]] = {"ablation": ("elsewhere",), "padding": get_args(Part)}
"""Probes whose targets read "what is taken out > where", and what can stand there beside names of the prompt."""
MOST_LEVELS = 20_000
"""Axes with more levels are not listed to check names against; the grid's own limit refuses them."""


def fillings(name: str, axis: Axis) -> tuple[str, ...]:
    """The columns of an axis that fill slots of the prompt."""
    if isinstance(axis, Zip):
        return tuple(column for column in axis.names() if column not in (*SETTINGS, "model"))
    plain = isinstance(axis, Values | Range) and name not in (*SETTINGS, "model")
    return (name,) if plain or isinstance(axis, Ladder | Prompts | Paraphrase) else ()


def unit_axes(study: Study) -> tuple[str, ...]:
    """The axes that make up the prompt family: `units`, or those that fill slots and do not manipulate."""
    if study.units is not None:
        return study.units
    return tuple(name for name, axis in study.axes.items() if not axis.manipulates and fillings(name, axis))


def check_contrasts(study: Study) -> None:
    """Raise Mistake, with a route from the top of the study, for the first rule or contrast that cannot be."""
    _rules(study)
    check_probes(study)
    _contrasts(study)
    _published(study)


def levels_of(study: Study, column: str) -> tuple[Level, ...] | None:
    """The levels of a column, or None where they are too many to list."""
    for name, axis in study.axes.items():
        if column in axis.columns(name):
            if axis.count() > MOST_LEVELS:
                return None
            at = axis.columns(name).index(column)
            return tuple(dict.fromkeys(point[at][1] for point in axis.points(name)))
    return ()


def _column_level(study: Study, route: Route, column: str, level: Level, *, key: bool) -> None:
    columns = [c for name, axis in study.axes.items() for c in axis.columns(name)]
    if column not in columns:
        raise Mistake(route, f"{shown(column)} is not an axis{allowed(column, columns)}", key=key)
    levels = levels_of(study, column)
    if levels is not None and not any(_same(settle(column, level), other) for other in levels):
        names = allowed(str(level), [str(other) for other in levels])
        raise Mistake(route, f"{shown(level)} is no level of {column!r}{names}")


def _same(a: Level, b: Level) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _rules(study: Study) -> None:
    for i, rule in enumerate(study.exclude):
        for column, levels in rule.items():
            for level in levels:
                _column_level(study, ("exclude", i, column), column, level, key=True)


def _contrasts(study: Study) -> None:
    names: list[str] = []
    for i, contrast in enumerate(study.contrasts):
        route: Route = ("contrasts", i)
        if contrast.name in names:
            raise Mistake((*route, "name"), f"contrast {contrast.name!r} stands twice")
        names.append(contrast.name)
        _contrast(study, contrast, route)


def _published(study: Study) -> None:
    names: list[str] = []
    for i, result in enumerate(study.published):
        if result.name in names:
            raise Mistake(("published", i, "name"), f"published result {result.name!r} stands twice")
        names.append(result.name)
        columns = {column for name, axis in study.axes.items() for column in axis.columns(name)}
        for column, level in result.where.items():
            _column_level(study, ("published", i, "where", column), column, level, key=column not in columns)


def _contrast(study: Study, contrast: Contrast, route: Route) -> None:
    columns = {column: name for name, axis in study.axes.items() for column in axis.columns(name)}
    if contrast.axis not in columns:
        message = f"{shown(contrast.axis)} is not an axis{allowed(contrast.axis, columns)}"
        raise Mistake((*route, "axis"), message)
    if columns[contrast.axis] in unit_axes(study):
        others = [name for name in unit_axes(study) if name != columns[contrast.axis]]
        message = f"{contrast.axis!r} makes up the prompt family, so nothing pairs across it; write units: {others}"
        raise Mistake((*route, "axis"), message.replace("'", ""))
    for k, level in enumerate(contrast.levels):
        _column_level(study, (*route, "levels", k), contrast.axis, level, key=False)
    if _same(*(settle(contrast.axis, level) for level in contrast.levels)):
        raise Mistake((*route, "levels"), "both levels are the same")
    for column, level in contrast.where.items():
        _column_level(study, (*route, "where", column), column, level, key=column not in columns)
    if contrast.target is not None:
        names = _targets(study)
        parts = PARTS.get(contrast.probe, ())
        for piece in contrast.target.split(" > ") if parts else [contrast.target]:
            if piece not in names and piece not in parts:
                message = f"{shown(contrast.target)} is no object or phrase of the prompt{allowed(piece, names)}"
                raise Mistake((*route, "target"), message)


def _targets(study: Study) -> tuple[str, ...]:
    """Names that scores can be about: objects first, then phrases and slots, those of prompt lists among them."""
    axes = study.axes.items()
    listed = [item.prompt for _, axis in axes if isinstance(axis, Prompts) for item in axis.listed]
    objects = [*study.prompt.objects, *(one.object for prompt in listed for one in prompt.bindings)]
    phrases = [*study.prompt.phrases, *(slot for name, axis in axes for slot in fillings(name, axis))]
    return tuple(dict.fromkeys([*objects, *phrases, *(one.name for prompt in listed for one in prompt.phrases)]))
