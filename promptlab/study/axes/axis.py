"""What every kind of axis is: a factor of the grid with an ordered tuple of levels.

A kind is one class in one file of this folder, registered with `register`. It has two halves:

    levels(name)        how many levels there are, what they are and which columns they have. Pure: it needs neither a
                        prompt nor a tokenizer, and counts without making a level, so a grid of 10^9 cells is known for
                        what it is at once.
    apply(point, ...)   writes one level into the draft of a cell

A point is one level of an axis with a value for each of its columns, the axis' own column first. All other methods
answer a question of the checks or of the grid, with an answer that fits most kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field, PlainValidator, StringConstraints, WithJsonSchema
from typing_extensions import override

from promptlab.records import Level, Prompt, Settings, Source
from promptlab.study.prompts import Draft, PromptSpec, Text
from promptlab.study.strict_yaml import Mistake, Route, shown
from promptlab.study.tokens import Tokens, filler_words

if TYPE_CHECKING:
    from promptlab.study.prompt_lists import ListedPrompt

__all__ = [
    "KINDS",
    "MAX_ENUMERATED",
    "SETTINGS",
    "SETTING_UNITS",
    "Axis",
    "Column",
    "Count",
    "Filler",
    "Filling",
    "Levels",
    "Name",
    "Names",
    "Point",
    "Reference",
    "Scalar",
    "Use",
    "filler_text",
    "register",
    "require_tokens",
    "settle",
    "use_of",
]

SETTINGS = tuple(Settings.__dataclass_fields__)
"""Columns that are generation settings."""
SETTING_UNITS = {"num_inference_steps": "steps", "height": "pixels", "width": "pixels"}
"""What the levels of a setting count, where they count something."""
MAX_ENUMERATED = 20_000
"""The levels of a larger axis are not listed to check them; the grid's own limit refuses it."""

Point = tuple[tuple[str, Level], ...]
Use = Literal["text", "setting", "model"]


def use_of(column: str) -> Use:
    """What a column of this name is: a generation setting, the model, or text (of a slot, or a label)."""
    return "setting" if column in SETTINGS else "model" if column == "model" else "text"


def settle(column: str, level: Level) -> Level:
    """The one spelling of a level: guidance 5 and 5.0 are the same."""
    whole = isinstance(level, int) and not isinstance(level, bool)
    scale = column in ("guidance_scale", "distilled_guidance_scale")
    return float(level) if scale and whole and level is not None else level


def _scalar(value: Any) -> Level:
    if isinstance(value, str | int | float | bool | None):
        return value
    raise Mistake((), f"given {shown(value)}; allowed: text, a number, true, false or null")


Scalar = Annotated[Level, PlainValidator(_scalar), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
Name = Annotated[str, StringConstraints(max_length=64)]
Names = Annotated[tuple[Name, ...], Field(min_length=2, max_length=12)]
Count = Annotated[int, Field(strict=True, ge=1, le=4096)]
Filler = Annotated[Text, StringConstraints(pattern=r"\S")]


@dataclass(frozen=True)
class Column:
    """One column of an axis.

    Attributes:
        name: as in `Cell.levels`.
        part: what it is of the axis; see `promptlab.records.AxisColumn`.
        unit: what its levels count ("tokens"), or "".
        fills: whether its levels fill the slot of its name in the prompt.
    """

    name: str
    part: Literal["level", "arm", "at", "value"] = "level"
    unit: str = ""
    fills: bool = False


@dataclass(frozen=True)
class Levels:
    """The levels of one axis, counted and described without making them. Iterating makes the points, in order.

    Attributes:
        columns: the columns of every level, the axis' own first.
        count: how many levels there are, by arithmetic.
        rows: makes the levels, each as one value for each column.
        names: slots or objects that the axis rearranges, as its levels name them.
    """

    columns: tuple[Column, ...]
    count: int
    rows: Callable[[], Iterable[tuple[Level, ...]]] = field(repr=False)
    names: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Point]:
        columns = self.column_names
        for row in self.rows():
            yield tuple((column, settle(column, level)) for column, level in zip(columns, row, strict=True))

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, the axis' own first."""
        return tuple(column.name for column in self.columns)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the columns that fill slots of the prompt."""
        return tuple(column.name for column in self.columns if column.fills)


class Reference(NamedTuple):
    """A name of the prompt that an axis uses.

    `route` is its place in the file, `allowed` are the names that may stand there. An axis `moves` what it puts
    elsewhere in the prompt, and no two axes may move the same.
    """

    route: Route
    name: str
    allowed: tuple[str, ...]
    moves: bool = False


class Axis:
    """A factor of the grid; the base of every kind."""

    kind: ClassVar[str]
    """The kind's name, and the key that a study file writes it with."""
    manipulates: ClassVar[bool] = True
    """Whether its cells stay in the same prompt family."""
    last: ClassVar[bool] = False
    """Whether its levels are applied after those of all other axes, since it counts what they wrote."""
    varies: ClassVar[tuple[Use, ...]] = ("text",)
    """What an axis of this kind may be named after."""

    @property
    def counts_tokens(self) -> bool:
        """Whether the model's tokenizer is needed to apply it."""
        return False

    @property
    def listed_prompts(self) -> tuple[ListedPrompt, ...]:
        """Prompts that the axis takes from a list as they are."""
        return ()

    def levels(self, name: str) -> Levels:
        """The levels that an axis called `name` has."""
        raise NotImplementedError

    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        """Write one level into the draft of a cell. Raises Mistake, with a route inside the axis."""
        raise NotImplementedError

    def written(self, name: str) -> Iterable[tuple[Route, str, Level]]:
        """(route, column, level) of the levels that stand in the file and may set a setting, a model or a slot."""
        return ()

    def route(self, index: int) -> Route:
        """Where the level number `index` stands in the file, from the axis on."""
        return ()

    def references(self, prompt: PromptSpec) -> list[Reference]:
        """The names of the prompt that the axis uses. Raises Mistake."""
        return []

    def with_claims(self, point: Point, prompt: Prompt) -> Prompt:
        """The rendered prompt of a cell with what this level claims about it."""
        return prompt

    def family(self, point: Point) -> Point:
        """What of a level makes up the prompt family, where the axis does."""
        return point

    def sources(self, point: Point) -> tuple[Source, ...]:
        """Files of images that others made from this level."""
        return ()


class Filling(Axis):
    """The base of kinds whose columns fill slots, set settings or name the model, level by level."""

    manipulates = False

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        draft.fills.update((column, level) for column, level in point if isinstance(level, str))


KINDS: dict[str, type[Axis]] = {}
"""Every kind of axis by its name. `promptlab.study.axes` fills it from the files of its folder."""

_Kind = TypeVar("_Kind", bound=type[Axis])


def register(kind: _Kind) -> _Kind:
    """Make a class a kind of axis that studies can use; a decorator. Raises ValueError for a name that is taken."""
    if KINDS.setdefault(kind.kind, kind) is not kind:
        raise ValueError(f"two kinds of axis are called {kind.kind!r}")
    return kind


def filler_text(count: int, phrases: str, tokens: Tokens | None, route: Route) -> str:
    """Neutral text of exactly `count` tokens, or words without `tokens`. Raises Mistake at `route`."""
    text = tokens.filler(count, phrases) if tokens else filler_words(count, phrases)
    if text is None:
        unit = "token" if tokens else "word"
        message = (
            f"these phrases cannot make {count} {unit}s; allowed: phrases with commas between, some of 1 and 2 {unit}s"
        )
        raise Mistake(route, message)
    return text


def require_tokens(tokens: Tokens | None, route: Route) -> Tokens:
    """The tokenizer. Raises Mistake at `route` where there is none."""
    if tokens is None:
        raise Mistake(route, "this axis counts tokens, and the model's tokenizer is not at hand: fetch the model first")
    return tokens
