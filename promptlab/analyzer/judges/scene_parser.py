"""The shipped scene parser, opened once: what things pictures of the miniature world show.

It reads 128x128 pictures and no others: it was calibrated on those alone, and resizing would make its passport void.

Colour words and nouns of two objects, where they lie in a prompt and where their objects lie in a picture.

What the probes `attention`, `ablation` and `padding` share: they compare what words do with what the parser finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import sha256
from promptlab.errors import ModelError
from promptlab.miniature.captions import SYNONYMS
from promptlab.miniature.parser import Found
from promptlab.miniature.world import CANVAS
from promptlab.records import Phrase, Prompt

__all__ = ["Scenes", "Words", "bound_words", "has_its_colour", "mask_on", "plain_noun", "thing_of"]

_NOUN_OF = {synonym: noun for noun, synonyms in SYNONYMS.items() for synonym in synonyms}


def plain_noun(word: str) -> str:
    """The miniature's own word for a noun: lower case, a mug is a cup."""
    word = word.strip().lower()
    return _NOUN_OF.get(word, word)


class Scenes:
    """Reads pictures with the parser in `folder` (None: the one that ships). Nothing is opened before the first."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self._chosen_folder = folder

    @cached_property
    def _folder(self) -> Path:
        if self._chosen_folder is not None:
            return Path(self._chosen_folder).expanduser()
        from promptlab.resources import shipped_folder

        return shipped_folder() / "parser"

    @cached_property
    def sha256(self) -> str:
        """Of the weights. Raises ModelError when there are none."""
        path = self._folder / "model.safetensors"
        if not path.is_file():
            raise ModelError(f"no scene parser in {self._folder}; make it with `promptlab miniature train`")
        return sha256(path)

    def read(self, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, tuple[Found, ...]]:
        """The things in each picture, by the picture's key; pictures that are not uint8 (128, 128, 3) are left out.

        Raises ModelError.
        """
        from promptlab.miniature.parser import load_parser, parse

        fit = {key: picture for key, picture in pictures.items() if self.objection(picture.shape) is None}
        if not fit:
            return {}
        return dict(zip(fit, parse(np.stack(list(fit.values())), load_parser(self._folder)), strict=True))

    @staticmethod
    def objection(shape: tuple[int, ...]) -> str | None:
        """Why pictures of this shape cannot be read, or None."""
        if shape == (CANVAS, CANVAS, 3):
            return None
        height, width = shape[:2]
        return f"the scene parser reads {CANVAS}x{CANVAS} pictures of the miniature, this one has {width}x{height}"


@dataclass(frozen=True)
class Words:
    """An object of a prompt: its name, its noun, and its colour word if it has one."""

    object: str
    noun: Phrase
    colour: Phrase | None


def bound_words(prompt: Prompt) -> tuple[Words, ...]:
    """Each object whose noun stands in the prompt, in order of mention."""
    places = {phrase.name: phrase for phrase in prompt.phrases}
    found: dict[str, Words] = {}
    for binding in prompt.bindings:
        whole = places.get(binding.object)
        at = -1 if whole is None else whole.text.rfind(binding.noun)
        if whole is None or at < 0 or binding.object in found:
            continue
        start = whole.start + at
        noun = Phrase(binding.object, binding.noun, start, start + len(binding.noun))
        colour = places.get(f"{binding.object}.{binding.kind}") if binding.attribute else None
        found[binding.object] = Words(binding.object, noun, colour)
    return tuple(found.values())


def thing_of(words: Words, others: Sequence[Words], found: Sequence[Found]) -> Found | None:
    """The largest thing of an object's noun; None where there is none, or two objects share the noun."""
    noun = plain_noun(words.noun.text)
    if any(plain_noun(one.noun.text) == noun for one in others if one.object != words.object):
        return None
    return max((thing for thing in found if thing.noun == noun), key=lambda thing: thing.area, default=None)


def has_its_colour(words: Words, others: Sequence[Words], found: Sequence[Found]) -> bool:
    """Whether an object is there, in the colour that its prompt asks for."""
    thing = thing_of(words, others, found)
    return thing is not None and words.colour is not None and thing.colour == words.colour.text.lower()


def mask_on(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float64]:
    """The share of each place of a grid (h, w) that a mask covers, 0..1; either grid may be the finer one."""
    down, across = (_overlap(*sizes) for sizes in zip(shape, mask.shape, strict=True))
    return np.asarray(down @ mask @ across.T)


def _overlap(n: int, m: int) -> NDArray[np.float64]:
    """The share (n, m) of each of n equal parts of a line that each of m equal parts covers."""
    ours, theirs = np.arange(n + 1)[:, None] / n, np.arange(m + 1)[None] / m
    shared = np.minimum(ours[1:], theirs[:, 1:]) - np.maximum(ours[:-1], theirs[:, :-1])
    return np.asarray(np.maximum(shared, 0) * n, np.float64)
