"""Plain values: `colour: [red, green]`, of a slot, of a setting, or of `model`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, RootModel
from typing_extensions import override

from promptlab.records import Level
from promptlab.study.axes.axis import Column, Filling, Levels, Scalar, Use, register, use_of
from promptlab.study.strict_yaml import Route

__all__ = ["Values"]


@register
class Values(RootModel[Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=10_000)]], Filling):
    """Plain values."""

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "values"
    varies: ClassVar[tuple[Use, ...]] = ("text", "setting", "model")

    @override
    def levels(self, name: str) -> Levels:
        column = Column(name, fills=use_of(name) == "text")
        return Levels((column,), len(self.root), lambda: ((level,) for level in self.root))

    @override
    def written(self, name: str) -> Iterable[tuple[Route, str, Level]]:
        return ((self.route(i), name, level) for i, level in enumerate(self.root))

    @override
    def route(self, index: int) -> Route:
        return (index,)
