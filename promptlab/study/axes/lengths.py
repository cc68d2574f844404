"""Kinds of axes that change how long a prompt is: specificity beside filler as long, and exact token counts.

Both keep the prompt family: what differs between its cells is how much is said, or where.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema
from typing_extensions import override

from promptlab.study.axes.axis import Axis, Count, Mentions, Name, Point
from promptlab.study.prompts import Draft, PromptSpec, Text, render, slots
from promptlab.study.strict_yaml import Mistake, Record, Route
from promptlab.study.tokens import FILLER, Tokens, filler_words

__all__ = ["Ladder", "Padding", "TokenLength"]

Filler = Annotated[Text, StringConstraints(pattern=r"\S")]


class Ladder(Record, Axis):
    """The first k details in the slot of the axis' name, k from 0. With `control`, each k also as filler as long.

    The arm is the column `NAME_arm`: details or filler. `match` says what is as long: words, or tokens of the model.
    """

    kind: ClassVar[str] = "ladder"
    ladder: Annotated[tuple[Filler, ...], Field(min_length=1, max_length=50)]
    control: Annotated[bool, Field(strict=True)] = False
    match: Literal["words", "tokens"] = "words"
    filler: Filler = FILLER
    join: Text = ", "

    @property
    @override
    def counts_tokens(self) -> bool:
        return self.control and self.match == "tokens"

    @override
    def count(self) -> int:
        return (len(self.ladder) + 1) * (2 if self.control else 1)

    @override
    def columns(self, name: str) -> tuple[str, ...]:
        return (name, f"{name}_arm") if self.control else (name,)

    @override
    def points(self, name: str) -> Iterator[Point]:
        for k in range(len(self.ladder) + 1):
            if not self.control:
                yield ((name, k),)
                continue
            for arm in ("details", "filler"):
                yield ((name, k), (f"{name}_arm", arm))

    @override
    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        text = self.join.join(self.ladder[: int(str(point[0][1]))])
        if len(point) > 1 and point[1][1] == "filler":
            draft.fillers.add(name)
            text = self._as_long(text, tokens)
        draft.fills[name] = text

    def _as_long(self, text: str, tokens: Tokens | None) -> str:
        if self.match == "words" or not text:
            return _filler(None, len(text.split()), self.filler, ("filler",))
        length = _counter(tokens, ("match",)).length(text)
        return _filler(_counter(tokens, ("match",)), length, self.filler, ("filler",))


def _filler(tokens: Tokens | None, count: int, phrases: str, route: Route) -> str:
    text = tokens.filler(count, phrases) if tokens else filler_words(count, phrases)
    if text is None:
        unit = "token" if tokens else "word"
        message = (
            f"these phrases cannot make {count} {unit}s; allowed: phrases with commas between, some of 1 and 2 {unit}s"
        )
        raise Mistake(route, message)
    return text


def _counter(tokens: Tokens | None, route: Route) -> Tokens:
    if tokens is None:
        raise Mistake(route, "this axis counts tokens, and the model's tokenizer is not at hand: fetch the model first")
    return tokens


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


class Padding(Record):
    """Prompts of `to` tokens, both marks counted: filler at the end, and before `needle` to bring it to token `at`.

    Token 0 is CLIP's beginning mark, so the first word is token 1.
    """

    to: Counts
    needle: Name | None = None
    at: Counts | None = None
    filler: Filler = FILLER


class TokenLength(Record, Axis):
    """Exact token counts, and the exact token at which a phrase begins (column `NAME_at`)."""

    kind: ClassVar[str] = "tokens"
    tokens: Padding

    @property
    @override
    def counts_tokens(self) -> bool:
        return True

    @override
    def count(self) -> int:
        return len(self.tokens.to) * len(self.tokens.at or (0,))

    @override
    def columns(self, name: str) -> tuple[str, ...]:
        return (name, f"{name}_at") if self.tokens.at else (name,)

    @override
    def points(self, name: str) -> Iterator[Point]:
        for to in self.tokens.to:
            if not self.tokens.at:
                yield ((name, to),)
            for at in self.tokens.at or ():
                yield ((name, to), (f"{name}_at", at))

    @override
    def mentions(self, spec: PromptSpec) -> Mentions:
        needle = self.tokens.needle
        if needle is None and self.tokens.at:
            raise Mistake(("tokens", "at"), "at places a needle: name it, as in needle: first", key=True)
        return [(("tokens", "needle"), needle, slots(spec.template))] if needle is not None else []

    @override
    def apply(self, name: str, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        draft.needle, draft.pad = self.tokens.needle, name

    def pad(self, point: Point, draft: Draft, tokens: Tokens | None, spec: PromptSpec) -> None:
        """Fill a draft to the point's token count; comes after all other axes. Raises Mistake where it cannot be."""
        counter = _counter(tokens, ("tokens",))
        if len(point) > 1:
            self._place(int(str(point[1][1])), draft, counter, spec)
        to = int(str(point[0][1]))
        total = counter.spans(render(spec, draft)).total
        if total > to:
            route: Route = ("tokens", "to", self.tokens.to.index(to))
            raise Mistake(route, f"given {to} tokens; allowed: at least {total}, which this prompt needs")
        words = self._words(to - total, counter)
        draft.after = f", {words}" if to - total > 1 else f" {words}" if words else ""
        got = counter.spans(render(spec, draft)).total
        if got != to:
            raise Mistake(("tokens", "filler"), f"this filler makes {got} tokens where {to} are asked for")

    def _place(self, at: int, draft: Draft, counter: Tokens, spec: PromptSpec) -> None:
        first = self._needle(draft, counter, spec)
        if first > at:
            route: Route = ("tokens", "at", (self.tokens.at or ()).index(at))
            raise Mistake(route, f"given token {at}; allowed: at least {first}, where it stands without filler")
        words = self._words(at - first, counter)
        draft.before = f"{words}," if at - first > 1 else words
        got = self._needle(draft, counter, spec)
        if got != at:
            raise Mistake(("tokens", "filler"), f"this filler brings the needle to token {got} where {at} is asked for")

    def _needle(self, draft: Draft, counter: Tokens, spec: PromptSpec) -> int:
        wanted = draft.only or self.tokens.needle
        spans = counter.spans(render(spec, draft)).phrases
        first = next((span.first for span in spans if span.name == wanted and span.stop), None)
        if first is None:
            raise Mistake(("tokens", "needle"), f"the needle {wanted!r} is not in the prompt of this cell")
        return first

    def _words(self, count: int, counter: Tokens) -> str:
        """Filler of `count` tokens, from two on one of them the comma."""
        return _filler(counter, count - 1 if count > 1 else count, self.tokens.filler, ("tokens", "filler"))
