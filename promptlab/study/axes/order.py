"""Word order: `order: {order: [first, second]}`."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

from typing_extensions import override

from promptlab.study.axes.axis import Axis, Column, Levels, Names, Point, Reference, register
from promptlab.study.prompts import Draft, PromptSpec, slots
from promptlab.study.strict_yaml import Record
from promptlab.study.tokens import Tokens

__all__ = ["Order"]


@register
class Order(Record, Axis):
    """All permutations of the named slots' contents. Levels read `first, second`."""

    kind: ClassVar[str] = "order"
    order: Names

    @override
    def levels(self, name: str) -> Levels:
        return Levels(
            (Column(name),),
            math.factorial(len(self.order)),
            lambda: ((", ".join(names),) for names in itertools.permutations(self.order)),
            self.order,
        )

    @override
    def references(self, prompt: PromptSpec) -> list[Reference]:
        known = slots(prompt.template)
        return [Reference(("order", i), name, known, moves=True) for i, name in enumerate(self.order)]

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        draft.arrange(str(point[0][1]).split(", "), prompt)
