"""What the parts of a study must agree on: every name that is used is declared, and every one declared is used.

Columns are the names that cells carry: one for each axis, and those that an axis brings along. A column is a generation
setting, `model`, or the filling of a slot; nothing else, so a misspelt setting cannot pass as an unused word.

A contrast pairs cells of one prompt family, so it cannot run along an axis that makes up the family. Levels that rules,
contrasts and published results name must be levels of their axis.

Probes are loaded to learn their measures, which opens no model. A study names plugins that ship, are installed, or were
named on the command line (`promptlab.plugins`); it cannot name a module to import.

All functions raise Mistake, with a route from the top of the study, for the first disagreement.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from promptlab import plugins
from promptlab.errors import PromptlabError, nearest
from promptlab.records import Level
from promptlab.study.axes.axis import MAX_ENUMERATED, SETTINGS, Axis, settle, use_of
from promptlab.study.prompts import PromptSpec, slots
from promptlab.study.strict_yaml import Mistake, Route, allowed, sentence, shown

if TYPE_CHECKING:
    from promptlab.study.study import Contrast, GivenSettings, ProbeUse, Published

__all__ = [
    "RESERVED",
    "check_axes",
    "check_backend",
    "check_contrasts",
    "check_probes",
    "check_published",
    "check_rules",
    "check_units",
    "columns_of",
    "unit_axes",
]

Axes = Mapping[str, Axis]

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


def columns_of(axes: Axes) -> dict[str, str]:
    """Every column of the study's cells, in order, with the name of its axis."""
    return {column: name for name, axis in axes.items() for column in axis.levels(name).column_names}


def unit_axes(axes: Axes, units: tuple[str, ...] | None) -> tuple[str, ...]:
    """The axes that make up the prompt family: `units`, or those that fill slots and do not manipulate."""
    if units is not None:
        return units
    return tuple(name for name, axis in axes.items() if not axis.manipulates and axis.levels(name).slots)


def check_units(axes: Axes, units: tuple[str, ...] | None) -> None:
    """The units are axes."""
    for i, name in enumerate(units or ()):
        if name not in axes:
            raise Mistake(("units", i), f"{shown(name)} is not an axis{allowed(name, axes)}")


def check_axes(axes: Axes, prompt: PromptSpec, settings: GivenSettings, *, model_chosen: bool) -> None:
    """Axes and prompt fit together; `model_chosen` says whether the study names its model."""
    _names(axes, prompt)
    _levels(axes, settings, model_chosen)
    _templates(axes, prompt)
    _references(axes, prompt)
    _one_last(axes)


def _one_last(axes: Axes) -> None:
    """Only one axis can have the last word about a prompt, such as its length."""
    last = [name for name, axis in axes.items() if axis.last]
    if len(last) > 1:
        message = f"{last[1]!r} and {last[0]!r} both set the length of the prompt: keep one of them"
        raise Mistake(("axes", last[1]), message, key=True)


def _names(axes: Axes, prompt: PromptSpec) -> None:
    owners: dict[str, str] = {}
    named: list[tuple[Route, str, str]] = []
    parts: tuple[tuple[str, Iterable[str]], ...]
    parts = (("objects", prompt.objects), ("phrases", prompt.phrases))
    for part, names in parts:
        named += [(("prompt", part, name), name, part[:-1]) for name in names]
        for name in names:
            if name == "object":
                raise Mistake(("prompt", part, name), "'object' is the slot of `alone`: take another", key=True)
    _attribute_names(prompt)
    for name, axis in axes.items():
        for column in axis.levels(name).column_names:
            named.append((("axes", name), column, "axis" if column == name else f"column of the axis {name!r}"))
    for route, name, owner in named:
        if not re.fullmatch("[a-z][a-z0-9_]{0,63}", name):
            message = f"{shown(name)} is no name; allowed: small letters, digits and _, a letter first"
            raise Mistake(route, message, key=True)
        if name in owners:
            raise Mistake(route, f"{name!r} is taken by another {owners[name]}: give each its own name", key=True)
        if name in RESERVED:
            hint = "; for seeds there is the key seeds" if name == "seed" else ""
            raise Mistake(route, f"{name!r} is a column of the result tables, take another name{hint}", key=True)
        owners[name] = owner


def _attribute_names(prompt: PromptSpec) -> None:
    for name, thing in prompt.objects.items():
        for kind in thing.attributes:
            if not re.fullmatch("[a-z][a-z0-9_]{0,63}", kind):
                message = f"{shown(kind)} is no name; allowed: small letters, digits and _"
                raise Mistake(("prompt", "objects", name, kind), message, key=True)


def _levels(axes: Axes, settings: GivenSettings, model_chosen: bool) -> None:
    for name, axis in axes.items():
        levels = axis.levels(name)
        if use_of(name) not in axis.varies:
            if "text" in axis.varies:
                raise Mistake(("axes", name), f"{name!r} is no text: allowed here are a list or a range", key=True)
            message = f"a {axis.kind} varies a setting, and {shown(name)} is none{_suggestion(name)}"
            raise Mistake(("axes", name), message, key=True)
        for column in levels.column_names:
            if column in settings.model_fields_set or (column == "model" and model_chosen):
                route: Route = ("model",) if column == "model" else ("settings", column)
                raise Mistake(route, f"{column!r} is given here and as an axis: keep one", key=True)
        for route, column, level in axis.written(name):
            _level(settings, ("axes", name, *route), column, level)
        seen: set[Any] = set()
        for i, point in enumerate(levels if levels.count <= MAX_ENUMERATED else ()):
            key = tuple((column, type(level), level) for column, level in point)
            if key in seen:
                raise Mistake(("axes", name, *axis.route(i)), f"level {shown(point[0][1])} stands twice")
            seen.add(key)


def _level(settings: GivenSettings, route: Route, column: str, level: Level) -> None:
    if use_of(column) == "setting":
        try:
            settings.model_validate({column: level})
        except ValidationError as error:
            raise Mistake(route, _first(error, column)) from None
        if level is None and column != "scheduler":
            raise Mistake(route, f"given nothing; allowed: a value of {column}")
    elif use_of(column) == "model" and (not isinstance(level, str) or not level.strip()):
        raise Mistake(route, f"given {shown(level)}; allowed: the name of a model")
    elif not isinstance(level, str):
        if hint := _suggestion(column):
            raise Mistake(route[:2], f"{column!r} is no setting{hint}", key=True)
        quoted = "" if level is None else f': write "{shown(level)}"'
        raise Mistake(route, f"given {shown(level)}; allowed: text, since {column!r} is no setting{quoted}")


def _suggestion(column: str) -> str:
    foreign = FOREIGN.get(column)
    return f"; did you mean {foreign!r}?" if foreign else nearest(column, [*SETTINGS, "model"])


def _first(error: ValidationError, column: str) -> str:
    return f"{column}: {sentence(error.errors(include_url=False)[0])}"


def _templates(axes: Axes, prompt: PromptSpec) -> None:
    columns = [column for name, axis in axes.items() for column in axis.levels(name).slots]
    known = [*prompt.objects, *prompt.phrases, *columns]
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

    found = visit(("prompt", "template"), prompt.template, known)
    for name in (*prompt.objects, *prompt.phrases):
        if found.count(name) > 1:
            raise Mistake(("prompt", "template"), f"slot {{{name}}} stands twice; allowed: once")
    _articles(prompt)
    for name, thing in prompt.objects.items():
        for part, text in (("noun", thing.noun), *thing.attributes.items()):
            visit(("prompt", "objects", name, part), text, columns)
    for name, text in prompt.phrases.items():
        visit(("prompt", "phrases", name), text, columns)
    if prompt.alone is not None and "object" not in visit(("prompt", "alone"), prompt.alone, ["object", *known]):
        raise Mistake(("prompt", "alone"), "the one-object template lacks the slot {object}")
    _all_used(axes, prompt, used)
    if not prompt.template.strip() and not prompt.allow_empty:
        raise Mistake(("prompt", "template"), "the prompt is empty; where that is meant, write allow_empty: true")


def _all_used(axes: Axes, prompt: PromptSpec, used: Collection[str]) -> None:
    for part, names in (("objects", prompt.objects), ("phrases", prompt.phrases)):
        for name in names:
            if name not in used:
                raise Mistake(
                    ("prompt", part, name), f"no template uses {{{name}}}: write it in, or remove it", key=True
                )
    for name, axis in axes.items():
        for column in axis.levels(name).slots:
            if column not in used:
                message = f"{column!r} is no setting, and nothing in the prompt uses {{{column}}}{_suggestion(column)}"
                raise Mistake(("axes", name), message, key=True)


def _articles(prompt: PromptSpec) -> None:
    for name, thing in prompt.objects.items():
        if thing.article != "none" and re.search(rf"(?i)\b(an?|the)\s+\{{{name}\}}", prompt.template):
            message = f"the object {name!r} brings its own article: remove it before {{{name}}}, or give article: none"
            raise Mistake(("prompt", "template"), message)


def _references(axes: Axes, prompt: PromptSpec) -> None:
    moved: dict[str, str] = {}
    for name, axis in axes.items():
        try:
            references = axis.references(prompt)
        except Mistake as mistake:
            raise Mistake(("axes", name, *mistake.route), mistake.message, key=mistake.key) from None
        in_list: set[str] = set()
        for reference in references:
            route, used = ("axes", name, *reference.route), reference.name
            if used not in reference.allowed:
                message = f"{shown(used)} is not among the names it can take{allowed(used, reference.allowed)}"
                raise Mistake(route, message)
            if isinstance(route[-1], int):
                if used in in_list:
                    raise Mistake(route, f"{used!r} stands twice")
                in_list.add(used)
            if reference.moves:
                if used in moved:
                    raise Mistake(route, f"{used!r} is already moved by the axis {moved[used]!r}")
                moved[used] = name


def check_rules(axes: Axes, rules: Iterable[Mapping[str, tuple[Level, ...]]]) -> None:
    """Excluding rules name columns and levels that there are."""
    for i, rule in enumerate(rules):
        for column, levels in rule.items():
            for level in levels:
                _column_level(axes, ("exclude", i, column), column, level, key=True)


def check_published(axes: Axes, published: Sequence[Published]) -> None:
    """Published results have names of their own, and select levels that there are."""
    names: list[str] = []
    for i, result in enumerate(published):
        if result.name in names:
            raise Mistake(("published", i, "name"), f"published result {result.name!r} stands twice")
        names.append(result.name)
        _where(axes, ("published", i, "where"), result.where)


def _where(axes: Axes, route: Route, where: Mapping[str, Level]) -> None:
    columns = columns_of(axes)
    for column, level in where.items():
        _column_level(axes, (*route, column), column, level, key=column not in columns)


def _column_level(axes: Axes, route: Route, column: str, level: Level, *, key: bool) -> None:
    columns = columns_of(axes)
    if column not in columns:
        raise Mistake(route, f"{shown(column)} is not an axis{allowed(column, columns)}", key=key)
    levels = _levels_of(axes, column)
    if levels is not None and not any(_same(settle(column, level), other) for other in levels):
        names = allowed(str(level), [str(other) for other in levels])
        raise Mistake(route, f"{shown(level)} is no level of {column!r}{names}")


def _levels_of(axes: Axes, column: str) -> tuple[Level, ...] | None:
    """The levels of a column, or None where they are too many to list."""
    name = columns_of(axes)[column]
    levels = axes[name].levels(name)
    if levels.count > MAX_ENUMERATED:
        return None
    return tuple(dict.fromkeys(dict(point)[column] for point in levels))


def _same(a: Level, b: Level) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def check_contrasts(
    axes: Axes,
    contrasts: Sequence[Contrast],
    prompt: PromptSpec,
    probes: Sequence[ProbeUse],
    units: tuple[str, ...] | None,
) -> None:
    """Contrasts compare two levels of an axis within a prompt family, on a target that scores can be about."""
    names: list[str] = []
    for i, contrast in enumerate(contrasts):
        route: Route = ("contrasts", i)
        if contrast.name in names:
            raise Mistake((*route, "name"), f"contrast {contrast.name!r} stands twice")
        names.append(contrast.name)
        _compared_levels(axes, contrast, unit_axes(axes, units), route)
        _where(axes, (*route, "where"), contrast.where)
        if contrast.target is not None:
            _target(axes, prompt, contrast.target, _target_words(probes, contrast.probe), route)


def _compared_levels(axes: Axes, contrast: Contrast, units: tuple[str, ...], route: Route) -> None:
    columns = columns_of(axes)
    if contrast.axis not in columns:
        message = f"{shown(contrast.axis)} is not an axis{allowed(contrast.axis, columns)}"
        raise Mistake((*route, "axis"), message)
    if columns[contrast.axis] in units:
        others = ", ".join(name for name in units if name != columns[contrast.axis])
        message = f"{contrast.axis} makes up the prompt family, so nothing pairs across it; write units: [{others}]"
        raise Mistake((*route, "axis"), message)
    for k, level in enumerate(contrast.levels):
        _column_level(axes, (*route, "levels", k), contrast.axis, level, key=False)
    if _same(*(settle(contrast.axis, level) for level in contrast.levels)):
        raise Mistake((*route, "levels"), "both levels are the same")


def _target(axes: Axes, prompt: PromptSpec, target: str, words: tuple[str, ...], route: Route) -> None:
    names = _target_names(axes, prompt)
    for piece in target.split(" > ") if words else [target]:
        if piece not in names and piece not in words:
            message = f"{shown(target)} is no object or phrase of the prompt{allowed(piece, names)}"
            raise Mistake((*route, "target"), message)


def _target_names(axes: Axes, prompt: PromptSpec) -> tuple[str, ...]:
    """Names that scores can be about: objects first, then phrases and slots, those of prompt lists among them."""
    prompts = [item.prompt for axis in axes.values() for item in axis.listed_prompts]
    objects = [*prompt.objects, *(binding.object for one in prompts for binding in one.bindings)]
    phrases = [*prompt.phrases, *(slot for name, axis in axes.items() for slot in axis.levels(name).slots)]
    return tuple(dict.fromkeys([*objects, *phrases, *(phrase.name for one in prompts for phrase in one.phrases)]))


def _target_words(probes: Sequence[ProbeUse], name: str) -> tuple[str, ...]:
    """What may stand in a probe's targets beside names of the prompt; see `promptlab.analyzer.probes`."""
    for use in probes:
        if use.name == name:
            return tuple(getattr(plugins.load("probe", name, **use.options), "target_words", ()))
    return ()


def check_backend(backend: str) -> None:
    """There is such a backend."""
    _check_known("backend", backend, ("backend",))


def check_probes(probes: Sequence[ProbeUse], contrasts: Sequence[Contrast], published: Sequence[Published]) -> None:
    """There are such probes, they take the options that they get, and they measure what is compared."""
    names = [use.name for use in probes]
    measures: dict[str, tuple[str, ...]] = {}
    for i, use in enumerate(probes):
        if use.name in names[:i]:
            raise Mistake(("probes", i), f"probe {use.name!r} stands twice")
        measures[use.name] = _measures(use, ("probes", i))
    measured: list[tuple[Route, str]] = [(("contrasts", i), one.measure) for i, one in enumerate(contrasts)]
    measured += [(("published", i), one.measure) for i, one in enumerate(published) if one.measure is not None]
    for route, what in measured:
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
