"""Where words act in an image: a traced model for probes, and word maps for people.

    image --Models.of--> Model --attend--> attention to phrases
                               --without-> the image without a phrase, or without a part of the text states
    prompt, seed --word_maps--> WordMaps --heat, sheet--> images to look at
    recipe of the store --retrace--> WordMaps, and whether its pixels are those in the store

Attention is visible only while an image is made, so `retrace` makes it again with the same settings, seed and rows a
batch. On the same machine the bits are the same; `retrace` compares their hash.

A heat map shows each word's attention as light:

    light = (a - min a) / (p99 - min a), clipped to 0..1      a: a word's attention; p99: its 99th percentile

Each map is stretched by itself, so brightness compares places, never words. Where a word does not act, the image is
grey and dim; where it acts, the image keeps its colours under a warm tint. The drawing is our own and needs Pillow
alone.

One model is open at a time, and none before a probe needs it. `try_prompt` makes a few images and stores nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from promptlab import plugins
from promptlab.analyzer import PlannedImage
from promptlab.analyzer.probes import Model
from promptlab.errors import ModelError, PromptlabError, UntraceableError
from promptlab.generator.backends import Backend, Job
from promptlab.generator.models.attention import attend, part_places, token_places, without
from promptlab.records import Cell, Part, Phrase, Prompt, Settings
from promptlab.store.pictures import pixels_hash

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Models", "WordMaps", "cell_of", "content_words", "heat", "retrace", "sheet", "try_prompt", "word_maps"]

ROWS = 4
"""Images that are made in one batch when words are taken out."""
_SMALL = "a an the of and or with in on at to by as is are its it this that from for photo picture image"
SMALL_WORDS = frozenset(re.findall(r"\w+", _SMALL))


@dataclass(frozen=True, eq=False)
class WordMaps:
    """An image, its words, and the attention to each word.

    Attributes:
        picture: uint8 (height, width, 3).
        maps: float32 (4, words, h, w). The first axis is all steps, then the early, middle and late third (NaN for a
            third without steps).
    """

    picture: NDArray[np.uint8]
    words: tuple[str, ...]
    maps: NDArray[np.float32]


class Models:
    """Opens the model of an image when a probe needs it, and keeps the last one open."""

    def __init__(self, rows: int = ROWS, dtype: str | None = None) -> None:
        self._options = {"batch_size": rows, "dtype": dtype}
        self._name: str | None = None
        self._backend: Any = None

    def of(self, planned: PlannedImage) -> Model | None:
        """The model that made an image, or None if no diffusion model of promptlab made it."""
        return _Drawn(self, planned) if planned.cell.backend == "diffusion" else None

    def backend(self, name: str) -> Any:
        """Load a model, unless it is the one that is open. Raises ModelError."""
        if self._name != name:
            self.close()
            self._backend, self._name = plugins.load("backend", "diffusion", model=name, **self._options), name
        return self._backend

    def close(self) -> None:
        """Close the open model and free its memory."""
        if self._backend is not None:
            self._backend.close()
        self._backend = self._name = None


@dataclass(frozen=True)
class _Drawn:
    """The model behind one image."""

    models: Models
    planned: PlannedImage

    def _job(self) -> tuple[Any, Job]:
        return self.models.backend(self.planned.cell.model), Job.of(*self.planned)

    def attend(self, phrases: Sequence[Phrase]) -> NDArray[np.float32]:
        """See `Model.attend`."""
        backend, job = self._job()
        places = token_places(backend, self.planned.cell.prompt, phrases)
        return attend(backend, [job])[job.image_id][1].of(places)

    def without(self, phrases: Sequence[Phrase | None]) -> list[NDArray[np.uint8]]:
        """See `Model.without`."""
        backend, job = self._job()
        places = iter(token_places(backend, self.planned.cell.prompt, [p for p in phrases if p is not None]))
        return without(backend, job, [[] if p is None else next(places) for p in phrases])

    def without_parts(self, parts: Sequence[Part | None]) -> list[NDArray[np.uint8]]:
        """See `Model.without_parts`."""
        backend, job = self._job()
        return without(backend, job, [[] if p is None else part_places(backend, job.prompt, p) for p in parts])


def content_words(text: str) -> tuple[Phrase, ...]:
    """The words of a text that name or describe: all except articles, prepositions and words such as "photo"."""
    words = re.finditer(r"[^\W_]+(?:['-][^\W_]+)*", text)
    return tuple(Phrase(m[0], m[0], m.start(), m.end()) for m in words if m[0].lower() not in SMALL_WORDS)


def word_maps(
    prompt: str,
    seed: int,
    settings: Settings | None = None,
    model: str = "miniature",
    rows: int = ROWS,
    kept_only: bool = False,
    dtype: str | None = None,
) -> WordMaps:
    """Make an image of a prompt, in a batch of `rows` and in `dtype`, and map where each of its content words acts.

    With `kept_only`, words that every encoder cuts off are left out; otherwise they are an error.

    Raises:
        UntraceableError: the model or a setting cannot be traced, or a word (with `kept_only`, every word) is cut off.
        PromptlabError: the prompt has no content word.
        ModelError: the model is not on this disk.
    """
    words = content_words(prompt)
    if not words:
        raise PromptlabError(f"no word of {prompt!r} names or describes: write one, as in 'a red cup'")
    if settings is None:
        from promptlab.generator.models.capabilities import defaults_of

        settings = defaults_of(model)
    cell = Cell("attention", (), Prompt(prompt), settings, "", model=model)
    models = Models(rows, dtype)
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


SIDE, GAP, LABEL = 224, 12, 30
"""Height of a tile, space between tiles, and height of a line of text, in pixels."""
PAPER, INK, WARM = (255, 255, 255), (32, 34, 40), np.array([255.0, 120.0, 20.0])
ROW_LABELS = ("all steps", "early", "middle", "late")


def heat(picture: NDArray[np.uint8], attention: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay a map (h, w) over an image (height, width, 3). The result has the image's size."""
    from PIL import Image

    low, high = float(attention.min()), float(np.quantile(attention, 0.99))
    light = np.clip((attention - low) / (high - low) if high > low else np.zeros_like(attention), 0, 1)
    size = picture.shape[1], picture.shape[0]
    wide = np.asarray(Image.fromarray(light.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
    amount = np.clip(wide, 0, 1)[..., None]
    grey = picture.mean(-1, keepdims=True) * 0.3 + 24
    lit = picture * 0.65 + WARM * 0.35
    return np.asarray((grey * (1 - amount) + lit * amount).round().clip(0, 255), np.uint8)


def sheet(
    picture: NDArray[np.uint8], words: Sequence[str], maps: NDArray[np.float32], title: str = "", thirds: bool = False
) -> Image.Image:
    """Draw an image, and next to it the image under the map of each word.

    Args:
        picture: uint8 (height, width, 3).
        maps: (4, words, h, w), all steps and their thirds; NaN for a third without steps.
        thirds: whether to add a row each for early, middle and late steps.
    """
    from PIL import Image, ImageDraw, ImageFont

    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    rows = [r for r in range(4 if thirds else 1) if np.isfinite(maps[r]).all()]
    wide = max(1, round(SIDE * picture.shape[1] / picture.shape[0]))
    left = 84 if len(rows) > 1 else 0
    head = (LABEL if title else 0) + LABEL
    size = left + (len(words) + 1) * (wide + GAP) + GAP, head + len(rows) * (SIDE + GAP) + GAP // 2
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((GAP, 6), title, INK, small)
    for row, part in enumerate(rows):
        top = head + row * (SIDE + GAP)
        if left:
            draw.text((GAP, top + SIDE // 2), ROW_LABELS[part], INK, small, "lm")
        for column in range(len(words) + 1):
            at = left + GAP + column * (wide + GAP)
            if column == 0 and row > 0:
                continue
            tile = picture if column == 0 else heat(picture, maps[part, column - 1])
            page.paste(Image.fromarray(tile).resize((wide, SIDE), Image.Resampling.LANCZOS), (at, top))
            if row == 0 and column > 0:
                draw.text((at + wide // 2, top - LABEL // 2), words[column - 1], INK, large, "mm")
    return page


def cell_of(recipe: Mapping[str, Any]) -> tuple[Cell, int]:
    """The cell and the seed of a recipe. Raises UntraceableError for an image that no diffusion model made."""
    if recipe.get("backend") != "diffusion":
        origins = {"renderer": "was drawn by the renderer, which reads no words", "folder": "was made elsewhere"}
        backend = recipe.get("backend")
        origin = origins.get(str(backend), f"comes from the backend {backend}, not a model here")
        raise UntraceableError(f"this picture {origin}: there is no attention to show")
    known = {field.name for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in recipe.items() if name in known})
    return Cell("", (), Prompt(str(recipe["prompt"])), settings, "", model=str(recipe["model"])), int(recipe["seed"])


def retrace(
    recipe: Mapping[str, Any], pixels: str | None, rows: int | None = None, dtype: str | None = None
) -> tuple[WordMaps, bool]:
    """Make an image again and map its words. Returns the maps, and whether its pixels have the hash `pixels`.

    `rows` is the size of the batch in which it was made, and `dtype` the precision of the denoiser. The image of a
    compiled model is made again uncompiled, which rounds otherwise. Words that every encoder cuts off have no map.

    Raises UntraceableError, ModelError or PromptlabError if it cannot be made.
    """
    cell, seed = cell_of(recipe)
    size = {"rows": rows} if rows else {}
    found = word_maps(cell.prompt.text, seed, cell.settings, cell.model, kept_only=True, dtype=dtype, **size)
    return found, pixels_hash(found.picture) == pixels


def try_prompt(
    backend: Backend, prompt: str, guidance_scale: float, seeds: int = 4
) -> Iterator[tuple[Image.Image, str]]:
    """Make images of `prompt` at seeds 0 to seeds - 1 in 25 steps.

    Yields each with what the parser sees in it, such as "red cup, blue chair". Raises ModelError if an image fails.
    """
    from PIL import Image

    from promptlab.miniature.parser import load_parser, parse
    from promptlab.resources import shipped_folder

    settings = Settings(guidance_scale=guidance_scale, num_inference_steps=25)
    jobs = [Job(f"try{seed}", {}, prompt, settings, seed) for seed in range(seeds)]
    parser = load_parser(shipped_folder() / "parser")
    for made in backend.generate(jobs):
        if made.pixels is None:
            raise ModelError(f"no picture: {made.status}, {made.reason}")
        found = parse(np.asarray(made.pixels)[None], parser)[0]
        seen = ", ".join(f"{thing.colour} {thing.noun}" for thing in found) or "nothing it knows"
        yield Image.fromarray(made.pixels), seen
