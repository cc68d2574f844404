"""Kinds of axes that rearrange a prompt and leave its content alone: cells of one prompt family differ in them.

Word order, the place of one phrase, other wordings of the same, exchanged attributes, and objects asked for alone.
Those that change a prompt's length are in `promptlab.study.axes.lengths`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints
from typing_extensions import override

from promptlab.study.axes.axis import Axis, Count, Mentions, Name, Names, Point
from promptlab.study.prompts import Draft, PromptSpec, Text, slots
from promptlab.study.strict_yaml import Mistake, Record
from promptlab.study.tokens import Tokens

__all__ = ["Alone", "Order", "Paraphrase", "Position", "Swap"]

Wording = Annotated[Text, StringConstraints(pattern=r"\S")]


class Order(Record, Axis):
    """All permutations of the named slots' contents. Levels read `first, second`."""

    kind: ClassVar[str] = "order"
    order: Names

    @override
    def count(self) -> int:
        return math.factorial(len(self.order))

    @override
    def points(self, name: str) -> Iterator[Point]:
        return (((name, ", ".join(names)),) for names in itertools.permutations(self.order))

    @override
    def mentions(self, spec: PromptSpec) -> Mentions:
        return [(("order", i), name, slots(spec.template)) for i, name in enumerate(self.order)]

    @override
    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        _stand(draft, spec, tuple(str(point[0][1]).split(", ")))


def _stand(draft: Draft, spec: PromptSpec, names: tuple[str, ...]) -> None:
    places = [slot for slot in slots(spec.template) if slot in names]
    draft.arrangement.update(zip(places, names, strict=True))


class Move(Record):
    """`of` stands at place 1, 2, ... (or only at those in `at`) of the slots `among`."""

    of: Name
    among: Names
    at: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None


class Position(Record, Axis):
    """The place of one phrase; the others keep their order. Levels are places, from 1."""

    kind: ClassVar[str] = "position"
    position: Move

    @override
    def count(self) -> int:
        return len(self.position.at or self.position.among)

    @override
    def points(self, name: str) -> Iterator[Point]:
        return (((name, k),) for k in self.position.at or range(1, self.count() + 1))

    @override
    def mentions(self, spec: PromptSpec) -> Mentions:
        move, known = self.position, slots(spec.template)
        places: Mentions = [(("position", "among", i), name, known) for i, name in enumerate(move.among)]
        return [*places, (("position", "of"), move.of, move.among)]

    @override
    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        k, move = int(str(point[0][1])), self.position
        if k > len(move.among):
            raise Mistake(("position", "at"), f"given place {k}; allowed: 1 to {len(move.among)}")
        rest = [other for other in slots(spec.template) if other in move.among and other != move.of]
        _stand(draft, spec, (*rest[: k - 1], move.of, *rest[k - 1 :]))


class Paraphrase(Record, Axis):
    """Wordings that mean the same, in the slot of the axis' name. Levels are the wordings.

    What changes between them is the noise that any other change of words is held against.
    """

    kind: ClassVar[str] = "paraphrase"
    paraphrase: Annotated[tuple[Wording, ...], Field(min_length=2, max_length=50)]

    @override
    def count(self) -> int:
        return len(self.paraphrase)

    @override
    def points(self, name: str) -> Iterator[Point]:
        return (((name, wording),) for wording in self.paraphrase)

    @override
    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        draft.fills[name] = str(point[0][1])


class Swap(Record, Axis):
    """Two levels: `as_written`, and `swapped`, where two objects exchange all their attributes."""

    kind: ClassVar[str] = "swap"
    swap: Annotated[tuple[Name, ...], Field(min_length=2, max_length=2)]

    @override
    def count(self) -> int:
        return 2

    @override
    def points(self, name: str) -> Iterator[Point]:
        return iter((((name, "as_written"),), ((name, "swapped"),)))

    @override
    def mentions(self, spec: PromptSpec) -> Mentions:
        return [(("swap", i), name, tuple(spec.objects)) for i, name in enumerate(self.swap)]

    @override
    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        draft.pair, draft.swap = (self.swap[0], self.swap[1]), point[0][1] == "swapped"


class Alone(Record, Axis):
    """`together` first, then each of the named objects without the others: the one-object controls as cells."""

    kind: ClassVar[str] = "alone"
    alone: Annotated[tuple[Name, ...], Field(min_length=1, max_length=12)]

    @override
    def count(self) -> int:
        return len(self.alone) + 1

    @override
    def points(self, name: str) -> Iterator[Point]:
        return (((name, level),) for level in ("together", *self.alone))

    @override
    def mentions(self, spec: PromptSpec) -> Mentions:
        return [(("alone", i), name, tuple(spec.objects)) for i, name in enumerate(self.alone)]

    @override
    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        draft.only = None if point[0][1] == "together" else str(point[0][1])
