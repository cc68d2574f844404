"""What a study is made of: generation settings, seeds, probes, planned contrasts and published results.

Each is one key of a study file, read strictly. `promptlab.study.study` puts them together, with the prompt
(`promptlab.study.prompts`) and the axes (`promptlab.study.axes`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from promptlab.records import Settings
from promptlab.study.axes.axis import Name, Scalar
from promptlab.study.prompts import Text
from promptlab.study.strict_yaml import Mistake, Record, shown

__all__ = [
    "Contrast",
    "GivenSettings",
    "ModelName",
    "Probe",
    "ProbeUse",
    "Published",
    "Rule",
    "Seeds",
    "Word",
    "check_name",
]

DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
MAX_SEEDS = 1000
MAX_SEED = 2**32 - 1


def check_name(name: str) -> str:
    """The name, if a study may have it; else raises Mistake. It becomes a folder's name on every system."""
    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", name):
        raise Mistake((), f"given {shown(name)}; allowed: 1 to 64 small letters, digits, _ and -, no _ or - first")
    if name in DEVICES:
        raise Mistake((), f"given {name!r}; allowed: a name that Windows does not reserve for a device")
    return name


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_SEEDS:
            raise Mistake((), f"given {value}; allowed: 1 to {MAX_SEEDS}, or a list of seeds")
        return list(range(value))
    if not isinstance(value, list | tuple):
        raise Mistake((), f"given {shown(value)}; allowed: a number from 1 to {MAX_SEEDS}, or a list of seeds")
    return value


def _seed(seed: int) -> int:
    if seed < 0:
        raise Mistake((), f"seed {seed} is negative; allowed: at least 0")
    if seed > MAX_SEED:
        raise Mistake((), f"seed {seed} is too large; the largest seed is {MAX_SEED}")
    return seed


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    for i, seed in enumerate(seeds):
        if seed in seeds[:i]:
            raise Mistake((i,), f"seed {seed} stands twice")
    return seeds


_SEED = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
Seeds = Annotated[
    tuple[Annotated[int, Field(strict=True), AfterValidator(_seed)], ...],
    Field(min_length=1, max_length=MAX_SEEDS),
    BeforeValidator(_seeds),
    AfterValidator(_distinct),
    WithJsonSchema(
        {
            "description": "How many seeds (n means 0 to n-1), or the seeds themselves.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_SEEDS},
                {"type": "array", "items": _SEED, "minItems": 1, "maxItems": MAX_SEEDS, "uniqueItems": True},
            ],
        }
    ),
]
Side = Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=8)]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]+$")]


class GivenSettings(Record):
    """Generation settings in diffusers' spelling; what is not given is the model's default."""

    guidance_scale: Annotated[float, Field(strict=True, ge=0, le=1000)] | None = None
    num_inference_steps: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    height: Side | None = None
    width: Side | None = None
    scheduler: Word | None = None
    negative_prompt: Text = ""
    distilled_guidance_scale: Annotated[float, Field(strict=True, ge=0, le=1000)] | None = None

    def settings(self, defaults: Settings | None = None) -> Settings:
        """The full settings: what is not given is as in `defaults`, the model's own, or else promptlab's."""
        chosen = {name: value for name, value in self if name in self.model_fields_set and value is not None}
        return replace(defaults or Settings(), **chosen)


class ProbeUse(Record):
    """A probe by name, with its options."""

    model_config = ConfigDict(extra="allow")
    name: Word

    @property
    def options(self) -> dict[str, Any]:
        """Everything given beside the name."""
        return dict(self.__pydantic_extra__ or {})


Probe = Annotated[
    ProbeUse,
    BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            ]
        }
    ),
]


def _measure(measure: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+", measure):
        raise Mistake((), f"given {shown(measure)}; allowed: probe.measure, as in binding.correct")
    return measure


class Contrast(Record):
    """A comparison settled beforehand: mean(first level) minus mean(second), paired in each prompt family and seed.

    `target` is the object or phrase whose scores count, of a measure that has one for each; else all are averaged.
    `says` names what the first level does, for the answer in words: "naming the second object first". `detect` is the
    smallest difference of rates that the study must be able to find: a plan that cannot is refused.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    measure: Annotated[str, AfterValidator(_measure)]
    axis: Name
    levels: Annotated[tuple[Scalar, ...], Field(min_length=2, max_length=2)]
    where: dict[Name, Scalar] = Field(default_factory=dict)
    target: Name | None = None
    says: Annotated[str, StringConstraints(pattern=r"\S", max_length=120)] | None = None
    margin: Annotated[float, Field(strict=True, gt=0)] | None = None
    detect: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    family: Literal["confirmatory", "exploratory"] = "exploratory"

    @property
    def probe(self) -> str:
        """The part of `measure` before the dot."""
        return self.measure.split(".", 1)[0]


class Published(Record):
    """A result that others printed: `value` of `measure` over all pictures (those of `where`), with its `source`.

    `judge` says what measured it there. Without a `measure` nothing here measures the same; then one is named by hand.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    value: Annotated[float, Field(strict=True)]
    tolerance: Annotated[float, Field(strict=True, gt=0)]
    source: Annotated[Text, StringConstraints(pattern=r"\S")]
    judge: Text = ""
    measure: Annotated[str, AfterValidator(_measure)] | None = None
    where: dict[Name, Scalar] = Field(default_factory=dict)


Rule = Annotated[
    dict[Name, Annotated[tuple[Scalar, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else [v])]],
    Field(min_length=1),
    WithJsonSchema({"type": "object", "minProperties": 1, "additionalProperties": True}),
]
