"""The shipped scene parser, opened once: what things pictures of the miniature world show.

It reads 128x128 pictures and no others: it was calibrated on those alone, and resizing would make its passport void.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptlab.clip import sha256
from promptlab.errors import ModelError
from promptlab.miniature.lexicon import SYNONYMS
from promptlab.miniature.parser import Found
from promptlab.miniature.world import CANVAS

__all__ = ["Scenes", "plain_noun"]

_NOUN_OF = {synonym: noun for noun, synonyms in SYNONYMS.items() for synonym in synonyms}


def plain_noun(word: str) -> str:
    """The miniature's own word for a noun: lower case, a mug is a cup."""
    word = word.strip().lower()
    return _NOUN_OF.get(word, word)


class Scenes:
    """Reads pictures with the parser in `folder` (None: the one that ships). Nothing is opened before the first."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self._given = folder

    @cached_property
    def _folder(self) -> Path:
        if self._given is not None:
            return Path(self._given).expanduser()
        from promptlab.miniature.shipped import shipped_folder

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
