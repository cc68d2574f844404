"""What an axis is, and the plain kinds: values, ranges, zips.

A point is one level of an axis: its columns with their values, the axis' own column first. Counting never enumerates,
so a grid of 10^9 cells is known for what it is at once. `promptlab.study.axes` lists all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any, ClassVar

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    RootModel,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)
from typing_extensions import override

from promptlab.records import Level, Prompt, Settings, Source
from promptlab.study.prompts import Draft, PromptSpec
from promptlab.study.strict_yaml import Mistake, Record, Route, allowed, shown
from promptlab.study.tokens import Tokens

__all__ = [
    "SETTINGS",
    "Axis",
    "Count",
    "Filling",
    "Mentions",
    "Name",
    "Names",
    "Point",
    "Range",
    "Scalar",
    "Steps",
    "Values",
    "Zip",
    "settle",
]

SETTINGS = tuple(Settings.__dataclass_fields__)
"""Columns that are generation settings."""

Point = tuple[tuple[str, Level], ...]
Mentions = list[tuple[Route, str, tuple[str, ...]]]
"""(route, name, names allowed) for every name of the prompt that an axis uses."""


def settle(column: str, level: Level) -> Level:
    """The one spelling of a level: guidance 5 and 5.0 are the same."""
    whole = isinstance(level, int) and not isinstance(level, bool)
    scale = column in ("guidance_scale", "distilled_guidance_scale")
    return float(level) if scale and whole and level is not None else level


def _scalar(value: Any) -> Level:
    if isinstance(value, str | int | float | bool | None):
        return value
    raise Mistake((), f"given {shown(value)}; allowed: text, a number, true, false or null")


Scalar = Annotated[Level, PlainValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
Name = Annotated[str, StringConstraints(max_length=64)]
Names = Annotated[tuple[Name, ...], Field(min_length=2, max_length=12)]
Number = Annotated[float, Field(strict=True)] | Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=4096)]


class Axis:
    """What every kind of axis can do."""

    kind: ClassVar[str] = ""
    manipulates: ClassVar[bool] = True
    """Its cells stay in the same prompt family (plain values and zips do so only for settings)."""

    @property
    def counts_tokens(self) -> bool:
        """Whether the model's tokenizer is needed."""
        return False

    def count(self) -> int:
        """Number of levels, by arithmetic."""
        raise NotImplementedError

    def columns(self, name: str) -> tuple[str, ...]:
        """Names of the columns that an axis called `name` has."""
        return (name,)

    def points(self, name: str) -> Iterator[Point]:
        """The levels, in order."""
        raise NotImplementedError

    def mentions(self, spec: PromptSpec) -> Mentions:
        """What this axis says about the prompt by name."""
        return []

    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        """Write one level into the draft of a cell. Raises Mistake."""

    def claims(self, name: str, point: Point, prompt: Prompt) -> Prompt:
        """The rendered prompt with what this level says about it."""
        return prompt

    def family(self, point: Point) -> Point:
        """What of a level makes up the prompt family, where this axis does."""
        return point

    def sources(self, point: Point) -> tuple[Source, ...]:
        """Files of pictures made elsewhere from this level."""
        return ()


class Filling(Axis):
    """Columns that fill slots, set settings or name the model."""

    manipulates = False

    @override
    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        draft.fills.update((column, level) for column, level in point if isinstance(level, str))


class Values(RootModel[Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=10_000)]], Filling):
    """Plain values."""

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "values"

    @override
    def count(self) -> int:
        return len(self.root)

    @override
    def points(self, name: str) -> Iterator[Point]:
        return (((name, settle(name, level)),) for level in self.root)


class Steps(Record):
    """From `start` to `stop`, both included where the step meets it, by `step` or in `num` equal steps."""

    start: Number
    stop: Number
    step: Number | None = None
    num: Annotated[int, Field(strict=True, ge=2)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Steps:
        if (self.step is None) == (self.num is None):
            raise Mistake((), "a range needs either step or num; allowed: {start, stop, step} or {start, stop, num}")
        if self.step is not None and (self.step == 0 or (self.stop - self.start) * self.step < 0):
            raise Mistake(("step",), f"step {self.step} never leads from {self.start} to {self.stop}")
        if self.num is not None and self.start == self.stop:
            raise Mistake(("stop",), f"start and stop are both {self.start}; allowed: different ends")
        return self


class Range(Record, Filling):
    """Evenly spaced numbers, exact in decimals."""

    kind: ClassVar[str] = "range"
    range: Steps

    @override
    def count(self) -> int:
        r = self.range
        if r.num is not None or r.step is None:
            return r.num or 0
        return math.floor((_exact(r.stop) - _exact(r.start)) / _exact(r.step)) + 1

    @override
    def points(self, name: str) -> Iterator[Point]:
        r, start = self.range, _exact(self.range.start)
        step = _exact(r.step) if r.step is not None else (_exact(r.stop) - start) / ((r.num or 2) - 1)
        whole = isinstance(r.start, int) and step.denominator == 1
        for i in range(self.count()):
            value = start + i * step
            yield ((name, settle(name, int(value) if whole else float(value))),)


def _exact(number: float) -> Fraction:
    return Fraction(str(number))


Row = Annotated[dict[Name, Scalar], Field(min_length=1, max_length=40)]
Rows = Annotated[tuple[Row, ...], Field(min_length=1, max_length=10_000)]
Levels = Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=10_000)]
Lists = Annotated[dict[Name, Levels], Field(min_length=1)]


class Zip(Record, Filling):
    """Several columns that vary together. The axis' own column joins their values: `cup, red, chair, blue`."""

    kind: ClassVar[str] = "zip"
    zip: Annotated[
        Annotated[Rows, Tag("<rows>")] | Annotated[Lists, Tag("<lists>")],
        Discriminator(lambda value: "<lists>" if isinstance(value, dict) else "<rows>"),
    ]

    @model_validator(mode="after")
    def _even(self) -> Zip:
        if isinstance(self.zip, dict):
            first, *rest = self.zip
            for name in rest:
                given, wanted = len(self.zip[name]), len(self.zip[first])
                if given != wanted:
                    raise Mistake(("zip", name), f"{name!r} has {given} values; allowed: {wanted}, as {first!r} has")
            return self
        for i, row in enumerate(self.zip[1:], start=1):
            for name in row:
                if name not in self.zip[0]:
                    message = f"{shown(name)} is not in the first row{allowed(name, self.zip[0])}"
                    raise Mistake(("zip", i, name), message, key=True)
            for name in self.zip[0]:
                if name not in row:
                    raise Mistake(("zip", i), f"the row lacks {name!r}, which the first row has")
        return self

    @override
    def count(self) -> int:
        return len(next(iter(self.zip.values()))) if isinstance(self.zip, dict) else len(self.zip)

    def lists(self) -> dict[str, tuple[Level, ...]] | None:
        """The values by column, where the file has them so; None where it has rows."""
        return self.zip if isinstance(self.zip, dict) else None

    def names(self) -> tuple[str, ...]:
        """The columns that vary together."""
        return tuple(self.zip if isinstance(self.zip, dict) else self.zip[0])

    @override
    def columns(self, name: str) -> tuple[str, ...]:
        return (name, *self.names())

    @override
    def points(self, name: str) -> Iterator[Point]:
        names = self.names()
        if isinstance(self.zip, dict):
            rows: Iterator[tuple[Level, ...]] = iter(tuple(zip(*self.zip.values(), strict=True)))
        else:
            rows = (tuple(row[column] for column in names) for row in self.zip)
        for row in rows:
            label = ", ".join(str(level) for level in row)
            yield ((name, label), *((c, settle(c, level)) for c, level in zip(names, row, strict=True)))
