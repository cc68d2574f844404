"""The model behind a picture, for probes that ask it again; and the maps of a prompt's words, for people.

    shot --Models.of--> Model --attend--> attention to phrases      word_maps: the same for a prompt and a seed
                              --without-> the picture less a phrase, or less a part of the text states

One model is open at a time, and none before it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptlab import plugins
from promptlab.analyzer import Shot
from promptlab.backends import Job
from promptlab.backends.attention import attend, token_places, without
from promptlab.backends.text_parts import part_places
from promptlab.errors import PromptlabError, UntraceableError
from promptlab.probes import Model
from promptlab.records import Cell, Part, Phrase, Prompt, Settings

__all__ = ["Models", "WordMaps", "content_words", "word_maps"]

ROWS = 4
"""Pictures that are made together when words are taken out."""
_SMALL = "a an the of and or with in on at to by as is are its it this that from for photo picture image"
SMALL_WORDS = frozenset(re.findall(r"\w+", _SMALL))


@dataclass(frozen=True, eq=False)
class WordMaps:
    """A picture, uint8 (height, width, 3), its words, and attention to each: float32 (4, words, h, w).

    The first axis is all steps, then their early, middle and late third (NaN for one that too few steps leave empty).
    """

    picture: NDArray[np.uint8]
    words: tuple[str, ...]
    maps: NDArray[np.float32]


class Models:
    """Opens the model of a shot when a probe asks for it, and keeps the last one open."""

    def __init__(self, rows: int = ROWS) -> None:
        self._rows = rows
        self._name: str | None = None
        self._backend: Any = None

    def of(self, shot: Shot) -> Model | None:
        """The model that drew a shot, or None for a picture that no diffusion model here has drawn."""
        return _Drawn(self, shot) if shot.cell.backend == "diffusion" else None

    def backend(self, name: str) -> Any:
        """The loaded model. Raises ModelError."""
        if self._name != name:
            self.close()
            self._backend, self._name = plugins.load("backend", "diffusion", model=name, batch_size=self._rows), name
        return self._backend

    def close(self) -> None:
        """Give back memory."""
        if self._backend is not None:
            self._backend.close()
        self._backend = self._name = None


@dataclass(frozen=True)
class _Drawn:
    """The model behind one shot."""

    models: Models
    shot: Shot

    def _job(self) -> tuple[Any, Job]:
        return self.models.backend(self.shot.cell.model), Job.of(*self.shot)

    def attend(self, phrases: Sequence[Phrase]) -> NDArray[np.float32]:
        """See `Model.attend`."""
        backend, job = self._job()
        places = token_places(backend, self.shot.cell.prompt, phrases)
        return attend(backend, [job])[job.image_id][1].of(places)

    def without(self, phrases: Sequence[Phrase | None]) -> list[NDArray[np.uint8]]:
        """See `Model.without`."""
        backend, job = self._job()
        there = token_places(backend, self.shot.cell.prompt, [p for p in phrases if p is not None])
        found = iter(there)
        return without(backend, job, [[] if p is None else next(found) for p in phrases])

    def without_parts(self, parts: Sequence[Part | None]) -> list[NDArray[np.uint8]]:
        """See `Model.without_parts`."""
        backend, job = self._job()
        return without(backend, job, [[] if p is None else part_places(backend, job.prompt, p) for p in parts])


def content_words(text: str) -> tuple[Phrase, ...]:
    """The words of a text that name or describe: all but articles, prepositions and "photo"."""
    words = re.finditer(r"[^\W_]+(?:['-][^\W_]+)*", text)
    return tuple(Phrase(m[0], m[0], m.start(), m.end()) for m in words if m[0].lower() not in SMALL_WORDS)


def word_maps(
    prompt: str,
    seed: int,
    settings: Settings | None = None,
    model: str = "miniature",
    rows: int = ROWS,
    kept_only: bool = False,
) -> WordMaps:
    """Draw a prompt, in a batch of `rows`, and say where each of its content words acts.

    Words that every encoder cuts off are left out with `kept_only`, else they are an error.

    Raises:
        UntraceableError: a model or a setting that cannot be traced, or a word (all, with `kept_only`) that is cut off.
        PromptlabError: a prompt without such a word.
        ModelError: a model that is not there.
    """
    words = content_words(prompt)
    if not words:
        raise PromptlabError(f"no word of {prompt!r} names or describes: write one, as in 'a red cup'")
    if settings is None:
        from promptlab.backends.capabilities import defaults_of

        settings = defaults_of(model)
    cell = Cell("attention", (), Prompt(prompt), settings, "", model=model)
    models = Models(rows)
    try:
        backend, job = models.backend(model), Job.of(cell, seed)
        made, maps = attend(backend, [job])[job.image_id]
        if made.pixels is None:
            raise UntraceableError(f"the picture was not made: {made.reason}")
        if kept_only:
            words = tuple(word for word in words if _is_read(backend, cell.prompt, word)) or words
        found = maps.of(token_places(backend, cell.prompt, words))
        return WordMaps(made.pixels, tuple(word.text for word in words), found)
    finally:
        models.close()


def _is_read(backend: Any, prompt: Prompt, word: Phrase) -> bool:
    try:
        return bool(token_places(backend, prompt, [word]))
    except UntraceableError:
        return False
