"""Prompts that somebody else wrote: which objects and colours they claim, where that can be said for sure.

A claim is declared, never guessed. It comes from data (`Asked`, as GenEval's metadata give it) or from one narrow
grammar, and a prompt that the grammar does not match claims nothing:

    prompt   = [ "a photo of" | "a picture of" | "an image of" ]  thing  { ( "," | "and" | ", and" )  thing }  [ "." ]
    thing    = [ "a" | "an" | "the" ]  COLOUR  noun
    noun     = one word, or two; none is a function word, and of two the first is no colour, the second no "-ing" form

COLOURS are the eleven basic terms of Berlin and Kay and a few that prompt lists use. "a green bench and a blue bowl"
matches. "two toilets, one blue and one orange" does not, nor "a black and white cat": who would be black?

Objects are named first, second, third, ... in order of mention. From the places of two coloured ones follow the
swapped twin (their colours exchanged, articles mended) and the prompts that ask for one object alone.

References:
    Berlin and Kay 1969, Basic Color Terms. Huang et al. 2023, T2I-CompBench (arXiv 2307.06350), for whose colour list
    the grammar was made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from promptlab.records import Binding, Phrase, Prompt
from promptlab.study.prompts import article

__all__ = ["COLOURS", "Asked", "claim", "read_claims", "swap_partner"]

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
class Asked:
    """An object that a prompt asks for: its noun, its colour if any, and other claims as (family, attribute)."""

    noun: str
    colour: str | None = None
    others: tuple[tuple[str, str], ...] = ()


def read_claims(text: str) -> tuple[Asked, ...]:
    """What the grammar above reads in a prompt, in order of mention; nothing where it does not match."""
    body = text.strip().removesuffix(".")
    found = []
    for part in _BETWEEN.split(body[_LEAD.match(body).end() :]):  # type: ignore[union-attr]
        match = _THING.fullmatch(part)
        if not match or not _is_noun(match[2].lower().split()):
            return ()
        found.append(Asked(match[2].lower(), match[1].lower()))
    return tuple(found) if len(found) <= len(NAMES) else ()


def _is_noun(words: list[str]) -> bool:
    if any(_FUNCTION.fullmatch(word) for word in words):
        return False
    return len(words) == 1 or (words[0] not in COLOURS and not (words[1].endswith("ing") and len(words[1]) > 4))


def claim(text: str, asked: Sequence[Asked]) -> Prompt:
    """The prompt `text` with bindings of `asked`, phrases where their words are found once, twin and controls.

    An object whose words are not found (plural, say) has a binding and no phrase, and then there is neither a twin nor
    a control. Bindings stand in order of mention, as far as that is known.
    """
    spans = [_find(text, thing) for thing in asked]
    order = sorted(range(len(asked)), key=lambda i: found[0][0] if (found := spans[i]) else len(text) + i)
    phrases: list[Phrase] = []
    bindings: list[Binding] = []
    for name, i in zip(NAMES, order, strict=False):
        thing, found = asked[i], spans[i]
        if found:
            (start, end), colour = found
            phrases.append(Phrase(name, text[start:end], start, end, "object"))
            if colour:
                phrases.append(Phrase(f"{name}.colour", text[slice(*colour)], *colour, "attribute"))
        claims = (("colour", thing.colour), *thing.others) if thing.colour else thing.others
        bindings += [Binding(name, thing.noun, attribute, family) for family, attribute in claims]
        if not claims:
            bindings.append(Binding(name, thing.noun, None))
    objects = [phrase for phrase in phrases if phrase.role == "object"]
    alone: tuple[str, ...] = ()
    if asked and len(objects) == len(asked):
        head, tail = text[: objects[0].start], text[objects[-1].end :]
        alone = tuple(f"{head}{phrase.text}{tail}" for phrase in objects)
    prompt = Prompt(text, tuple(phrases), tuple(bindings), None, alone)
    return replace(prompt, swapped=swap_partner(prompt))


def _find(text: str, thing: Asked) -> tuple[tuple[int, int], tuple[int, int] | None] | None:
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
