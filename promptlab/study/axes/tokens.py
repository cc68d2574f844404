"""Exact token counts: `length: {tokens: {to: [20, 77], needle: first, at: 9}}`."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema
from typing_extensions import override

from promptlab.study.axes.axis import (
    Axis,
    Column,
    Count,
    Filler,
    Levels,
    Name,
    Point,
    Reference,
    filler_text,
    register,
    require_tokens,
)
from promptlab.study.prompts import Draft, PromptSpec, render, slots
from promptlab.study.strict_yaml import Mistake, Record, Route
from promptlab.study.tokens import FILLER, Tokens

__all__ = ["TargetLength", "TokenLength"]


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Counts = Annotated[
    tuple[Count, ...],
    Field(min_length=1, max_length=1000),
    BeforeValidator(_as_tuple),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 4096},
                {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 4096}, "minItems": 1},
            ]
        }
    ),
]


class TargetLength(Record):
    """Prompts of `to` tokens, both marks counted: filler at the end, and before `needle` to bring it to token `at`.

    Token 0 is CLIP's beginning mark, so the first word is token 1.
    """

    to: Counts
    needle: Name | None = None
    at: Counts | None = None
    filler: Filler = FILLER


@register
class TokenLength(Record, Axis):
    """Exact token counts, and the exact token at which a phrase begins (column `NAME_at`)."""

    kind: ClassVar[str] = "tokens"
    last: ClassVar[bool] = True
    tokens: TargetLength

    @property
    @override
    def counts_tokens(self) -> bool:
        return True

    @override
    def levels(self, name: str) -> Levels:
        to, at = self.tokens.to, self.tokens.at
        column = Column(name, unit="tokens")
        if at is None:
            return Levels((column,), len(to), lambda: ((length,) for length in to))
        return Levels((column, Column(f"{name}_at", "at", "tokens")), len(to) * len(at), lambda: product(to, at))

    @override
    def references(self, prompt: PromptSpec) -> list[Reference]:
        needle = self.tokens.needle
        if needle is None and self.tokens.at:
            raise Mistake(("tokens", "at"), "at places a needle: name it, as in needle: first", key=True)
        return [] if needle is None else [Reference(("tokens", "needle"), needle, slots(prompt.template))]

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        """Fill a draft, in which all other axes have written, to the point's token count."""
        counter = require_tokens(tokens, ("tokens",))
        name, to = point[0][0], int(str(point[0][1]))
        draft.pad, draft.needle, draft.before, draft.after = name, self.tokens.needle, "", ""
        if len(point) > 1:
            self._place_needle(int(str(point[1][1])), draft, prompt, counter)
        total = counter.spans(render(prompt, draft)).total
        if total > to:
            route: Route = ("tokens", "to", self.tokens.to.index(to))
            raise Mistake(route, f"given {to} tokens; allowed: at least {total}, which this prompt needs")
        words = self._filler(to - total, counter)
        draft.after = f", {words}" if to - total > 1 else f" {words}" if words else ""
        reached = counter.spans(render(prompt, draft)).total
        if reached != to:
            raise Mistake(("tokens", "filler"), f"with this filler the prompt has {reached} tokens instead of {to}")

    def _place_needle(self, at: int, draft: Draft, prompt: PromptSpec, counter: Tokens) -> None:
        first = self._needle_token(draft, prompt, counter)
        if first > at:
            route: Route = ("tokens", "at", (self.tokens.at or ()).index(at))
            raise Mistake(route, f"given token {at}; allowed: at least {first}, where it stands without filler")
        words = self._filler(at - first, counter)
        draft.before = f"{words}," if at - first > 1 else words
        reached = self._needle_token(draft, prompt, counter)
        if reached != at:
            raise Mistake(("tokens", "filler"), f"with this filler the needle is token {reached} instead of {at}")

    def _needle_token(self, draft: Draft, prompt: PromptSpec, counter: Tokens) -> int:
        """The token at which the needle begins."""
        needle = draft.only or self.tokens.needle
        spans = counter.spans(render(prompt, draft)).phrases
        first = next((span.first for span in spans if span.name == needle and span.stop), None)
        if first is None:
            raise Mistake(("tokens", "needle"), f"the needle {needle!r} is not in the prompt of this cell")
        return first

    def _filler(self, count: int, counter: Tokens) -> str:
        """Filler of `count` tokens, from two on one of them the comma."""
        return filler_text(count - 1 if count > 1 else count, self.tokens.filler, counter, ("tokens", "filler"))
