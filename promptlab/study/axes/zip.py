"""Several names that vary together: `pair: {zip: [{noun: cup, colour: red}, ...]}`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

from pydantic import Discriminator, Field, Tag, model_validator
from typing_extensions import override

from promptlab.records import Level
from promptlab.study.axes.axis import Column, Filling, Levels, Name, Scalar, register, use_of
from promptlab.study.strict_yaml import Mistake, Record, Route, allowed, shown

__all__ = ["Zip"]

Row = Annotated[dict[Name, Scalar], Field(min_length=1, max_length=40)]
Rows = Annotated[tuple[Row, ...], Field(min_length=1, max_length=10_000)]
Values = Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=10_000)]
Lists = Annotated[dict[Name, Values], Field(min_length=1)]


@register
class Zip(Record, Filling):
    """Several columns that vary together. The axis' own column joins their values: `cup, red, chair, blue`."""

    kind: ClassVar[str] = "zip"
    zip: Annotated[
        Annotated[Rows, Tag("<rows>")] | Annotated[Lists, Tag("<lists>")],
        Discriminator(lambda value: "<lists>" if isinstance(value, dict) else "<rows>"),
    ]

    @model_validator(mode="after")
    def _even(self) -> Zip:
        if isinstance(self.zip, dict):
            first, *rest = self.zip
            for name in rest:
                count, expected = len(self.zip[name]), len(self.zip[first])
                if count != expected:
                    message = f"{name!r} has {count} values; allowed: {expected}, as {first!r} has"
                    raise Mistake(("zip", name), message)
            return self
        for i, row in enumerate(self.zip[1:], start=1):
            for name in row:
                if name not in self.zip[0]:
                    message = f"{shown(name)} is not in the first row{allowed(name, self.zip[0])}"
                    raise Mistake(("zip", i, name), message, key=True)
            for name in self.zip[0]:
                if name not in row:
                    raise Mistake(("zip", i), f"the row lacks {name!r}, which the first row has")
        return self

    def _names(self) -> tuple[str, ...]:
        return tuple(self.zip if isinstance(self.zip, dict) else self.zip[0])

    def _rows(self) -> Iterator[tuple[Level, ...]]:
        if isinstance(self.zip, dict):
            yield from zip(*self.zip.values(), strict=True)
        else:
            yield from (tuple(row[name] for name in self._names()) for row in self.zip)

    @override
    def levels(self, name: str) -> Levels:
        count = len(next(iter(self.zip.values()))) if isinstance(self.zip, dict) else len(self.zip)
        columns = (Column(column, "value", fills=use_of(column) == "text") for column in self._names())
        return Levels((Column(name), *columns), count, self._labelled)

    def _labelled(self) -> Iterator[tuple[Level, ...]]:
        return ((", ".join(str(level) for level in row), *row) for row in self._rows())

    @override
    def written(self, name: str) -> Iterable[tuple[Route, str, Level]]:
        if isinstance(self.zip, dict):
            for column, levels in self.zip.items():
                yield from ((("zip", column, i), column, level) for i, level in enumerate(levels))
        else:
            for i, row in enumerate(self.zip):
                yield from ((("zip", i, column), column, level) for column, level in row.items())
