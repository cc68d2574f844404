"""Prompts that others wrote: what they claim, where that can be said for sure, and the lists that hold them.

A claim is declared, never guessed. It comes from data (`RequestedObject`, as GenEval's metadata give it) or from one
narrow grammar, and a prompt that the grammar does not match claims nothing:

    prompt   = [ "a photo of" | "a picture of" | "an image of" ]  thing  { ( "," | "and" | ", and" )  thing }  [ "." ]
    thing    = [ "a" | "an" | "the" ]  COLOUR  noun
    noun     = one word, or two; none is a function word, and of two the first is no colour, the second no "-ing" form

COLOURS are the eleven basic terms of Berlin and Kay and a few that prompt lists use. "a green bench and a blue bowl"
matches. "two toilets, one blue and one orange" does not, nor "a black and white cat": who would be black?

Objects are named first, second, third, ... in order of mention. From the places of two coloured ones follow the
swapped twin (their colours exchanged, articles mended) and the prompts that ask for one object alone.

Lists are read where the user keeps them, and nothing of them is copied:

    lines      one prompt a line, as T2I-CompBench's color_val.txt; what the grammar matches claims its colours
    geneval    GenEval's evaluation_metadata.jsonl: {tag, include: [{class, count, color, position}], prompt}
    pictures   what `promptlab import` writes: {file, sha256, prompt, seed, settings, model, tag, objects, tile}, one
               image a line; images of one prompt with the same settings, model and tag are repeats

A list is read whole and checked: a line that cannot be used is an error with its number, not a prompt less.

References:
    Berlin and Kay 1969, Basic Color Terms. Ghosh et al. 2023, GenEval (arXiv 2310.11513). Huang et al. 2023,
    T2I-CompBench (arXiv 2307.06350), for whose colour list the grammar was made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from promptlab.errors import StudyError, nearest
from promptlab.records import Binding, Level, Phrase, Prompt, Source
from promptlab.study.prompts import article

__all__ = [
    "COLOURS",
    "FORMATS",
    "KNOWN_SETTINGS",
    "ListedPrompt",
    "RequestedObject",
    "claim",
    "format_of",
    "read_claims",
    "read_list",
    "requested_objects",
    "swap_partner",
    "twins",
]

COLOURS = (
    *("black", "white", "red", "green", "yellow", "blue", "brown", "purple", "pink", "orange", "gray"),
    *("grey", "gold", "silver", "beige", "tan"),
)
NAMES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")

_LEAD = re.compile(r"(?:an? (?:photo|picture|image) of )?", re.IGNORECASE)
_BETWEEN = re.compile(r",? and |, ", re.IGNORECASE)
_THING = re.compile(rf"(?:(?:an?|the) )?({'|'.join(COLOURS)}) ([a-z]+(?: [a-z]+)?)", re.IGNORECASE)
_FUNCTION = re.compile(
    "an?|the|and|or|of|in|on|at|to|by|with|without|near|next|from|for|under|over|above|below|behind|beside|into|onto|"
    "is|are|was|has|that|which|while|one|two|outside|inside|together|here|there"
)


@dataclass(frozen=True)
class RequestedObject:
    """An object that a prompt asks for: its noun, its colour if any, and other claims as (kind, attribute)."""

    noun: str
    colour: str | None = None
    others: tuple[tuple[str, str], ...] = ()


def read_claims(text: str) -> tuple[RequestedObject, ...]:
    """What the grammar above reads in a prompt, in order of mention; nothing where it does not match."""
    body = text.strip().removesuffix(".")
    found = []
    for part in _BETWEEN.split(body[_LEAD.match(body).end() :]):  # type: ignore[union-attr]
        match = _THING.fullmatch(part)
        if not match or not _is_noun(match[2].lower().split()):
            return ()
        found.append(RequestedObject(match[2].lower(), match[1].lower()))
    return tuple(found) if len(found) <= len(NAMES) else ()


def _is_noun(words: list[str]) -> bool:
    if any(_FUNCTION.fullmatch(word) for word in words):
        return False
    return len(words) == 1 or (words[0] not in COLOURS and not (words[1].endswith("ing") and len(words[1]) > 4))


def claim(text: str, requested: Sequence[RequestedObject]) -> Prompt:
    """The prompt `text` with bindings of `requested`, phrases where their words are found once, twin and controls.

    An object whose words are not found (plural, say) has a binding and no phrase, and then there is neither a twin nor
    a control. Bindings stand in order of mention, as far as that is known.
    """
    spans = [_find(text, thing) for thing in requested]
    order = sorted(range(len(requested)), key=lambda i: found[0][0] if (found := spans[i]) else len(text) + i)
    phrases: list[Phrase] = []
    bindings: list[Binding] = []
    for name, i in zip(NAMES, order, strict=False):
        thing, found = requested[i], spans[i]
        if found:
            (start, end), colour = found
            phrases.append(Phrase(name, text[start:end], start, end, "object"))
            if colour:
                phrases.append(Phrase(f"{name}.colour", text[slice(*colour)], *colour, "attribute"))
        claims = (("colour", thing.colour), *thing.others) if thing.colour else thing.others
        bindings += [Binding(name, thing.noun, attribute, kind) for kind, attribute in claims]
        if not claims:
            bindings.append(Binding(name, thing.noun, None))
    objects = [phrase for phrase in phrases if phrase.role == "object"]
    alone: tuple[str, ...] = ()
    if requested and len(objects) == len(requested):
        head, tail = text[: objects[0].start], text[objects[-1].end :]
        alone = tuple(f"{head}{phrase.text}{tail}" for phrase in objects)
    prompt = Prompt(text, tuple(phrases), tuple(bindings), None, alone)
    return replace(prompt, swapped=swap_partner(prompt))


def _find(text: str, thing: RequestedObject) -> tuple[tuple[int, int], tuple[int, int] | None] | None:
    """Where an object's words stand (article, colour, noun), and its colour; None unless they are found just once."""
    colour = rf"(?P<colour>{re.escape(thing.colour)}) " if thing.colour else ""
    pattern = rf"(?<![\w-])(?:(?:an?|the) )?{colour}{re.escape(thing.noun)}(?![\w-])"
    found = list(re.finditer(pattern, text, re.IGNORECASE))
    if len(found) != 1:
        return None
    return found[0].span(), found[0].span("colour") if thing.colour else None


def swap_partner(prompt: Prompt) -> str | None:
    """The text with the colours of its two objects exchanged; None unless it has just two, of different colours."""
    places = [phrase for phrase in prompt.phrases if phrase.name.endswith(".colour")]
    objects = [phrase for phrase in prompt.phrases if phrase.role == "object"]
    if len(places) != 2 or len(objects) != 2 or len({binding.object for binding in prompt.bindings}) != 2:
        return None
    words = [place.text.lower() for place in places]
    if words[0] == words[1]:
        return None
    text = prompt.text
    for place, word in ((places[1], words[0]), (places[0], words[1])):  # from the end, so that places stay
        new = word.capitalize() if place.text[0].isupper() else word
        head = text[: place.start]
        if match := re.search(r"\b([Aa])n? $", head):
            head = f"{head[: match.start()]}{match[1]}{article(new)[1:]} "
        text = head + new + text[place.end :]
    return text


MAX_BYTES = 64_000_000
MAX_PROMPTS = 10_000
KNOWN_SETTINGS = {
    "guidance_scale": (int, float),
    "num_inference_steps": (int,),
    "scheduler": (str,),
    "negative_prompt": (str,),
}
"""Settings that pictures made elsewhere may bring along, in the words of whoever made them."""


@dataclass(frozen=True)
class ListedPrompt:
    """One prompt of a list, with columns of its own (a tag, settings, a model) and the pictures made from it."""

    prompt: Prompt
    columns: tuple[tuple[str, Level], ...] = ()
    sources: tuple[Source, ...] = ()


def format_of(path: Path) -> str:
    """The format that a file's name and first line speak for: lines, geneval or pictures. Raises StudyError."""
    if path.suffix.lower() != ".jsonl":
        return "lines"
    first = next(iter(_lines(path)), (1, ""))
    return "pictures" if "sha256" in _object(path, *first) else "geneval"


def read_list(path: Path, form: str, root: Path | None = None) -> tuple[ListedPrompt, ...]:
    """All prompts of a list, in order. `root` is the folder in which the files of a picture list lie.

    Raises StudyError: no such file, no such format, a line that cannot be used, a prompt that stands twice, too many.
    """
    if form not in FORMATS:
        raise StudyError(
            f"no format of prompt lists is called {form!r}: choose from {', '.join(FORMATS)}{nearest(form, FORMATS)}"
        )
    items = tuple(FORMATS[form](path, root or path.parent))
    if not items:
        raise StudyError(f"{path} holds no prompt")
    if len(items) > MAX_PROMPTS:
        raise StudyError(f"{path} holds {len(items):,} prompts; allowed: {MAX_PROMPTS:,}")
    seen: set[Any] = set()
    for item in items:
        key = (item.prompt.text, item.columns)
        if key in seen:
            raise StudyError(f"{path}: the prompt {item.prompt.text!r} stands twice")
        seen.add(key)
    return items


def twins(items: Sequence[ListedPrompt]) -> int:
    """How many prompts have their swapped twin in the same list: an even number."""
    texts = {item.prompt.text for item in items}
    return len({item.prompt.text for item in items if item.prompt.swapped in texts})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Raises StudyError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StudyError(f"{path} is over {MAX_BYTES / 1e6:.0f} MB, more than a list of prompts may have")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path} is not UTF-8 text") from None
    return ((n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip())


def _object(path: Path, n: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}:{n}: no JSON ({error})") from None
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise StudyError(f'{path}:{n}: a line is an object with a prompt, such as {{"prompt": "a red cup"}}')
    return {**row, "prompt": row["prompt"].strip()}


def _plain_lines(path: Path, root: Path) -> Iterator[ListedPrompt]:
    for _, line in _lines(path):
        yield ListedPrompt(claim(line, read_claims(line)))


def _geneval(path: Path, root: Path) -> Iterator[ListedPrompt]:
    for n, line in _lines(path):
        row = _object(path, n, line)
        yield ListedPrompt(
            claim(row["prompt"], requested_objects(row, f"{path}:{n}")), (("tag", str(row.get("tag", "none"))),)
        )


def requested_objects(row: Mapping[str, Any], where: str) -> tuple[RequestedObject, ...]:
    """What GenEval's `include` asks for: class and colour; a count other than one and a position as further claims."""
    include = row.get("include", [])
    try:
        names = [str(thing["class"]) for thing in include]
        return tuple(_requested(thing, names) for thing in include)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise StudyError(f"{where}: include must list {{class, count, color, position}}, as GenEval does") from None


def _requested(thing: Mapping[str, Any], names: Sequence[str]) -> RequestedObject:
    others = [("count", str(thing["count"]))] if thing.get("count", 1) != 1 else []
    if thing.get("position"):
        relation, other = thing["position"]
        others.append(("position", f"{relation} {names[other]}"))
    return RequestedObject(str(thing["class"]), thing.get("color"), tuple(others))


def _pictures(path: Path, root: Path) -> Iterator[ListedPrompt]:
    groups: dict[Any, list[Source]] = {}
    claims: dict[str, tuple[RequestedObject, ...]] = {}
    for n, line in _lines(path):
        row, where = _object(path, n, line), f"{path}:{n}"
        known = _settings(row.get("settings") or {}, where)
        objects = _objects(row.get("objects"), where)
        if claims.setdefault(row["prompt"], objects) != objects:
            raise StudyError(f"{where}: the prompt {row['prompt']!r} has other objects further up")
        texts = {key: row.get(key) for key in ("file", "sha256")}
        if not all(isinstance(value, str) and value for value in texts.values()) or type(row.get("seed")) is not int:
            raise StudyError(
                f"{where}: file, sha256 (text) and seed (a number) are needed; `promptlab import` writes them"
            )
        columns = (*known, *((key, str(row[key])) for key in ("model", "tag") if row.get(key) is not None))
        source = Source(row["seed"], str(root / row["file"]), row["file"], row["sha256"], _tile(row.get("tile"), where))
        group = groups.setdefault((row["prompt"], columns), [])
        if any(other.seed == source.seed for other in group):
            raise StudyError(f"{where}: seed {source.seed} of the prompt {row['prompt']!r} stands twice")
        group.append(source)
    names = list(dict.fromkeys(name for _, columns in groups for name, _ in columns))
    for (text, columns), sources in groups.items():
        full = tuple((name, dict(columns).get(name)) for name in names)
        yield ListedPrompt(claim(text, claims[text]), full, tuple(sources))


def _tile(tile: Any, where: str) -> tuple[int, int, int, int] | None:
    if tile is None:
        return None
    if isinstance(tile, list) and len(tile) == 4 and all(type(n) is int for n in tile):
        row, column, rows, columns = tile
        if 1 <= row <= rows <= 16 and 1 <= column <= columns <= 16:
            return row, column, rows, columns
    raise StudyError(f"{where}: tile is {tile!r}: [row, column, rows, columns] is allowed, at most 16, counted from 1")


def _settings(settings: Any, where: str) -> tuple[tuple[str, Level], ...]:
    if not isinstance(settings, dict):
        raise StudyError(f'{where}: settings are an object, such as {{"guidance_scale": 7.5}}')
    for name, value in settings.items():
        if name not in KNOWN_SETTINGS:
            raise StudyError(
                f"{where}: no setting {name!r}: choose from {', '.join(KNOWN_SETTINGS)}{nearest(name, KNOWN_SETTINGS)}"
            )
        if type(value) not in KNOWN_SETTINGS[name] or (isinstance(value, float) and not math.isfinite(value)):
            raise StudyError(
                f"{where}: {name} is {value!r}: {' or '.join(t.__name__ for t in KNOWN_SETTINGS[name])} is allowed"
            )
    return tuple((name, float(v) if name == "guidance_scale" else v) for name, v in sorted(settings.items()))


def _objects(objects: Any, where: str) -> tuple[RequestedObject, ...]:
    if objects is None:
        return ()
    try:
        for thing in objects:
            if set(thing) - {"noun", "colour", "others"}:
                raise TypeError
        pairs = [tuple((str(kind), str(a)) for kind, a in thing.get("others") or ()) for thing in objects]
        return tuple(
            RequestedObject(str(t["noun"]), t.get("colour"), more) for t, more in zip(objects, pairs, strict=True)
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StudyError(f"{where}: objects are a list of {{noun, colour}}") from None


FORMATS: dict[str, Callable[[Path, Path], Iterator[ListedPrompt]]] = {
    "lines": _plain_lines,
    "geneval": _geneval,
    "pictures": _pictures,
}
