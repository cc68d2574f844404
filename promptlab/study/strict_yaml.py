"""YAML as a person means it: one document, no surprises, and a place for every value.

PyYAML's composer gives the node graph; this module turns it into plain data by the core rules of YAML 1.2 and keeps
where each key and value stands, so that every later complaint can say `file:line:column` and show the line.

    on, off, yes, no       text (true and false are the only booleans)
    1e-3                   a number
    0123, 12:30, 1_000     refused: versions of YAML disagree about them, quotes decide
    .inf, .nan, !!tags, << refused: a study needs none of them

Refused as well: duplicate keys, more than 100 alias expansions, nesting beyond 40 levels, files over 1 MB, text that is
not UTF-8, lone surrogates, more than one document.

A `Mistake` is a complaint with a route to the wrong value, relative to where it is raised. `Record` is the base of
everything in a study file: frozen, closed, and able to name the key that was meant. `study_error` joins pydantic's
findings with the places of the values, first mistake first, in sentences that a person can act on.

References:
    YAML 1.2.2, section 10.3 (core schema), https://yaml.org/spec/1.2.2/
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from promptlab.errors import StudyError, nearest

__all__ = [
    "MAX_ALIASES",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_VALUES",
    "Document",
    "Mistake",
    "Place",
    "Record",
    "Route",
    "allowed",
    "parse",
    "read",
    "sentence",
    "shown",
    "study_error",
    "visible",
]

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_ALIASES = 100
MAX_VALUES = 100_000

Route = tuple[str | int, ...]
"""Keys and indices from the top of a document down to one value."""

_BREAK = re.compile(r"\r\n|\r|\n")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_AMBIGUOUS = re.compile(
    r"[-+]?(0[0-9][0-9_.]*|0[box][0-9a-fA-F_]+|[0-9][0-9.]*_[0-9_.]*|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)"
)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)


def visible(text: str, limit: int = 200) -> str:
    """Text fit for a message: control and bidirectional characters escaped, at most `limit` characters."""
    shown = _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


@dataclass(frozen=True)
class Place:
    """Line and column of a value, both from 1, the column in characters."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """Plain data with a place for every key and value, addressed by route."""

    name: str
    text: str
    data: Any
    values: dict[Route, Place] = field(repr=False)
    keys: dict[Route, Place] = field(repr=False)

    def place(self, route: Route, *, key: bool = False) -> Place:
        """Where the value (or its key) stands; a route that leads nowhere ends at its last known part."""
        places = self.keys if key else self.values
        if route in places:
            return places[route]
        while route and route not in self.values:
            route = route[:-1]
        return self.values.get(route, Place(1, 1))

    def error(self, route: Route, message: str, *, key: bool = False, show: bool = True) -> StudyError:
        """The complaint about one value: `file:line:column: message`, then the line, unless it must stay hidden."""
        return _error(self.name, self.text, self.place(route, key=key), message, show)


def read(path: str | Path) -> Document:
    """Read a file. Raises StudyError for everything that is wrong with it, the missing file included."""
    path = Path(path)
    shown = visible(str(path))
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        neighbours = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise StudyError(f"{shown}:1:1: there is no such file{nearest(path.name, neighbours)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"{shown}:1:1: cannot be read: {reason}") from None
    return parse(raw, shown)


def parse(raw: str | bytes, name: str = "study") -> Document:
    """Turn YAML into a document. `name` stands in messages for the file."""
    if len(raw) > MAX_BYTES:
        raise StudyError(f"{name}:1:1: the file is over {MAX_BYTES // 1000:,} kB, more than a study may have")
    if isinstance(raw, bytes):
        try:
            decoded = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            good = raw[: error.start].decode("utf-8")
            message = f"byte {error.object[error.start]:#04x} is not UTF-8: save the file as UTF-8"
            raise _error(name, good, _place(_line_starts(good), len(good)), message, False) from None
    else:
        decoded = raw
    text = decoded.removeprefix("\ufeff")
    starts = _line_starts(text)
    lone = re.search("[\ud800-\udfff]", text)
    if lone:
        raise _error(name, text, _place(starts, lone.start()), f"lone surrogate {visible(lone[0])} is no character")
    try:
        node = _compose(text)
        builder = _Builder(starts)
        data = builder.build(node, (), 0, ()) if node else None
    except _Refused as refused:
        raise _error(name, text, _place(starts, refused.index), refused.message) from None
    return Document(name, text, data, builder.values, builder.keys)


class _Refused(Exception):
    def __init__(self, index: int, message: str) -> None:
        self.index, self.message = index, message


class _Loader(yaml.SafeLoader):
    """Composes nodes, counting depth and aliases on the way; never constructs an object."""

    depth = 0
    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        at = event.start_mark.index
        if isinstance(event, yaml.AliasEvent):
            self.aliases += 1
        elif getattr(event, "tag", None) is not None:
            raise _Refused(at, f"tag {visible(str(event.tag))!r} is not used in study files: remove it, quote text")
        if self.aliases > MAX_ALIASES:
            raise _Refused(at, f"more than {MAX_ALIASES} aliases")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(at, f"nested deeper than {MAX_DEPTH} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _compose(text: str) -> yaml.Node | None:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as error:
        raise _Refused(error.position, f"character {error.character:#x} is not allowed in YAML") from None
    except yaml.MarkedYAMLError as error:
        # An unclosed bracket or quote is noticed far below; the person wants to see where it was opened.
        opened = re.match("while (parsing a flow|scanning a quoted)", error.context or "")
        mark = (error.context_mark if opened else None) or error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise _Refused(mark.index if mark else 0, f"not YAML: {visible(what)}") from None
    except (ValueError, OverflowError, IndexError, AttributeError, TypeError) as error:
        # PyYAML's scanner lets these out, for example on the escape "\UFFFFFFFF".
        at = loader.get_mark().index if loader else 0
        raise _Refused(at, f"not YAML: {visible(str(error))}") from None
    finally:
        if loader:
            loader.dispose()


class _Builder:
    """Plain data from nodes. A shared node is built anew for each alias, and that is counted."""

    def __init__(self, starts: list[int]) -> None:
        self.starts = starts
        self.values: dict[Route, Place] = {}
        self.keys: dict[Route, Place] = {}
        self.seen: set[int] = set()
        self.expansions = 0

    def build(self, node: yaml.Node, route: Route, depth: int, above: tuple[int, ...]) -> Any:
        at = node.start_mark.index
        if id(node) in above:
            raise _Refused(at, "an alias contains itself")
        if id(node) in self.seen:
            self.expansions += 1
        self.seen.add(id(node))
        if self.expansions > MAX_ALIASES:
            raise _Refused(at, f"aliases expand more than {MAX_ALIASES} times")
        if depth > MAX_DEPTH:
            raise _Refused(at, f"nested deeper than {MAX_DEPTH} levels")
        if len(self.values) >= MAX_VALUES:
            raise _Refused(at, f"more than {MAX_VALUES:,} values")
        self.values[route] = _place(self.starts, at)
        above = (*above, id(node))
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*route, i), depth + 1, above) for i, item in enumerate(node.value)]
        return {key: self.build(value, (*route, key), depth + 1, above) for key, value in self._pairs(node, route)}

    def _pairs(self, node: yaml.Node, route: Route) -> Iterator[tuple[str, yaml.Node]]:
        first: dict[str, int] = {}
        for key_node, value in node.value:
            at = key_node.start_mark.index
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Refused(at, "a list or mapping cannot be a key: keys are names")
            key = _text(key_node)
            if key == "<<" and key_node.style is None:
                raise _Refused(at, "merge key '<<' is not used in study files: write the keys out")
            place = _place(self.starts, at)
            if key in first:
                raise _Refused(at, f"key {visible(key)!r} stands twice, first in line {first[key]}: remove one")
            first[key] = place.line
            self.keys[(*route, key)] = place
            yield key, value


def _text(node: yaml.ScalarNode) -> str:
    text = str(node.value)
    lone = re.search("[\ud800-\udfff]", text)
    if lone:
        message = f"lone surrogate {visible(lone[0])} is no character: write the character itself, or \\U and 8 digits"
        raise _Refused(node.start_mark.index, message)
    return text


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text = _text(node)
    if node.style is not None:
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text[0] in "tT"
    at = node.start_mark.index
    if _AMBIGUOUS.fullmatch(text):
        raise _Refused(at, f'versions of YAML disagree about {visible(text, 40)}: as text, write "{visible(text, 40)}"')
    if _NOT_FINITE.fullmatch(text):
        raise _Refused(at, f'{text} is not a finite number: as text, write "{text}"')
    if not _NUMBER.fullmatch(text):
        return text
    if len(text) > 40 or abs(float(text)) > 1e300:
        raise _Refused(at, f"number {visible(text, 40)} is too large")
    return int(text) if re.fullmatch("[-+]?[0-9]+", text) else float(text)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in _BREAK.finditer(text))]


def _place(starts: list[int], index: int) -> Place:
    line = bisect_right(starts, index)
    return Place(line, index - starts[line - 1] + 1)


def _error(name: str, text: str, place: Place, message: str, show: bool = True) -> StudyError:
    head = f"{name}:{place.line}:{place.column}: {message}"
    lines = _BREAK.split(text)
    if not show or place.line > len(lines) or not lines[place.line - 1].strip():
        return StudyError(head)
    line = lines[place.line - 1]
    cut = max(0, place.column - 60)
    before, after = visible(line[cut : place.column - 1].replace("\t", " ")), line[place.column - 1 : cut + 110]
    number = f"{place.line:>5} | "
    return StudyError(f"{head}\n{number}{before}{visible(after)}\n{' ' * (len(number) - 2)}| {' ' * len(before)}^")


MOST = 5


class Mistake(ValueError):
    """A complaint about the value at `route`, or about its key."""

    def __init__(self, route: Route, message: str, *, key: bool = False, show: bool = True) -> None:
        super().__init__(message)
        self.route, self.message, self.key, self.show = route, message, key, show


def shown(value: Any) -> str:
    """A value as messages show it: short, quoted, safe to print, true and null as YAML spells them."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    return visible(repr(value), 60)


def allowed(name: str, names: Iterable[str]) -> str:
    """`; allowed: a, b, c; did you mean 'a'?`"""
    known = list(names)
    return f"; allowed: {', '.join(known[:20]) or 'none'}{nearest(name, known)}"


class Record(BaseModel):
    """A closed, frozen mapping of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict) and cls.model_config.get("extra") == "forbid":
            names = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in names:
                    raise Mistake((key,), f"{shown(key)} is not known here{allowed(str(key), names)}", key=True)
        return data


def study_error(document: Document, error: ValidationError) -> StudyError:
    """All mistakes as one StudyError: the first in the file with its line, up to four more in one line each.

    Of two at one place the first is reported: a list whose only item is wrong is not also too short.
    """
    found: dict[tuple[int, int], Mistake] = {}
    for item in error.errors(include_url=False):
        mistake = _mistake(document.data, item)
        place = document.place(mistake.route, key=mistake.key)
        found.setdefault((place.line, place.column), mistake)
    first, *others = (found[place] for place in sorted(found))
    lines = [str(document.error(first.route, first.message, key=first.key, show=first.show))]
    lines += [str(document.error(m.route, m.message, key=m.key, show=False)) for m in others[: MOST - 1]]
    more = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
    return StudyError("\n".join(lines + more))


def _mistake(data: Any, item: Any) -> Mistake:
    """One finding of pydantic, with its route in the file: names of union branches are not part of it."""
    route: list[str | int] = []
    at = data
    for step in item["loc"]:
        inside = (isinstance(at, dict) and step in at) or (
            isinstance(at, list) and isinstance(step, int) and step < len(at)
        )
        if inside:
            route.append(step)
            at = at[step]
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, Mistake):
        key = cause.key or (bool(item["loc"]) and item["loc"][-1] == "[key]")
        return Mistake((*route, *cause.route), cause.message, key=key, show=cause.show)
    return Mistake(tuple(route), sentence(item), key=item["loc"][-1:] == ("[key]",))


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list, such as [a, b]",
    "tuple_type": "a list, such as [a, b]",
    "dict_type": "a mapping, such as {key: value}",
    "model_type": "a mapping, such as {key: value}",
    "model_attributes_type": "a mapping, such as {key: value}",
}
_BOUND = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


def sentence(item: Any) -> str:
    """One finding of pydantic in our words: given, allowed, nearest."""
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "missing":
        return f"{item['loc'][-1]!r} is missing"
    if kind == "string_type":
        if value is None:
            return 'given nothing; allowed: text ("" where it may be empty)'
        quotes = "" if isinstance(value, dict | list) else ", so put it in quotes"
        return f"given {shown(value)}; allowed: text{quotes}"
    if kind in _WANTED:
        return f"given {shown(value)}; allowed: {_WANTED[kind]}"
    if kind in _BOUND:
        words, name = _BOUND[kind]
        bound = context[name]
        return f"given {shown(value)}; allowed: {words} {bound if isinstance(bound, int) else f'{bound:g}'}"
    if kind == "literal_error":
        return f"given {shown(value)}; allowed: {context['expected']}{_near_literal(value, context['expected'])}"
    if kind in ("too_short", "too_long"):
        bound = "at least {min_length}" if kind == "too_short" else "at most {max_length}"
        return f"{context['actual_length']} given; allowed: {bound.format(**context)}"
    if kind in ("string_too_short", "string_too_long"):
        bound = "at least {min_length}" if kind == "string_too_short" else "at most {max_length}"
        return f"given {shown(value)}; allowed: {bound.format(**context)} characters"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        form = "text that is not blank" if pattern == r"\S" else f"text of the form {pattern.strip('^$')}"
        return f"given {shown(value)}; allowed: {form}"
    return f"given {shown(value)}; {item['msg']}"


def _near_literal(value: Any, expected: str) -> str:
    return nearest(str(value), [name.strip("'") for name in expected.replace(" or ", ", ").split(", ")])
