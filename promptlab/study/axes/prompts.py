"""The prompts of a list: `text: {prompts: FILE, format: lines, only: {tag: [color_attr]}}`.

The axis fills the slot of its name with each prompt, brings the list's own columns along (a tag; settings and models of
images that others made), and says what each prompt claims (`promptlab.study.prompt_lists`). A prompt and its swapped
twin make up one prompt family.

A relative path is looked for in the study's folder, then in the folder that PROMPTLAB_BENCHMARKS names, so that a study
can use a benchmark without saying where somebody keeps it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator
from typing_extensions import override

from promptlab.errors import StudyError, nearest
from promptlab.records import Level, Phrase, Prompt, Source
from promptlab.study.axes.axis import Axis, Column, Levels, Name, Point, Scalar, register, settle
from promptlab.study.prompt_lists import ListedPrompt, format_of, read_list
from promptlab.study.prompts import Draft, PromptSpec
from promptlab.study.strict_yaml import Mistake, Record, allowed, shown
from promptlab.study.tokens import Tokens

__all__ = ["BENCHMARKS", "Prompts"]

BENCHMARKS = "PROMPTLAB_BENCHMARKS"
"""Environment variable: the folder in which prompt lists are kept."""


def _existing(path: str, info: ValidationInfo) -> str:
    """Where the list, or the folder of its images, lies."""
    study_folder = Path((info.context or {}).get("folder", "."))
    benchmarks = os.environ.get(BENCHMARKS)
    folders = (study_folder, *((Path(benchmarks),) if benchmarks else ()))
    candidates = [folder / Path(path).expanduser() for folder in folders]
    for candidate in candidates:
        if candidate.exists():
            return str(candidate)
    folder = candidates[0].parent
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    hint = "" if benchmarks else f"; set {BENCHMARKS} to the folder that holds it"
    raise Mistake((), f"there is no {path} beside the study{hint}{nearest(Path(path).name, names)}")


File = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_existing)]
OneOrMore = Annotated[tuple[Scalar, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else [v])]


@register
class Prompts(Record, Axis):
    """Every prompt of the list `prompts`, or those alone whose columns have the levels in `only`.

    `root` is the folder in which the files of a list of pictures lie (else they lie beside the list).
    """

    kind: ClassVar[str] = "prompts"
    manipulates: ClassVar[bool] = False
    prompts: File
    format: Literal["lines", "geneval", "pictures"] | None = None
    only: dict[Name, OneOrMore] = Field(default_factory=dict)
    root: File | None = None

    @model_validator(mode="after")
    def _readable(self) -> Prompts:
        try:
            prompts = self._whole_list
        except StudyError as error:
            raise Mistake(("prompts",), str(error)) from None
        columns = [column for column, _ in prompts[0].columns]
        for column, levels in self.only.items():
            if column not in columns:
                raise Mistake(("only", column), f"{shown(column)} is no column{allowed(column, columns)}", key=True)
            known = {dict(item.columns)[column] for item in prompts}
            for level in levels:
                if settle(column, level) not in known:
                    names = allowed(str(level), sorted(str(other) for other in known))
                    raise Mistake(("only", column), f"{shown(level)} is no {column} of the list{names}")
        if not self.listed_prompts:
            raise Mistake(("only",), "no prompt of the list is left", key=True)
        return self

    @cached_property
    def _whole_list(self) -> tuple[ListedPrompt, ...]:
        path = Path(self.prompts)
        return read_list(path, self.format or format_of(path), Path(self.root) if self.root else None)

    @cached_property
    def _chosen(self) -> tuple[ListedPrompt, ...]:
        rules = {column: {settle(column, level) for level in levels} for column, levels in self.only.items()}
        return tuple(
            item for item in self._whole_list if all(dict(item.columns)[column] in rules[column] for column in rules)
        )

    @cached_property
    def _texts(self) -> frozenset[str]:
        return frozenset(item.prompt.text for item in self.listed_prompts)

    @cached_property
    def _by_point(self) -> dict[tuple[Level, ...], ListedPrompt]:
        return {(item.prompt.text, *(level for _, level in item.columns)): item for item in self.listed_prompts}

    def _item(self, point: Point) -> ListedPrompt:
        return self._by_point[tuple(level for _, level in point)]

    @property
    @override
    def listed_prompts(self) -> tuple[ListedPrompt, ...]:
        """The prompts, in the order of the list."""
        return self._chosen

    @override
    def levels(self, name: str) -> Levels:
        columns = (Column(column, "value") for column, _ in self.listed_prompts[0].columns)
        return Levels(
            (Column(name, fills=True), *columns),
            len(self.listed_prompts),
            lambda: ((item.prompt.text, *(level for _, level in item.columns)) for item in self.listed_prompts),
        )

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        # Settings of images that others made are levels of their own and fill no slot.
        name, text = point[0]
        draft.fills[name] = str(text)

    @override
    def family(self, point: Point) -> Point:
        (name, text), twin = point[0], self._item(point).prompt.swapped
        return ((name, min(str(text), twin) if twin in self._texts and twin is not None else text),)

    @override
    def sources(self, point: Point) -> tuple[Source, ...]:
        return self._item(point).sources

    @override
    def with_claims(self, point: Point, prompt: Prompt) -> Prompt:
        """The prompt with the places, claims, twin and controls of its listed part, wherever that stands in it."""
        name, part = point[0][0], self._item(point).prompt
        whole = next((p for p in prompt.phrases if p.name == name), None)
        if whole is None or whole.text != part.text:
            return prompt
        head, tail = prompt.text[: whole.start], prompt.text[whole.end :]
        moved = tuple(replace(p, start=p.start + whole.start, end=p.end + whole.start) for p in part.phrases)
        phrases: tuple[Phrase, ...] = tuple(sorted((*prompt.phrases, *moved), key=lambda p: (p.start, -p.end)))
        swapped = None if part.swapped is None else f"{head}{part.swapped}{tail}"
        alone = tuple(f"{head}{text}{tail}" for text in part.alone)
        return replace(
            prompt,
            phrases=phrases,
            bindings=(*prompt.bindings, *part.bindings),
            swapped=swapped or prompt.swapped,
            alone=alone or prompt.alone,
        )
