"""Other wordings of the same: `wording: {paraphrase: [a photo of, a picture of]}`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints
from typing_extensions import override

from promptlab.study.axes.axis import Axis, Column, Levels, Point, register
from promptlab.study.prompts import Draft, PromptSpec, Text
from promptlab.study.strict_yaml import Record, Route
from promptlab.study.tokens import Tokens

__all__ = ["Paraphrase"]

Wording = Annotated[Text, StringConstraints(pattern=r"\S")]


@register
class Paraphrase(Record, Axis):
    """Wordings that mean the same, in the slot of the axis' name. Levels are the wordings.

    What changes between them is the noise that any other change of words is held against.
    """

    kind: ClassVar[str] = "paraphrase"
    paraphrase: Annotated[tuple[Wording, ...], Field(min_length=2, max_length=50)]

    @override
    def levels(self, name: str) -> Levels:
        wordings = self.paraphrase
        return Levels((Column(name, fills=True),), len(wordings), lambda: ((wording,) for wording in wordings))

    @override
    def route(self, index: int) -> Route:
        return ("paraphrase", index)

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        name, wording = point[0]
        draft.fills[name] = str(wording)
