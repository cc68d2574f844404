"""The place of one phrase: `place: {position: {of: style, among: [...]}}`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator
from typing_extensions import override

from promptlab.study.axes.axis import Axis, Column, Count, Levels, Name, Names, Point, Reference, register
from promptlab.study.prompts import Draft, PromptSpec, slots
from promptlab.study.strict_yaml import Mistake, Record
from promptlab.study.tokens import Tokens

__all__ = ["Move", "Position"]


class Move(Record):
    """`of` stands at place 1, 2, ... (or only at those in `at`) of the slots `among`."""

    of: Name
    among: Names
    at: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _places_exist(self) -> Move:
        for i, place in enumerate(self.at or ()):
            if place > len(self.among):
                raise Mistake(("at", i), f"given place {place}; allowed: 1 to {len(self.among)}")
        return self


@register
class Position(Record, Axis):
    """The place of one phrase; the others keep their order. Levels are places, from 1."""

    kind: ClassVar[str] = "position"
    position: Move

    @override
    def levels(self, name: str) -> Levels:
        move = self.position
        places = move.at or range(1, len(move.among) + 1)
        return Levels((Column(name, unit="place"),), len(places), lambda: ((place,) for place in places), move.among)

    @override
    def references(self, prompt: PromptSpec) -> list[Reference]:
        move, known = self.position, slots(prompt.template)
        among = [Reference(("position", "among", i), name, known, moves=True) for i, name in enumerate(move.among)]
        return [*among, Reference(("position", "of"), move.of, move.among)]

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        place, move = int(str(point[0][1])), self.position
        others = [name for name in slots(prompt.template) if name in move.among and name != move.of]
        draft.arrange([*others[: place - 1], move.of, *others[place - 1 :]], prompt)
