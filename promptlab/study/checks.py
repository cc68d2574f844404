"""What a study must agree on with itself: every name that is used is declared, and every one declared is used.

Columns are the names that cells carry: one for each axis, and those inside zips. A column is a generation setting,
`model`, or the filling of a slot; nothing else, so a misspelt setting cannot pass as an unused word.

What excludes, units, contrasts and published results say about the axes: which columns there are, and which levels.

A contrast pairs cells of one prompt family, so it cannot run along an axis that makes up the family.

What a study says of its probes: that there are such, that they take the options given, and measure what is asked.

Probes are asked themselves, which opens no model. A study names plugins that ship, are installed, or were named on the
command line (`promptlab.plugins`); it cannot name a module to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from promptlab import plugins
from promptlab.errors import PromptlabError, nearest
from promptlab.records import Level, Part
from promptlab.study.axes.axis import SETTINGS, Axis, Range, Values, Zip, settle
from promptlab.study.axes.lengths import Ladder
from promptlab.study.axes.manipulations import Order, Paraphrase, Position
from promptlab.study.axes.prompts import Prompts
from promptlab.study.prompts import slots
from promptlab.study.strict_yaml import Mistake, Route, allowed, sentence, shown

if TYPE_CHECKING:
    from promptlab.study.model import Contrast, ProbeUse, Study

__all__ = [
    "MOST_LEVELS",
    "RESERVED",
    "check_contrasts",
    "check_probes",
    "check_study",
    "fillings",
    "levels_of",
    "unit_axes",
]

FOREIGN = {
    "steps": "num_inference_steps",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "true_cfg_scale": "guidance_scale",
    "distilled_guidance": "distilled_guidance_scale",
    "sampler": "scheduler",
    "negative": "negative_prompt",
}
"""What other tools call our settings."""

RESERVED = frozenset(
    {"backend", "cell", "detail", "group", "id", "image", "label", "measure", "n", "name", "object", "probe", "prompt"}
    | {"reason", "run", "score", "seed", "seeds", "status", "study", "target", "tier", "value"}
)
"""Names that the result tables use themselves."""


def check_study(study: Study) -> None:
    """Raise Mistake, with a route from the top of the study, for the first disagreement."""
    _names(study)
    _elsewhere(study)
    _paid(study)
    _levels(study)
    _templates(study)
    _mentions(study)
    for i, name in enumerate(study.units or ()):
        if name not in study.axes:
            raise Mistake(("units", i), f"{shown(name)} is not an axis{allowed(name, study.axes)}")


def _names(study: Study) -> None:
    owners: dict[str, str] = {}
    claims: list[tuple[Route, str, str]] = []
    parts: tuple[tuple[str, Iterable[str]], ...]
    parts = (("objects", study.prompt.objects), ("phrases", study.prompt.phrases))
    for part, names in parts:
        claims += [(("prompt", part, name), name, part[:-1]) for name in names]
        for name in names:
            if name == "object":
                raise Mistake(("prompt", part, name), "'object' is the slot of `alone`: take another", key=True)
    for name, thing in study.prompt.objects.items():
        for family in thing.attributes:
            if not re.fullmatch("[a-z][a-z0-9_]{0,63}", family):
                message = f"{shown(family)} is no name; allowed: small letters, digits and _"
                raise Mistake(("prompt", "objects", name, family), message, key=True)
    for name, axis in study.axes.items():
        for column in axis.columns(name):
            claims.append((("axes", name), column, "axis" if column == name else f"column of the axis {name!r}"))
    for route, name, owner in claims:
        if not re.fullmatch("[a-z][a-z0-9_]{0,63}", name):
            message = f"{shown(name)} is no name; allowed: small letters, digits and _, a letter first"
            raise Mistake(route, message, key=True)
        if name in owners:
            raise Mistake(route, f"{name!r} is taken by another {owners[name]}: give each its own name", key=True)
        if name in RESERVED:
            hint = "; for seeds there is the key seeds" if name == "seed" else ""
            raise Mistake(route, f"{name!r} is a column of the result tables, take another name{hint}", key=True)
        owners[name] = owner


def _elsewhere(study: Study) -> None:
    """Pictures made elsewhere: one list of them, whose prompts nothing changes."""
    if study.backend != "folder":
        return
    for name, axis in study.axes.items():
        if not isinstance(axis, Prompts) or not any(item.sources for item in axis.listed):
            message = (
                "pictures of a folder vary as they do: the only axis is their list, as `promptlab import` writes it"
            )
            raise Mistake(("axes", name), message, key=True)
    if len(study.axes) != 1 or study.prompt.template.strip() != f"{{{next(iter(study.axes))}}}":
        raise Mistake(
            ("prompt", "template"), "pictures of a folder have their prompts already: template and axis are the list"
        )
    if "model" not in study.model_fields_set and "model" not in next(iter(study.axes.values())).columns(""):
        raise Mistake(("backend",), "say which model made the pictures: model: NAME, or model: unknown")
    if study.settings.model_fields_set:
        raise Mistake(("settings",), "settings of pictures made elsewhere come with their list", key=True)


def _paid(study: Study) -> None:
    for name in ("price_per_image", "budget_usd"):
        if name in study.model_fields_set and study.backend != "hosted":
            raise Mistake((name,), f"only backend: hosted costs money; given {study.backend}: remove it", key=True)


def _levels(study: Study) -> None:
    given = {name for name in study.settings.model_fields_set}
    for name, axis in study.axes.items():
        if name in (*SETTINGS, "model") and not isinstance(axis, Values | Range):
            raise Mistake(("axes", name), f"{name!r} is no text: allowed here are a list or a range", key=True)
        columns = axis.names() if isinstance(axis, Zip | Prompts) else (name,)
        for column in columns:
            if column in given or (column == "model" and "model" in study.model_fields_set):
                given_at: Route = ("model",) if column == "model" else ("settings", column)
                raise Mistake(given_at, f"{column!r} is given here and as an axis: keep one", key=True)
        if isinstance(axis, Range) and name not in SETTINGS:
            raise Mistake(
                ("axes", name), f"a range varies a setting, and {shown(name)} is none{_meant(name)}", key=True
            )
        for route, column, level in _written(name, axis):
            _level(study, ("axes", name, *route), column, level)
        seen: dict[Any, Route] = {}
        for i, point in enumerate(axis.points(name) if axis.count() <= MOST_LEVELS else ()):
            key = tuple((column, type(level), level) for column, level in point)
            if key in seen:
                twice: Route = ("axes", name, i) if isinstance(axis, Values) else ("axes", name)
                raise Mistake(twice, f"level {shown(point[0][1])} stands twice")
            seen[key] = ()


def _written(name: str, axis: Axis) -> Iterable[tuple[Route, str, Level]]:
    """(route, column, level) of every level that stands in the file."""
    if isinstance(axis, Values):
        yield from (((i,), name, level) for i, level in enumerate(axis.root))
    elif isinstance(axis, Zip):
        for column, levels in (axis.lists() or {}).items():
            yield from ((("zip", column, i), column, level) for i, level in enumerate(levels))
        for i, row in enumerate(() if isinstance(axis.zip, dict) else axis.zip):
            yield from ((("zip", i, column), column, level) for column, level in row.items())
    elif isinstance(axis, Range):
        points = [point[0][1] for point in axis.points(name)] if axis.count() <= MOST_LEVELS else []
        ends = ("range", "start"), ("range", "stop")
        yield from ((ends[i > 0], name, level) for i, level in enumerate(points))


def _level(study: Study, route: Route, column: str, level: Level) -> None:
    if column in SETTINGS:
        try:
            type(study.settings).model_validate({column: level})
        except ValidationError as error:
            raise Mistake(route, _first(error, column)) from None
        if level is None and column != "scheduler":
            raise Mistake(route, f"given nothing; allowed: a value of {column}")
    elif column == "model" and (not isinstance(level, str) or not level.strip()):
        raise Mistake(route, f"given {shown(level)}; allowed: the name of a model")
    elif not isinstance(level, str):
        meant = _meant(column)
        if meant:
            raise Mistake(route[:2], f"{column!r} is no setting{meant}", key=True)
        quoted = "" if level is None else f': write "{shown(level)}"'
        raise Mistake(route, f"given {shown(level)}; allowed: text, since {column!r} is no setting{quoted}")


def _meant(column: str) -> str:
    foreign = FOREIGN.get(column)
    return f"; did you mean {foreign!r}?" if foreign else nearest(column, [*SETTINGS, "model"])


def _first(error: ValidationError, column: str) -> str:
    return f"{column}: {sentence(error.errors(include_url=False)[0])}"


def _templates(study: Study) -> None:
    spec = study.prompt
    columns = [column for name, axis in study.axes.items() for column in fillings(name, axis)]
    known = [*spec.objects, *spec.phrases, *columns]
    used: set[str] = set()

    def visit(route: Route, template: str, names: list[str]) -> tuple[str, ...]:
        try:
            found = slots(template)
        except Mistake as mistake:
            raise Mistake(route, mistake.message) from None
        for slot in found:
            if slot not in names:
                message = f"nothing fills the slot {{{slot}}}{allowed(slot, names)}"
                raise Mistake(route, message)
        used.update(found)
        return found

    found = visit(("prompt", "template"), spec.template, known)
    for name in (*spec.objects, *spec.phrases):
        if found.count(name) > 1:
            raise Mistake(("prompt", "template"), f"slot {{{name}}} stands twice; allowed: once")
    _articles(study)
    for name, thing in spec.objects.items():
        for part, text in (("noun", thing.noun), *thing.attributes.items()):
            visit(("prompt", "objects", name, part), text, columns)
    for name, text in spec.phrases.items():
        visit(("prompt", "phrases", name), text, columns)
    if spec.alone is not None and "object" not in visit(("prompt", "alone"), spec.alone, ["object", *known]):
        raise Mistake(("prompt", "alone"), "the one-object template lacks the slot {object}")
    for part, names in (("objects", spec.objects), ("phrases", spec.phrases)):
        for name in names:
            if name not in used:
                raise Mistake(
                    ("prompt", part, name), f"no template uses {{{name}}}: write it in, or remove it", key=True
                )
    for name, axis in study.axes.items():
        for column in fillings(name, axis):
            if column not in used:
                message = f"{column!r} is no setting, and nothing in the prompt uses {{{column}}}{_meant(column)}"
                raise Mistake(("axes", name), message, key=True)
    if not spec.template.strip() and not spec.allow_empty:
        raise Mistake(("prompt", "template"), "the prompt is empty; where that is meant, write allow_empty: true")


def _articles(study: Study) -> None:
    for name, thing in study.prompt.objects.items():
        if thing.article != "none" and re.search(rf"(?i)\b(an?|the)\s+\{{{name}\}}", study.prompt.template):
            message = f"the object {name!r} brings its own article: remove it before {{{name}}}, or give article: none"
            raise Mistake(("prompt", "template"), message)


def _mentions(study: Study) -> None:
    moved: dict[str, str] = {}
    for name, axis in study.axes.items():
        try:
            mentions = axis.mentions(study.prompt)
        except Mistake as mistake:
            raise Mistake(("axes", name, *mistake.route), mistake.message, key=mistake.key) from None
        seen: set[str] = set()
        for route, mentioned, names in mentions:
            if mentioned not in names:
                message = f"{shown(mentioned)} is not among the names it can take{allowed(mentioned, names)}"
                raise Mistake(("axes", name, *route), message)
            if isinstance(route[-1], int) and mentioned in seen:
                raise Mistake(("axes", name, *route), f"{mentioned!r} stands twice")
            seen |= {mentioned} if isinstance(route[-1], int) else set()
            if isinstance(axis, Order | Position) and route[-1] != "of":
                if mentioned in moved:
                    message = f"{mentioned!r} is already moved by the axis {moved[mentioned]!r}"
                    raise Mistake(("axes", name, *route), message)
                moved[mentioned] = name
        if isinstance(axis, Position):
            for i, place in enumerate(axis.position.at or ()):
                if place > len(axis.position.among):
                    route = ("axes", name, "position", "at", i)
                    raise Mistake(route, f"given place {place}; allowed: 1 to {len(axis.position.among)}")


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


def check_probes(study: Study) -> None:
    """Raise Mistake, with a route from the top of the study, for the first plugin, option or measure that is not."""
    _check_known("backend", study.backend, ("backend",))
    names = [use.name for use in study.probes]
    measures: dict[str, tuple[str, ...]] = {}
    for i, use in enumerate(study.probes):
        if use.name in names[:i]:
            raise Mistake(("probes", i), f"probe {use.name!r} stands twice")
        measures[use.name] = _measures(use, ("probes", i))
    asked: list[tuple[Route, str]] = [(("contrasts", i), one.measure) for i, one in enumerate(study.contrasts)]
    asked += [(("published", i), one.measure) for i, one in enumerate(study.published) if one.measure is not None]
    for route, what in asked:
        probe, measure = what.split(".", 1)
        if probe not in names:
            message = f"the study does not use the probe {probe!r}{allowed(probe, names)}"
            raise Mistake((*route, "measure"), message)
        if measure not in measures[probe]:
            message = f"the probe {probe!r} has no measure {measure!r}{allowed(measure, measures[probe])}"
            raise Mistake((*route, "measure"), message)


def _measures(use: ProbeUse, route: Route) -> tuple[str, ...]:
    """Names of what a probe measures: it is asked itself, which opens no model."""
    _check_known("probe", use.name, (*route, "name") if use.options else route)
    try:
        option, known = plugins.unknown_option("probe", use.name, use.options), plugins.parameters("probe", use.name)
    except PromptlabError as error:
        raise Mistake(route, str(error)) from None
    if option is not None:
        message = f"the probe {use.name!r} has no option {option!r}{allowed(option, known)}"
        raise Mistake((*route, option), message, key=True)
    try:
        return tuple(measure.name for measure in plugins.load("probe", use.name, **use.options).measures)
    except PromptlabError as error:
        raise Mistake(route, f"the probe {use.name!r}: {error}") from None
    except Exception as error:  # code from outside may raise anything
        raise Mistake(route, f"the probe {use.name!r} cannot take these options ({error})") from None


def _check_known(kind: str, name: str, route: Route) -> None:
    try:
        plugins.check_known(kind, name)
    except PromptlabError as error:
        raise Mistake(route, str(error)) from None
