"""The study file: what a person writes, checked before anything heavy loads.

A study is a question, a prompt made of parts, axes that vary them, seeds, a model, probes, and planned comparisons.
`load_study` reads it strictly; every mistake is a StudyError with file, line and column, what was given, what is
allowed, and the nearest name. `study_schema` gives editors the same knowledge.

    name: attribute_binding                             question: How often do two objects swap their colours?
    prompt: {template, objects, phrases}                axes: {pair: {zip: ...}, guidance_scale: [1, 5, 9]}
    seeds: 4                                            probes: [binding, clip_similarity]
    contrasts: [{name, measure, axis, levels, where, margin, family}]
    published: [{name, value, tolerance, source, judge, measure, where}]        what `promptlab reproduce` compares with

One run may change a study: `with_model`, `with_budget`, and `without_axis` for a model that lacks the setting. They
report what goes along with an axis (rules that name it, contrasts along it) and never drop it in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from promptlab.errors import StudyError, nearest
from promptlab.records import Level
from promptlab.study import strict_yaml
from promptlab.study.axes import AnyAxis
from promptlab.study.axes.axis import Name
from promptlab.study.checks import (
    check_axes,
    check_backend,
    check_contrasts,
    check_probes,
    check_published,
    check_rules,
    check_units,
    columns_of,
)
from promptlab.study.model import (
    Contrast,
    GivenSettings,
    ModelName,
    Probe,
    Published,
    Rule,
    Seeds,
    Word,
    check_name,
)
from promptlab.study.prompts import PromptSpec, Text
from promptlab.study.strict_yaml import Document, Mistake, Record, Route, shown, study_error

__all__ = [
    "Study",
    "commented_study",
    "load_study",
    "parse_study",
    "study_schema",
    "with_budget",
    "with_model",
    "without_axis",
    "write_schema",
]


class Study(Record):
    """One study. `units` names the axes that make up the unit of inference, the prompt family.

    Of a closed system: US dollars a picture, in place of the list price, and those that one run may spend.
    """

    name: Annotated[str, AfterValidator(check_name)]
    question: Annotated[Text, StringConstraints(pattern=r"\S")]
    prompt: PromptSpec
    axes: dict[Name, AnyAxis] = Field(default_factory=dict)
    exclude: tuple[Rule, ...] = ()
    units: tuple[Name, ...] | None = None
    seeds: Seeds = (0,)
    settings: GivenSettings = GivenSettings()
    model: ModelName = "miniature"
    backend: Word = "diffusion"
    probes: tuple[Probe, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    published: tuple[Published, ...] = ()
    price_per_image: Annotated[float, Field(strict=True, gt=0, le=100)] | None = None
    budget_usd: Annotated[float, Field(strict=True, gt=0, le=1e6)] | None = None

    _document: Document | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        _check(self)
        return self

    @property
    def source(self) -> str:
        """The file's text, or empty for a study made in Python."""
        return self._document.text if self._document else ""

    def error(self, route: Route, message: str, *, key: bool = False) -> StudyError:
        """A complaint about one value of this study, with its place in the file."""
        if self._document:
            return self._document.error(route, message, key=key)
        return StudyError(f"study {self.name}, {'.'.join(str(step) for step in route)}: {message}")


def _check(study: Study) -> None:
    """Raise Mistake, with a route from the top of the study, for the first part that disagrees with another."""
    axes, prompt, units = study.axes, study.prompt, study.units
    _check_folder(study)
    _check_costs(study)
    check_axes(axes, prompt, study.settings, model_chosen="model" in study.model_fields_set)
    check_units(axes, units)
    check_rules(axes, study.exclude)
    check_backend(study.backend)
    check_probes(study.probes, study.contrasts, study.published)
    check_contrasts(axes, study.contrasts, prompt, study.probes, units)
    check_published(axes, study.published)


def _check_folder(study: Study) -> None:
    """Images made elsewhere: one list of them, whose prompts nothing changes."""
    if study.backend != "folder":
        return
    for name, axis in study.axes.items():
        if not any(item.sources for item in axis.listed_prompts):
            message = (
                "pictures of a folder vary as they do: the only axis is their list, as `promptlab import` writes it"
            )
            raise Mistake(("axes", name), message, key=True)
    if len(study.axes) != 1 or study.prompt.template.strip() != f"{{{next(iter(study.axes))}}}":
        message = "pictures of a folder have their prompts already: template and axis are the list"
        raise Mistake(("prompt", "template"), message)
    if "model" not in study.model_fields_set and "model" not in columns_of(study.axes):
        raise Mistake(("backend",), "say which model made the pictures: model: NAME, or model: unknown")
    if study.settings.model_fields_set:
        raise Mistake(("settings",), "settings of pictures made elsewhere come with their list", key=True)


def _check_costs(study: Study) -> None:
    for name in ("price_per_image", "budget_usd"):
        if name in study.model_fields_set and study.backend != "hosted":
            raise Mistake((name,), f"only backend: hosted costs money; given {study.backend}: remove it", key=True)


_SECRET = re.compile(r"(sk|hf|ghp|gho|xox[abp]|AIza|AKIA)[-_A-Za-z0-9]{16,}")


def _no_secrets(document: Document, value: Any, route: Route = ()) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        _no_secrets(document, inner, (*route, step))
    if isinstance(value, str) and _SECRET.fullmatch(value.strip()):
        message = "this looks like an access key; keys come from the environment and stand in no file"
        raise document.error(route, message, show=False)


def load_study(path: str | Path) -> Study:
    """Read and check a study file. Raises StudyError and nothing else."""
    return _study(strict_yaml.read(path))


def parse_study(text: str | bytes, name: str = "study.yaml") -> Study:
    """Check the text of a study file; `name` stands for the file in messages. Raises StudyError and nothing else."""
    return _study(strict_yaml.parse(text, name))


def _study(document: Document) -> Study:
    if not isinstance(document.data, dict):
        content = "nothing" if document.data is None else shown(document.data)
        raise document.error(
            (), f"given {content}; allowed: a mapping with name, question and prompt (`promptlab init`)"
        )
    _no_secrets(document, document.data)
    try:
        study = Study.model_validate(document.data, context={"folder": str(Path(document.name).parent)})
    except ValidationError as error:
        raise study_error(document, error) from None
    study._document = document
    return study


def commented_study(name: str) -> str:
    """The text of a study called `name` to start from, explained line by line. Raises StudyError for a wrong name."""
    try:
        check_name(name)
    except Mistake as mistake:
        raise StudyError(f"name of the study: {mistake}") from None
    template = resources.files("promptlab.study").joinpath("template.yaml").read_text(encoding="utf-8")
    return template.replace("my_study", name)


def study_schema() -> dict[str, Any]:
    """JSON Schema of a study file, as editors read it (draft 7, which YAML language servers follow)."""
    schema = TypeAdapter(Study).json_schema()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Written by promptlab; a test keeps it current.",
        **schema,
        "title": "promptlab study",
    }


def write_schema(path: str | Path) -> None:
    """Write `study.schema.json`."""
    Path(path).write_text(json.dumps(study_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def with_model(study: Study, model: str) -> Study:
    """The same study on another model. Raises StudyError where the study varies the model itself."""
    if "model" in (columns := columns_of(study.axes)):
        message = "this study varies the model itself; run it without --model, or remove the axis"
        raise study.error(("axes", columns["model"]), message, key=True)
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
    removed = set(study.axes[name].levels(name).column_names)
    kept = [c for c in study.contrasts if c.axis not in removed]
    left_out = tuple(c.name for c in study.contrasts if c.axis in removed)
    changed = study.model_copy(
        update={
            "axes": {key: axis for key, axis in study.axes.items() if key != name},
            "exclude": tuple(rule for rule in study.exclude if not removed & rule.keys()),
            "units": study.units and tuple(unit for unit in study.units if unit != name),
            "contrasts": tuple(c.model_copy(update={"where": _without(c.where, removed)}) for c in kept),
            "published": tuple(p.model_copy(update={"where": _without(p.where, removed)}) for p in study.published),
        }
    )
    try:
        _check(changed)
    except Mistake as mistake:
        raise study.error(("axes", name), f"cannot be left out: {mistake.message}", key=True) from None
    return changed, left_out


def _without(where: Mapping[str, Level], removed: set[str]) -> dict[str, Level]:
    return {column: level for column, level in where.items() if column not in removed}
