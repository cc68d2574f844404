"""Exchanged attributes: `assignment: {swap: [first, second]}`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from typing_extensions import override

from promptlab.study.axes.axis import Axis, Column, Levels, Name, Point, Reference, register
from promptlab.study.prompts import Draft, PromptSpec
from promptlab.study.strict_yaml import Record
from promptlab.study.tokens import Tokens

__all__ = ["Swap"]


@register
class Swap(Record, Axis):
    """Two levels: `as_written`, and `swapped`, where two objects exchange all their attributes."""

    kind: ClassVar[str] = "swap"
    swap: Annotated[tuple[Name, ...], Field(min_length=2, max_length=2)]

    @override
    def levels(self, name: str) -> Levels:
        return Levels((Column(name),), 2, lambda: (("as_written",), ("swapped",)), self.swap)

    @override
    def references(self, prompt: PromptSpec) -> list[Reference]:
        return [Reference(("swap", i), name, tuple(prompt.objects)) for i, name in enumerate(self.swap)]

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        draft.pair, draft.swap = (self.swap[0], self.swap[1]), point[0][1] == "swapped"
