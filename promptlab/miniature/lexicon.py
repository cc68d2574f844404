"""Every phrase that the caption grammar can say, as plain tables, and `LEXICON`, the words in them.

`captions.py` composes these and adds no word of its own, so that `LEXICON` is complete by construction. No phrase holds
a hyphen or an apostrophe: each word is one run of letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from promptlab.miniature.world import COLOURS, NOUNS, POSES

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
    "check_words",
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
