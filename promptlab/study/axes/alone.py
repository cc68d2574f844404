"""Objects alone: `objects: {alone: [first, second]}`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from typing_extensions import override

from promptlab.study.axes.axis import Axis, Column, Levels, Name, Point, Reference, register
from promptlab.study.prompts import Draft, PromptSpec
from promptlab.study.strict_yaml import Record
from promptlab.study.tokens import Tokens

__all__ = ["Alone"]


@register
class Alone(Record, Axis):
    """`together` first, then each of the named objects without the others: the one-object controls as cells."""

    kind: ClassVar[str] = "alone"
    alone: Annotated[tuple[Name, ...], Field(min_length=1, max_length=12)]

    @override
    def levels(self, name: str) -> Levels:
        levels = ("together", *self.alone)
        return Levels((Column(name),), len(levels), lambda: ((level,) for level in levels), self.alone)

    @override
    def references(self, prompt: PromptSpec) -> list[Reference]:
        return [Reference(("alone", i), name, tuple(prompt.objects)) for i, name in enumerate(self.alone)]

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        draft.only = None if point[0][1] == "together" else str(point[0][1])
