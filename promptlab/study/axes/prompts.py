"""An axis whose levels are the prompts of a list: `text: {prompts: FILE, format: lines, only: {tag: [color_attr]}}`.

It fills the slot of its name with each prompt, brings the list's own columns along (a tag; settings and models of
pictures made elsewhere), and says what each prompt claims (`promptlab.study.prompt_lists`). A prompt and its swapped
twin make up one prompt family.

A relative path is looked for beside the study, then in the folder that PROMPTLAB_BENCHMARKS names, so that a study may
speak of a benchmark without saying where somebody keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator
from typing_extensions import override

from promptlab.errors import StudyError, nearest
from promptlab.records import Level, Phrase, Prompt, Source
from promptlab.study.axes.axis import Filling, Name, Point, Scalar, settle
from promptlab.study.prompt_lists import Listed, format_of, read_list
from promptlab.study.strict_yaml import Mistake, Record, allowed, shown

__all__ = ["PLACE", "Prompts"]

PLACE = "PROMPTLAB_BENCHMARKS"
"""Environment variable: the folder in which prompt lists are kept."""


def _found(given: str, info: ValidationInfo) -> str:
    """Where the list, or the folder of its pictures, lies."""
    beside = Path((info.context or {}).get("folder", "."))
    kept = os.environ.get(PLACE)
    places = [folder / Path(given).expanduser() for folder in (beside, *((Path(kept),) if kept else ()))]
    for path in places:
        if path.exists():
            return str(path)
    near = [path.name for path in places[0].parent.iterdir()] if places[0].parent.is_dir() else []
    hint = "" if kept else f"; set {PLACE} to the folder that holds it"
    raise Mistake((), f"there is no {given} beside the study{hint}{nearest(Path(given).name, near)}")


File = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_found)]
Kept = Annotated[tuple[Scalar, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else [v])]


class Prompts(Record, Filling):
    """Every prompt of the list `prompts`, or those alone whose columns have the levels in `only`.

    `root` is the folder in which the files of a list of pictures lie (else they lie beside the list).
    """

    kind: ClassVar[str] = "prompts"
    prompts: File
    format: Literal["lines", "geneval", "pictures"] | None = None
    only: dict[Name, Kept] = Field(default_factory=dict)
    root: File | None = None

    @model_validator(mode="after")
    def _readable(self) -> Prompts:
        try:
            listed = self._all
        except StudyError as error:
            raise Mistake(("prompts",), str(error)) from None
        columns = [column for column, _ in listed[0].columns]
        for column, levels in self.only.items():
            if column not in columns:
                raise Mistake(("only", column), f"{shown(column)} is no column{allowed(column, columns)}", key=True)
            there = {dict(item.columns)[column] for item in listed}
            for level in levels:
                if settle(column, level) not in there:
                    names = allowed(str(level), sorted(str(other) for other in there))
                    raise Mistake(("only", column), f"{shown(level)} is no {column} of the list{names}")
        if not self.listed:
            raise Mistake(("only",), "no prompt of the list is left", key=True)
        return self

    @cached_property
    def _all(self) -> tuple[Listed, ...]:
        path = Path(self.prompts)
        return read_list(path, self.format or format_of(path), Path(self.root) if self.root else None)

    @cached_property
    def listed(self) -> tuple[Listed, ...]:
        """The prompts, in the order of the list."""
        rules = {column: {settle(column, level) for level in levels} for column, levels in self.only.items()}
        return tuple(item for item in self._all if all(dict(item.columns)[column] in rules[column] for column in rules))

    @cached_property
    def _texts(self) -> frozenset[str]:
        return frozenset(item.prompt.text for item in self.listed)

    @cached_property
    def _by_point(self) -> dict[tuple[Level, ...], Listed]:
        return {(item.prompt.text, *(level for _, level in item.columns)): item for item in self.listed}

    def _item(self, point: Point) -> Listed:
        return self._by_point[tuple(level for _, level in point)]

    def names(self) -> tuple[str, ...]:
        """The columns that the list brings along."""
        return tuple(column for column, _ in self.listed[0].columns)

    @override
    def count(self) -> int:
        return len(self.listed)

    @override
    def columns(self, name: str) -> tuple[str, ...]:
        return (name, *self.names())

    @override
    def points(self, name: str) -> Iterator[Point]:
        return (((name, item.prompt.text), *item.columns) for item in self.listed)

    @override
    def apply(self, name: str, point: Point, draft: Any, tokens: Any, spec: Any) -> None:
        # settings of pictures made elsewhere are levels of their own and fill no slot
        draft.fills[name] = str(point[0][1])

    @override
    def family(self, point: Point) -> Point:
        (name, text), twin = point[0], self._item(point).prompt.swapped
        return ((name, min(str(text), twin) if twin in self._texts and twin is not None else text),)

    @override
    def sources(self, point: Point) -> tuple[Source, ...]:
        return self._item(point).sources

    @override
    def claims(self, name: str, point: Point, prompt: Prompt) -> Prompt:
        """The prompt with the places, claims, twin and controls of its listed part, wherever that stands in it."""
        own = self._item(point).prompt
        whole = next((p for p in prompt.phrases if p.name == name), None)
        if whole is None or whole.text != own.text:
            return prompt
        head, tail = prompt.text[: whole.start], prompt.text[whole.end :]
        moved = tuple(replace(p, start=p.start + whole.start, end=p.end + whole.start) for p in own.phrases)
        phrases: tuple[Phrase, ...] = tuple(sorted((*prompt.phrases, *moved), key=lambda p: (p.start, -p.end)))
        swapped = None if own.swapped is None else f"{head}{own.swapped}{tail}"
        alone = tuple(f"{head}{text}{tail}" for text in own.alone)
        return replace(
            prompt,
            phrases=phrases,
            bindings=(*prompt.bindings, *own.bindings),
            swapped=swapped or prompt.swapped,
            alone=alone or prompt.alone,
        )
