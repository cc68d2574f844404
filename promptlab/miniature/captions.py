"""The caption grammar: says a scene in words, as people prompt, and knows where in the text each thing is named.

Nearly everything may stay unsaid, so that a denoiser learns that the unstated is free; nothing said is untrue. Neutral
filler in front, between and behind moves the content to every position of a text encoder's 77 slots.

No draw depends on a colour: the caption of `swap_colours(scene)` under the same seed is the same text with the colour
words exchanged (and "a" or "an" to suit), which makes it a hard negative.

The phrases are plain tables at the top. The grammar composes them and adds no word of its own, so that `LEXICON`, the
words in them, is complete by construction. No phrase holds a hyphen or an apostrophe: a word is one run of letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from promptlab.miniature.world import COLOURS, NOUNS, POSES, Scene, Thing

__all__ = [
    "ARTICLES",
    "COLOUR_AFTER",
    "CONNECTORS",
    "COPULAS",
    "FILLERS",
    "FRAMES",
    "FRAMES_BARE",
    "INVERSE",
    "LEXICON",
    "MEDIA_FRAMES",
    "MEDIA_FRAMES_BARE",
    "PLACES",
    "POSE_AFTER",
    "POSE_CLAUSE",
    "RELATION_PHRASES",
    "SETTING_PHRASES",
    "SIZE_WORDS",
    "STYLE_FRAMES",
    "STYLE_LEADS",
    "STYLE_TAILS",
    "SYNONYMS",
    "THREE_OR_MORE",
    "Caption",
    "Mention",
    "check_words",
    "describe",
]

ARTICLES = ("a", "an", "the")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "cup": ("mug",),
    "car": ("automobile",),
    "house": ("home", "cottage"),
    "dog": ("puppy",),
    "ball": ("sphere",),
    "box": ("cube",),
}

SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "tiny", "little"),
    "medium": ("medium",),
    "large": ("large", "large", "big"),
}

COLOUR_AFTER = ("that is", "that is", "which is", "colored", "coloured")
"""What may stand between a noun and its colour: "a cup that is red"."""

POSE_AFTER: dict[str, tuple[str, ...]] = {
    "standing": ("standing", "that stands", "that is standing"),
    "running": ("running", "that runs", "that is running"),
    "sleeping": ("sleeping", "that sleeps", "that is sleeping", "asleep"),
}

POSE_CLAUSE: dict[str, str] = {"standing": "standing", "running": "running", "sleeping": "sleeping"}
"""What may stand after "the dog is"."""

INVERSE: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "next to": "next to",
}
"""The relation that holds from the second thing to the first."""

RELATION_PHRASES: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "to the right of", "right of", "on the right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "under", "beneath"),
    "next to": ("next to", "next to", "beside"),
}

CONNECTORS = (" and ", " and ", " and ", ", ", " with ", " along with ", " together with ", " and also ")
THREE_OR_MORE = (" and ", " and ", ", ", ", and ")
"""What may stand before the last of three things; commas stand before the others."""

COPULAS = ("is", "there is", "we see")
"""What may stand in "to the left of a chair ... a cup"."""

FRAMES = (
    "a picture of",
    "a picture of",
    "an image of",
    "a picture with",
    "a scene with",
    "a view of",
    "there is",
    "this is",
    "we see",
    "i see",
    "you can see",
    "a picture showing",
    "an image that shows",
    "here is",
    "a depiction of",
    "a rendering of",
)
MEDIA_FRAMES = (
    "a photo of",
    "a photo of",
    "a photo of",
    "a painting of",
    "a photograph of",
    "an illustration of",
    "a close up of",
    "a digital picture of",
)
FRAMES_BARE = ("picture of", "image of", "scene with")
MEDIA_FRAMES_BARE = ("photo of", "painting of")

STYLE_FRAMES: dict[str, tuple[str, ...]] = {
    "golden light": ("a photo in golden light of", "a picture in golden light of", "golden light on"),
    "dark": ("a dark photo of", "a dark picture of", "a very dark image of"),
    "blurry": ("a blurry photo of", "a blurry picture of", "a very blurry image of"),
    "sketch": ("a sketch of", "a sketch of", "a pencil sketch of", "a rough sketch of"),
    "flat": ("a flat picture of", "a flat illustration of", "a flat drawing of"),
    "glossy": ("a glossy photo of", "a glossy picture of", "a glossy rendering of"),
}
STYLE_LEADS: dict[str, tuple[str, ...]] = {
    "golden light": ("in golden light", "golden light"),
    "dark": ("dark", "a dark scene"),
    "blurry": ("blurry", "a blurry view"),
    "sketch": ("sketch", "a sketch", "in sketch style"),
    "flat": ("flat", "flat style"),
    "glossy": ("glossy", "glossy style"),
}
STYLE_TAILS: dict[str, tuple[str, ...]] = {
    "golden light": (" in golden light", ", in golden light", ", golden light"),
    "dark": (", dark", ", very dark", ", a dark picture"),
    "blurry": (", blurry", ", very blurry", ", a blurry picture"),
    "sketch": (", sketch", ", a sketch", ", in sketch style", " as a sketch"),
    "flat": (", flat", ", flat style", ", a flat picture"),
    "glossy": (", glossy", ", very glossy", ", glossy style"),
}

SETTING_PHRASES: dict[str, tuple[str, ...]] = {
    "plain": ("on a plain background", "on a plain background", "with a plain background", "plain background"),
    "grass": ("on grass", "on the grass", "in a meadow"),
    "night": ("at night", "at night", "in the night", "by night"),
    "sunset": ("at sunset", "at sunset", "during sunset", "in the sunset"),
    "table": ("on a table", "on the table", "on a wooden table"),
    "snow": ("in the snow", "on snow", "in snow"),
}

PLACES: dict[str, str] = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}

FILLERS = (
    "highly detailed",
    "best quality",
    "masterpiece",
    "a very nice picture",
    "simple and lovely",
    "trending",
    "wonderful image",
    "beautiful",
    "amazing",
    "award winning",
    "very good",
    "high quality",
    "great work",
    "an amazing piece of art",
    "made with great care",
    "made with a lot of love and patience",
    "as good as it can be",
    "one of the best of this year",
    "seen by many people",
    "a favorite of everyone who has seen it",
    "the best one so far",
    "very popular",
    "popular on the internet",
    "shared by thousands of happy people",
    "perfect composition",
    "perfect",
    "stunning",
    "gorgeous",
    "intricate",
    "elegant",
    "elegant and clean",
    "professional",
    "professional work",
    "a work of a famous artist",
    "by a great artist",
    "by a very talented young artist",
    "created for a magazine",
    "from a new collection",
    "part of a long series",
    "number one",
    "featured today",
    "cool",
    "so cool",
    "nice",
    "nice and simple",
    "fine art",
    "modern art",
    "incredible",
    "an incredible moment to remember for a long time",
    "this is a really good one",
    "i like this very much",
    "everybody likes it",
    "interesting",
    "very interesting and well made",
    "unusual but good",
    "lovely",
    "charming",
    "creative",
    "creative idea",
    "original",
    "an original idea",
    "inspired",
    "trending this week",
    "on display in a museum",
    "worth a second look",
    "done in one afternoon",
    "the result of many hours of work",
    "just for fun",
    "fun",
    "enjoy",
    "extremely detailed",
    "fantastic",
    "quality content",
)
"""Phrases that draw nothing. Their number is prime: the grammar walks through them with any stride, without repeats."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings(value.values())
    elif isinstance(value, Iterable):
        for item in value:
            yield from _strings(item)


_TABLES = (
    (ARTICLES, NOUNS, POSES, COLOURS.keys(), SYNONYMS, SIZE_WORDS, COLOUR_AFTER, POSE_AFTER, POSE_CLAUSE, COPULAS),
    (RELATION_PHRASES, CONNECTORS, THREE_OR_MORE, FRAMES, MEDIA_FRAMES, FRAMES_BARE, MEDIA_FRAMES_BARE),
    (SETTING_PHRASES, PLACES, STYLE_FRAMES, STYLE_LEADS, STYLE_TAILS, FILLERS),
)
LEXICON: frozenset[str] = frozenset(word for phrase in _strings(_TABLES) for word in _WORD.findall(phrase))
"""Every word that the grammar can say."""


def check_words(text: str) -> tuple[str, ...]:
    """The words of a prompt that the grammar never says, lower-cased, each once, in the order of the text."""
    return tuple(dict.fromkeys(w for w in _WORD.findall(text.lower()) if w not in LEXICON))


SYNONYM_RATE = 0.12
COLOUR_DROP_RATE = 0.12
FILLER_RATE = 0.35
_VOWELS = frozenset("aeiou")
_FILLER_COSTS = tuple(len(f.split()) + 1 for f in FILLERS)
_APART = 0.25
"""Least distance of two centres, as a share of the canvas, that the grammar calls left and right, or top and bottom."""


@dataclass(frozen=True, slots=True)
class Mention:
    """One naming of a thing: the world's noun (the text may say a synonym), what is said of it, and where, in
    characters, article included. A restated detail is a mention of its own."""

    noun: str
    colour: str | None
    size: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Caption:
    """A text and the things it names, in the order of the text."""

    text: str
    mentioned: tuple[Mention, ...]


class _Dice:
    """Draws in blocks: one call of the generator costs as much as twenty of ours."""

    __slots__ = ("_left", "_rng")

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._left: list[float] = rng.random(64).tolist()

    def unit(self) -> float:
        if not self._left:
            self._left = self._rng.random(64).tolist()
        return self._left.pop()

    def chance(self, p: float) -> bool:
        return self.unit() < p

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.unit() * len(options))]


class _Wording:
    """How this caption words one thing."""

    __slots__ = ("colour", "noun", "pose", "size", "size_word", "thing")

    def __init__(self, thing: Thing, dice: _Dice) -> None:
        self.thing = thing
        synonyms = SYNONYMS.get(thing.noun)
        self.noun = dice.pick(synonyms) if dice.chance(SYNONYM_RATE) and synonyms else thing.noun
        self.colour = None if dice.chance(COLOUR_DROP_RATE) else thing.colour
        self.size = thing.size if dice.chance(0.03 if thing.size == "medium" else 0.5) else None
        self.size_word = dice.pick(SIZE_WORDS[thing.size]) if self.size else ""
        self.pose = thing.pose if thing.pose and dice.chance(0.5) else None

    def __str__(self) -> str:
        return f"{self.colour} {self.noun}" if self.colour else self.noun


class _Writer:
    __slots__ = ("at", "mentions", "parts")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.at = 0
        self.mentions: list[Mention] = []

    def say(self, words: str) -> None:
        self.parts.append(words)
        self.at += len(words)

    def name(self, wording: _Wording, words: str, *, full: bool = True) -> None:
        size, end = wording.size if full else None, self.at + len(words)
        self.mentions.append(Mention(wording.thing.noun, wording.colour, size, self.at, end))
        self.say(words)


class _Fillers:
    """A walk through the fillers with a random stride. Their number is prime, so none repeats within a round."""

    __slots__ = ("_at", "_stride")

    def __init__(self, dice: _Dice) -> None:
        n = len(FILLERS)
        self._at = int(dice.unit() * n)
        self._stride = 1 + int(dice.unit() * (n - 1))

    def take(self, tokens: float) -> list[str]:
        """Phrases of about so many tokens, each counted with its comma."""
        chosen = []
        while tokens > 0:
            self._at = (self._at + self._stride) % len(FILLERS)
            chosen.append(FILLERS[self._at])
            tokens -= _FILLER_COSTS[self._at]
        return chosen


def _phrase(wording: _Wording, dice: _Dice, *, bare: bool) -> str:
    """The noun phrase: "a red cup", "red cup", "a large cup that is red", "a black dog that stands"."""
    before = [wording.size_word] if wording.size else []
    after = []
    if wording.pose:
        if dice.chance(0.45):
            before.insert(0, wording.pose)
        else:
            after.append(dice.pick(POSE_AFTER[wording.pose]))
    colour_last = dice.chance(0.12) and not bare and not after
    link = dice.pick(COLOUR_AFTER)
    definite = dice.chance(0.05)
    if wording.colour:
        if colour_last:
            after.append(f"{link} {wording.colour}")
        else:
            before.append(wording.colour)
    words = " ".join([*before, wording.noun, *after])
    if bare:
        return words
    return f"the {words}" if definite else f"{'an' if words[0] in _VOWELS else 'a'} {words}"


def _relation(scene: Scene, dice: _Dice) -> str | None:
    """The relation to state from the first thing to the second: the scene's, or one that its places show."""
    stated, shown = dice.chance(0.75), dice.chance(0.2)
    if len(scene.things) != 2:
        return None
    if scene.relation:
        return scene.relation if stated else None
    a, b = scene.things
    if not shown or abs(a.x - b.x) < _APART:
        return None
    return "next to" if dice.chance(0.5) else "left of" if a.x < b.x else "right of"


def _place(scene: Scene, thing: Thing) -> str | None:
    """Where a thing stands among the others, if that is plain to see."""
    xs, ys = [t.x for t in scene.things], [t.y for t in scene.things]
    if len(xs) == 1:
        return "middle" if abs(thing.x - 0.5) < 0.1 else None
    if max(xs) - min(xs) >= _APART:
        return {min(xs): "left", max(xs): "right"}.get(thing.x)
    if max(ys) - min(ys) >= _APART:
        return {min(ys): "top", max(ys): "bottom"}.get(thing.y)
    return None


def _restate(out: _Writer, scene: Scene, wording: _Wording, dice: _Dice) -> None:
    """A true detail once more: "the cup is red", "the red cup is on the left"."""
    place, u = _place(scene, wording.thing), dice.unit()
    if wording.pose and u < 0.4:
        out.name(wording, f"the {wording} is {POSE_CLAUSE[wording.pose]}", full=False)
    elif place and u < 0.7:
        out.name(wording, f"the {wording}", full=False)
        out.say(f" is {PLACES[place]}")
    elif wording.size and u < 0.85:
        out.name(wording, f"the {wording} is {wording.size_word}")
    else:
        out.name(
            wording, f"the {wording.noun} is {wording.colour}" if wording.colour else f"the {wording.noun}", full=False
        )


def _budget(dice: _Dice, length: Literal["any", "short", "long"], several: bool) -> tuple[float, float, float]:
    """Tokens of filler in front, between and behind."""
    padded, u, v, w, where = dice.chance(FILLER_RATE), dice.unit(), dice.unit(), dice.unit(), dice.unit()
    if length == "short" or (length == "any" and not padded):
        return 0.0, 0.0, 0.0
    total = 28 + 45 * u if length == "long" else 2 + 69 * u**1.4
    if where < 0.4:
        return total, 0.0, 0.0
    if where < 0.55:
        return 0.0, 0.0, total
    if not several:
        return v * total, 0.0, (1 - v) * total
    low, high = (0.0, 1.0) if where < 0.7 else sorted((v, w))
    return low * total, (high - low) * total, (1 - high) * total


def _things(out: _Writer, wordings: list[_Wording], relation: str | None, gap: str, dice: _Dice, form: str) -> None:
    """The core of the caption: `wordings` in the order of the text; `relation` leads from the first to the second."""
    phrases = [_phrase(t, dice, bare=form == "bare") for t in wordings]
    if relation:
        u, words = dice.unit(), dice.pick(RELATION_PHRASES[relation])
        if u < 0.1 and not gap and form == "sentence":
            # The thing that the relation starts from comes last here: "to the left of a chair is a cup".
            words = dice.pick(RELATION_PHRASES[INVERSE[relation]])
            out.say(f"{words} ")
            out.name(wordings[0], phrases[0])
            out.say(f" {dice.pick(COPULAS)} ")
        else:
            out.name(wordings[0], phrases[0])
            out.say(f"{gap}, {words} " if gap else f" is {words} " if u < 0.25 and form == "sentence" else f" {words} ")
        out.name(wordings[1], phrases[1])
        return
    last = dice.pick(CONNECTORS if len(wordings) == 2 else THREE_OR_MORE)
    for i, (wording, phrase) in enumerate(zip(wordings, phrases, strict=True)):
        if i:
            joint = ", " if form == "bare" or i < len(wordings) - 1 else last
            if i == 1 and gap:
                joint = f"{gap}{joint}" if joint.startswith(",") else f"{gap},{joint}"
            out.say(joint)
        out.name(wording, phrase)


def describe(scene: Scene, rng: np.random.Generator, *, length: Literal["any", "short", "long"] = "any") -> Caption:
    """A caption of the scene. "short" has no filler; "long" is always padded; "any" mixes (half under 15 tokens)."""
    if not scene.things:
        raise ValueError("a scene without things has no caption")
    dice = _Dice(rng)
    wordings = [_Wording(t, dice) for t in scene.things]
    relation = _relation(scene, dice)
    wordings.sort(key=lambda _: dice.unit())
    if relation and wordings[0].thing is not scene.things[0]:
        relation = INVERSE[relation]
    bare = dice.chance(0.15)
    front, middle, back = _budget(dice, length, len(wordings) > 1)
    fillers = _Fillers(dice)
    leads, frame, tails = _around(scene, dice, bare=bare, short=length == "short")

    out = _Writer()
    for words in (*fillers.take(front), *leads):
        out.say(f"{words}, ")
    if frame:
        out.say(f"{frame} ")
    # Behind a frame only a noun phrase is right: not "a photo of a cup is above a box".
    form = "bare" if bare else "phrase" if frame else "sentence"
    _things(out, wordings, relation, "".join(f", {f}" for f in fillers.take(middle)), dice, form)
    for words in tails:
        out.say(words)
    trailing = fillers.take(back)
    again = {}
    if front + middle + back > 15 and dice.chance(0.6):
        count = len(wordings) if dice.chance(0.2) else 1
        again = {int(dice.unit() * (len(trailing) + 1)): t for t in wordings[:count]}
    for i in range(len(trailing) + 1):
        if i in again:
            out.say(", ")
            _restate(out, scene, again[i], dice)
        if i < len(trailing):
            out.say(f", {trailing[i]}")
    if dice.chance(0.06):
        out.say(".")
    return Caption("".join(out.parts), tuple(out.mentions))


def _around(scene: Scene, dice: _Dice, *, bare: bool, short: bool) -> tuple[list[str], str, list[str]]:
    """What stands around the things: phrases in front (with commas), the frame ("a photo of"), phrases behind."""
    leads, tails, frame = list[str](), list[str](), ""
    rate = 0.15 if scene.setting == "plain" else 0.4 if short else 0.8
    if dice.chance(rate):
        words = dice.pick(SETTING_PHRASES[scene.setting])
        if dice.chance(0.15):
            leads.append(words)
        else:
            tails.append(f", {words}" if bare or dice.chance(0.15) else f" {words}")
    framed, u, style = dice.chance(0.2 if short else 0.45), dice.unit(), scene.style
    if style and dice.chance(0.9):
        if u < 0.4 and not bare:
            return leads, dice.pick(STYLE_FRAMES[style]), tails
        if u < 0.6:
            leads.append(dice.pick(STYLE_LEADS[style]))
        else:
            tails.append(dice.pick(STYLE_TAILS[style]))
    if framed:
        # "a photo of" would be untrue of a sketch.
        media = u < 0.5 and style not in ("sketch", "flat")
        if bare:
            frame = dice.pick(MEDIA_FRAMES_BARE if media else FRAMES_BARE)
        else:
            frame = dice.pick(MEDIA_FRAMES if media else FRAMES)
    return leads, frame, tails
