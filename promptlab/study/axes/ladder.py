"""More and more details: `details: {ladder: [shiny, on a table], control: true}`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from promptlab.records import Level
from promptlab.study.axes.axis import Axis, Column, Filler, Levels, Point, filler_text, register, require_tokens
from promptlab.study.prompts import Draft, PromptSpec, Text
from promptlab.study.strict_yaml import Record
from promptlab.study.tokens import FILLER, Tokens

__all__ = ["Ladder"]


@register
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
    def levels(self, name: str) -> Levels:
        column, steps = Column(name, unit="details", fills=True), len(self.ladder) + 1
        if not self.control:
            return Levels((column,), steps, lambda: ((k,) for k in range(steps)))
        return Levels((column, Column(f"{name}_arm", "arm")), 2 * steps, self._arms)

    def _arms(self) -> Iterator[tuple[Level, ...]]:
        for k in range(len(self.ladder) + 1):
            yield k, "details"
            yield k, "filler"

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        name, k = point[0]
        text = self.join.join(self.ladder[: int(str(k))])
        if len(point) > 1 and point[1][1] == "filler":
            draft.fillers.add(name)
            text = self._as_long(text, tokens)
        draft.fills[name] = text

    def _as_long(self, text: str, tokens: Tokens | None) -> str:
        """Filler of as many words or tokens as the text has."""
        if self.match == "words" or not text:
            return filler_text(len(text.split()), self.filler, None, ("filler",))
        counter = require_tokens(tokens, ("match",))
        return filler_text(counter.length(text), self.filler, counter, ("filler",))
