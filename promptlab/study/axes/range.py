"""Evenly spaced numbers: `guidance_scale: {range: {start: 0, stop: 8, step: 2}}`, or `num` in place of `step`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Annotated, ClassVar

from pydantic import Field, model_validator
from typing_extensions import override

from promptlab.records import Level
from promptlab.study.axes.axis import MAX_ENUMERATED, Column, Filling, Levels, Use, register
from promptlab.study.strict_yaml import Mistake, Record, Route

__all__ = ["Range", "Steps"]

Number = Annotated[float, Field(strict=True)] | Annotated[int, Field(strict=True)]


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

    def count(self) -> int:
        """How many numbers there are, by arithmetic."""
        if self.step is None:
            return self.num or 0
        return math.floor((_exact(self.stop) - _exact(self.start)) / _exact(self.step)) + 1

    def numbers(self) -> Iterator[int | float]:
        """The numbers, exact in decimals; whole where start and step are."""
        start = _exact(self.start)
        step = _exact(self.step) if self.step is not None else (_exact(self.stop) - start) / ((self.num or 2) - 1)
        whole = isinstance(self.start, int) and step.denominator == 1
        for i in range(self.count()):
            value = start + i * step
            yield int(value) if whole else float(value)


def _exact(number: float) -> Fraction:
    return Fraction(str(number))


@register
class Range(Record, Filling):
    """Evenly spaced numbers, exact in decimals."""

    kind: ClassVar[str] = "range"
    varies: ClassVar[tuple[Use, ...]] = ("setting",)
    range: Steps

    @override
    def levels(self, name: str) -> Levels:
        steps = self.range
        return Levels((Column(name),), steps.count(), lambda: ((number,) for number in steps.numbers()))

    @override
    def written(self, name: str) -> Iterable[tuple[Route, str, Level]]:
        """Every number, the first at `start` and the others at `stop`."""
        levels = self.levels(name)
        for i, point in enumerate(levels if levels.count <= MAX_ENUMERATED else ()):
            yield ("range", "stop" if i else "start"), name, point[0][1]
