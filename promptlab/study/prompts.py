"""Prompts from a specification, with the place of every phrase.

A template holds slots in braces. A slot is filled by an object (a noun with attributes, and its article), by a named
phrase, or by the level of an axis. Nothing is ever parsed back out of English: what the prompt claims is declared.

    template   "a photo of {first} and {second}"
    objects    first: {noun: cup, colour: red}      ->  "a red cup", binding (first, cup, red)
    rendered   "a photo of a red cup and a blue chair"
    swapped    "a photo of a blue cup and a red chair"          the foil: first two objects exchange attributes
    alone      "a photo of a red cup", "a photo of a blue chair"        the one-object controls

Attributes stand before the noun in the order in which they are written. An empty filling takes the comma and space
before it along. `{{` and `}}` are braces. Phrases are named after their slot; an attribute is `object.attribute`.

`article` chooses a or an by spelling, with the exceptions that matter for images: an hour, a uniform, an 8-bit car, an
X-ray, a one-eyed dog. Where it errs, a study says `article: an`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from promptlab.records import Binding, Phrase, Prompt
from promptlab.study.strict_yaml import Mistake, Record

__all__ = ["Draft", "ObjectSpec", "PromptSpec", "article", "nouns", "render", "slots"]

Text = Annotated[str, StringConstraints(max_length=20_000)]
Role = Literal["object", "attribute", "phrase", "filler"]


class ObjectSpec(Record):
    """A noun with any number of attributes (`colour`, `size`, `texture`, ...). Each may hold slots of axes.

    `article` auto writes a or an as English says; none writes nothing.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Text] = Field(init=False)

    noun: Annotated[Text, StringConstraints(min_length=1)]
    article: Literal["auto", "a", "an", "the", "none"] = "auto"

    @property
    def attributes(self) -> dict[str, str]:
        """Attribute templates by kind of attribute, as written."""
        return dict(self.__pydantic_extra__ or {})


class PromptSpec(Record):
    """The parts of a prompt. `alone` is the template of the one-object control, with the slot `{object}`.

    Without it, the stretch of the template from the first to the last object is replaced by one object.
    """

    template: Text
    objects: dict[str, ObjectSpec] = Field(default_factory=dict)
    phrases: dict[str, Text] = Field(default_factory=dict)
    alone: Text | None = None
    allow_empty: Annotated[bool, Field(strict=True)] = False


@dataclass
class Draft:
    """How one cell departs from the specification; the axes fill it in.

    Attributes:
        fills: text for each slot that an axis fills.
        fillers: those of them that carry no content.
        arrangement: for a slot of the template, the name of what stands there instead.
        pair: the two objects that exchange attributes in the foil (None: the first two).
        swap: whether the text itself has them exchanged.
        only: the one object that is asked for.
        needle: the slot before which `before` is put.
        before, after: filler before the needle, and at the end of the prompt with the space or comma that leads it.
        pad: the name of the axis that pads.
    """

    fills: dict[str, str] = field(default_factory=dict)
    fillers: set[str] = field(default_factory=set)
    arrangement: dict[str, str] = field(default_factory=dict)
    pair: tuple[str, str] | None = None
    swap: bool = False
    only: str | None = None
    needle: str | None = None
    before: str = ""
    after: str = ""
    pad: str = "filler"

    def arrange(self, names: Sequence[str], spec: PromptSpec) -> None:
        """Put these names, in this order, into the slots of the template that hold them now."""
        places = [slot for slot in slots(spec.template) if slot in names]
        self.arrangement.update(zip(places, names, strict=True))


@dataclass(frozen=True)
class _Piece:
    text: str
    spans: tuple[tuple[str, Role, int, int], ...]
    bindings: tuple[Binding, ...] = ()


@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[tuple[str, bool], ...]:
    """(text, is_slot) pairs. Raises Mistake for a brace that opens or closes nothing."""
    parts: list[tuple[str, bool]] = []
    literal = ""
    for match in re.finditer(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+", template):
        token = match[0]
        if token in ("{{", "}}"):
            literal += token[0]
        elif match[1] is not None:
            if not re.fullmatch("[a-z][a-z0-9_]*", match[1]):
                raise Mistake((), f"slot {token!r} is no name; allowed: small letters, digits and _, as in {{colour}}")
            parts += [(literal, False)] if literal else []
            parts.append((match[1], True))
            literal = ""
        elif token in ("{", "}"):
            raise Mistake(
                (), f"brace {token!r} at character {match.start() + 1} stands alone; write {token * 2} for it"
            )
        else:
            literal += token
    return (*parts, (literal, False)) if literal else tuple(parts)


def slots(template: str) -> tuple[str, ...]:
    """Names of a template's slots, in order. Raises Mistake for unpaired braces."""
    return tuple(text for text, is_slot in _parts(template) if is_slot)


def _fill(template: str, fills: Mapping[str, str]) -> str:
    parts = _parts(template)
    if len(parts) == 1:
        return fills[parts[0][0]] if parts[0][1] else parts[0][0]
    return _join(parts, {name: _Piece(text, ()) for name, text in fills.items()})[0]


def _object(name: str, spec: ObjectSpec, attributes: Mapping[str, str], fills: Mapping[str, str]) -> _Piece:
    """The noun phrase of one object with the given attribute texts."""
    noun = _fill(spec.noun, fills)
    if not noun.strip():
        raise Mistake(("objects", name, "noun"), f"object {name!r} has an empty noun")
    spans: list[tuple[str, Role, int, int]] = []
    words = [text for text in attributes.values() if text]
    lead = spec.article if spec.article != "auto" else article(words[0] if words else noun)
    text = "" if lead == "none" else f"{lead} "
    for kind, value in attributes.items():
        if value:
            spans.append((f"{name}.{kind}", "attribute", len(text), len(text) + len(value)))
            text += f"{value} "
    text += noun
    claims = tuple(Binding(name, noun, value, kind) for kind, value in attributes.items() if value)
    return _Piece(text, ((name, "object", 0, len(text)), *spans), claims or (Binding(name, noun, None),))


_SEPARATOR = re.compile(r"[,;]?\s*$")
_ARTICLE = re.compile(r"(?:^|(?<=\s))([Aa])n?(\s+)$")


def _join(
    parts: tuple[tuple[str, bool], ...],
    pieces: Mapping[str, _Piece],
    arrangement: Mapping[str, str] | None = None,
) -> tuple[str, list[tuple[str, Role, int, int]], list[Binding]]:
    text = ""
    spans: list[tuple[str, Role, int, int]] = []
    bindings: list[Binding] = []
    literal = drop = False
    for part, is_slot in parts:
        if not is_slot:
            text += part.lstrip(" ,;") if drop else part
            literal, drop = True, False
            continue
        piece = pieces[arrangement.get(part, part) if arrangement else part]
        if not piece.text:
            text = _SEPARATOR.sub("", text) if literal else text
            literal, drop = False, not text
            continue
        if literal and text[-2:-1] in ("a", "A", "n"):
            match = _ARTICLE.search(text)
            if match:
                text = text[: match.start()] + match[1] + article(piece.text)[1:] + match[2]
        at = len(text)
        text += piece.text
        spans += [(name, role, at + start, at + end) for name, role, start, end in piece.spans]
        bindings += piece.bindings
        literal = drop = False
    return text, spans, bindings


def _between(parts: tuple[tuple[str, bool], ...], objects: Mapping[str, ObjectSpec]) -> tuple[tuple[str, bool], ...]:
    """The template with everything from its first to its last object replaced by the slot `object`."""
    places = [i for i, (text, is_slot) in enumerate(parts) if is_slot and text in objects]
    return (*parts[: places[0]], ("object", True), *parts[places[-1] + 1 :]) if places else parts


def _trim(text: str, spans: list[tuple[str, Role, int, int]]) -> tuple[str, tuple[Phrase, ...]]:
    lead = len(text) - len(text.lstrip())
    text = text.strip()
    phrases = [
        Phrase(name, text[max(start - lead, 0) : end - lead], max(start - lead, 0), min(end - lead, len(text)), role)
        for name, role, start, end in spans
    ]
    return text, tuple(p for p in phrases if p.text)


def render(spec: PromptSpec, draft: Draft | None = None) -> Prompt:
    """Text, phrases, bindings, foil and one-object controls of one cell.

    Raises Mistake, with a route inside the prompt's specification, for a slot that nothing fills and for an empty text
    without `allow_empty`.
    """
    draft = draft or Draft()
    fills, parts = draft.fills, _parts(spec.template)
    swapped: str | None = None
    try:
        worded = {
            name: {kind: _fill(text, fills) for kind, text in thing.attributes.items()}
            for name, thing in spec.objects.items()
        }
        pair = draft.pair or (tuple(spec.objects)[:2] if len(spec.objects) > 1 else None)
        if draft.swap and pair:
            a, b = pair
            worded[a], worded[b] = worded[b], worded[a]
        fixed = {name: _Piece(text, ((name, _role(name, draft), 0, len(text)),)) for name, text in fills.items()}
        for name, template in spec.phrases.items():
            text = _fill(template, fills)
            fixed[name] = _Piece(text, ((name, "phrase", 0, len(text)),))
        things = {name: _object(name, thing, worded[name], fills) for name, thing in spec.objects.items()}
        lone_draft = replace(draft, arrangement=_without(things, draft.arrangement))
        lone = _parts(spec.alone) if spec.alone is not None else _between(parts, spec.objects)
        alone = {name: {**fixed, **things, "object": thing} for name, thing in things.items()}
        if draft.only:
            text, phrases, bindings = _padded(lone, alone[draft.only], lone_draft, draft.only)
            controls: tuple[str, ...] = (text,)
        else:
            text, phrases, bindings = _padded(parts, {**fixed, **things}, draft)
            swapped = _swapped(spec, pair, worded, fixed, draft)
            controls = tuple(_padded(lone, pieces, lone_draft, name)[0] for name, pieces in alone.items())
    except KeyError as error:
        raise Mistake(("template",), f"nothing fills the slot {{{error.args[0]}}}") from None
    if not text and not spec.allow_empty:
        raise Mistake(("template",), "the prompt is empty; where that is meant, write allow_empty: true")
    return Prompt(text, phrases, bindings, None if swapped == text else swapped, controls)


def _without(objects: Collection[str], arrangement: dict[str, str]) -> dict[str, str]:
    """What is left of a word order when only one object stands: the phrases' own, if they permute among themselves."""
    rest = {at: name for at, name in arrangement.items() if at not in objects and name not in objects}
    return rest if set(rest) == set(rest.values()) else {}


def _role(name: str, draft: Draft) -> Role:
    return "filler" if name in draft.fillers else "phrase"


def _swapped(
    spec: PromptSpec,
    pair: tuple[str, ...] | None,
    worded: dict[str, dict[str, str]],
    fixed: dict[str, _Piece],
    draft: Draft,
) -> str | None:
    if pair is None:
        return None
    a, b = pair
    foil = {**worded, a: worded[b], b: worded[a]}
    things = {name: _object(name, thing, foil[name], draft.fills) for name, thing in spec.objects.items()}
    return _padded(_parts(spec.template), {**fixed, **things}, draft)[0]


def _padded(
    parts: tuple[tuple[str, bool], ...], pieces: dict[str, _Piece], draft: Draft, lone_object: str | None = None
) -> tuple[str, tuple[Phrase, ...], tuple[Binding, ...]]:
    if draft.before:
        name = f"{draft.pad}.before"
        pieces = {**pieces, name: _Piece(draft.before, ((name, "filler", 0, len(draft.before)),))}
        needle = "object" if lone_object and lone_object == draft.needle else draft.needle
        at = next(
            (i for i, part in enumerate(parts) if part[1] and draft.arrangement.get(part[0], part[0]) == needle), None
        )
        if at is not None:
            parts = (*parts[:at], (name, True), (" ", False), *parts[at:])
    text, spans, bindings = _join(parts, pieces, draft.arrangement)
    text, phrases = _trim(text, spans)
    if draft.after:
        text, start = f"{text}{draft.after}".strip(), len(text)
        phrases = (*phrases, Phrase(f"{draft.pad}.after", text[start:], start, len(text), "filler"))
    return text, phrases, tuple(bindings)


def nouns(prompt: Prompt) -> tuple[Phrase, ...]:
    """The noun of every object as a phrase `object.noun`, in order of appearance."""
    words = {binding.object: binding.noun for binding in prompt.bindings}
    return tuple(
        Phrase(f"{p.name}.noun", words[p.name], p.end - len(words[p.name]), p.end, "object")
        for p in prompt.phrases
        if p.role == "object" and p.name in words
    )


_SAY_A = re.compile(r"uni(?!n|m|d)|us[eau]|ut[io]|eu|ew|one(?![a-z])|once|ub|uk|ur[aio]|ufo")
_SAY_AN = re.compile(r"[aeiou]|hour|honest|honou?r|heir|8|1[18](?!\d)")


@lru_cache(maxsize=4096)
def article(words: str) -> str:
    """`a` or `an` before these words; `a` where they hold no letter or digit."""
    start = re.search(r"\w+", words)
    if not start:
        return "a"
    word = start[0]
    if re.fullmatch("[A-Z]|[B-DF-HJ-NP-TV-Z]{2,4}", word):
        return "an" if word[0] in "AEFHILMNORSX" else "a"
    plain = unicodedata.normalize("NFD", word + words[start.end() :][:1]).lower()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return "an" if _SAY_AN.match(plain) and not _SAY_A.match(plain) else "a"
