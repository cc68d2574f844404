"""What every stage of the training reads: a pool of images drawn once, hard negatives, and a head that names the nouns.

The pool holds `pixels.npy` uint8 (n, 128, 128, 3), and `labels.npy` uint8 (n, 2, 32, 32) with the noun (0 is
background) and the colour (0 is none) of each 4x4 block of pixels. Scene i is `scene(seed, i)`, so nothing else is
stored. Several processes render; an interrupted pool continues at its first empty image.

Hard negatives for a CLIP are twins of a scene that differ in one thing, with the captions of both.

The throw-away head teaches a network what stands where: it names the noun of every place, as the label maps do. It
serves the CLIP towers (silhouettes) and the denoiser (which noun the text wants drawn here), and goes when the training
ends. Pixels alone say little of shapes: a noun wrongly drawn in the right colour costs hardly any squared error.

References:
    Captions as hard negatives follow Yuksekgonul et al. 2023, When and Why Vision-Language Models Behave like
    Bags-of-Words (arXiv 2210.01936); twins of the images are ours. Supervision of a middle stage follows Lee et al.
    2015, Deeply-Supervised Nets (arXiv 1409.5185); that a denoiser learns many times faster so, Yu et al. 2024,
    Representation Alignment for Generation (arXiv 2410.06940).
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import open_memmap

from promptlab.miniature.captions import describe
from promptlab.miniature.train.loop import Report
from promptlab.miniature.world import (
    CANVAS,
    COLOURS,
    NOUNS,
    PAIRS,
    POSES,
    Scene,
    Thing,
    pair_weights,
    sample_scene,
    swap_colours,
)

__all__ = ["CELLS", "Pool", "colour_twin", "fill", "label_map", "noun_twin", "places_head", "scene"]

CELLS = 32
"""Side of a label map."""

LABELS = (*NOUNS, "unknown")
_CHUNK = 250


@dataclass(frozen=True)
class Pool:
    """Rendered training data: `pixels` (n, 128, 128, 3) uint8, `labels` (n, 2, 32, 32) uint8."""

    seed: int
    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def scene(self, i: int) -> Scene:
        """The scene that picture `i` shows."""
        return scene(self.seed, i)


def scene(seed: int, i: int) -> Scene:
    """Scene number `i` of the training world."""
    return sample_scene(np.random.default_rng([seed, i]))


def parser_scene(seed: int, i: int) -> Scene:
    """Scene `i` for the parser: all pairs alike, and one thing in eight is a shape that is no noun."""
    rng = np.random.default_rng([seed, 1, i])
    drawn = sample_scene(rng, pairs="all")
    if rng.random() < 0.25:
        k = int(rng.integers(len(drawn.things)))
        noun = "unknown"
        if rng.random() < 0.5:
            noun = "+".join(str(n) for n in rng.choice(NOUNS, 2, replace=False))
        things = list(drawn.things)
        things[k] = replace(things[k], noun=noun, pose=None)
        drawn = replace(drawn, things=tuple(things))
    return drawn


def label_map(things: tuple[Thing, ...], ground_truth: tuple) -> np.ndarray:  # type: ignore[type-arg]
    """Nouns and colours of blocks, shape (2, 32, 32): a block belongs to what covers most of it, 0 if half is bare."""
    block = CANVAS // CELLS
    names, colours = {n: i + 1 for i, n in enumerate(LABELS)}, {c: i + 1 for i, c in enumerate(COLOURS)}
    out = np.zeros((2, CELLS, CELLS), np.uint8)
    best = np.full((CELLS, CELLS), 0.5)
    for t in ground_truth:
        share = t.mask.reshape(CELLS, block, CELLS, block).mean((1, 3))
        wins = share >= best
        out[0][wins] = names.get(t.noun, names["unknown"])
        out[1][wins] = colours[t.colour]
        best = np.maximum(best, share)
    return out


def _render_chunk(folder: str, kind: str, seed: int, start: int, stop: int) -> int:
    from promptlab.miniature.drawing import render

    pixels = np.load(Path(folder) / f"{kind}_pixels.npy", mmap_mode="r+")
    labels = np.load(Path(folder) / f"{kind}_labels.npy", mmap_mode="r+")
    draw = scene if kind == "train" else parser_scene
    for i in range(start, stop):
        drawn = draw(seed, i)
        picture = render(drawn)
        pixels[i] = picture.image
        labels[i] = label_map(drawn.things, picture.ground_truth)
    return stop


def _reserve(path: Path) -> None:
    """Take the disk blocks of a sparse file now: a write to a memory map that finds no block kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError:
        path.unlink()
        raise


def fill(folder: Path, seed: int, count: int, report: Report, kind: str = "train") -> Pool:
    """Draw scenes 0 to `count` - 1 into `folder`, or go on where an earlier call stopped. `kind`: train or parser.

    Raises OSError, before anything is drawn, where the disk has no room for all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"{kind}_pixels.npy", folder / f"{kind}_labels.npy"]
    shapes = [(count, CANVAS, CANVAS, 3), (count, 2, CELLS, CELLS)]
    for path, shape in zip(names, shapes, strict=True):
        if not path.exists() or np.load(path, mmap_mode="r").shape != shape:
            open_memmap(path, "w+", np.uint8, shape).flush()
            _reserve(path)
    pixels = np.load(names[0], mmap_mode="r")
    starts = [s for s in range(0, count, _CHUNK) if not pixels[min(s + _CHUNK, count) - 1].any()]
    if starts:
        report(f"pool: drawing {len(starts) * _CHUNK} of {count} scenes")
        with ProcessPoolExecutor(min(os.cpu_count() or 1, len(starts))) as executor:
            for done in executor.map(
                _render_chunk,
                *zip(*((str(folder), kind, seed, s, min(s + _CHUNK, count)) for s in starts), strict=True),
            ):
                if done % 5000 == 0:
                    report(f"pool: {done}/{count} scenes")
    return Pool(seed, np.load(names[0], mmap_mode="r"), np.load(names[1], mmap_mode="r"))


def noun_twin(scene: Scene, seed: int, length: Literal["any", "short"]) -> tuple[Scene, str, str]:
    """The scene with one thing turned into another noun, as common in that colour as in training, and both captions."""
    rng = np.random.default_rng([seed, 1])
    k = int(rng.integers(len(scene.things)))
    thing, present = scene.things[k], {t.noun for t in scene.things}
    weights = np.array(
        [
            w if colour == thing.colour and noun not in present else 0.0
            for (noun, colour), w in zip(PAIRS, pair_weights("train"), strict=True)
        ]
    )
    noun = PAIRS[rng.choice(len(PAIRS), p=weights / weights.sum())][0]
    pose = str(rng.choice(POSES)) if noun == "dog" else None
    twin = replace(scene, things=tuple(replace(t, noun=noun, pose=pose) if t is thing else t for t in scene.things))
    text, other = (describe(s, np.random.default_rng(seed), length=length).text for s in (scene, twin))
    return twin, text, other


def colour_twin(scene: Scene, seed: int, length: Literal["any", "short"]) -> tuple[Scene, str, str]:
    """The scene with colours exchanged (one thing: with another colour), and the captions of both, which differ."""
    first = scene.things[0]
    twin = swap_colours(scene) if len(scene.things) > 1 and first.colour != scene.things[1].colour else None
    if twin is None:
        other = list(COLOURS)[(list(COLOURS).index(first.colour) + 1 + seed % (len(COLOURS) - 1)) % len(COLOURS)]
        twin = replace(scene, things=(replace(first, colour=other), *scene.things[1:]))
    for k in range(seed, seed + 50):
        text, swapped = (describe(s, np.random.default_rng(k), length=length).text for s in (scene, twin))
        if text != swapped:
            return twin, text, swapped
    raise ValueError(f"no caption names the colours of {scene}")


def places_head(stage: Any, channels: int) -> Any:
    """A module that listens to what `stage` puts out, (n, channels, h, w), until its `leave()`.

    Its `loss(labels)` is the cross-entropy of `labels`, uint8 (n, 32, 32), for the n rows that went by last: of all
    places, and once more of those where a thing is.
    """
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import cross_entropy, interpolate

    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.name = nn.Conv2d(channels, 1 + len(LABELS), 1)
            self._seen = torch.empty(0)
            self._hook = stage.register_forward_hook(self._listen)

        def _listen(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            self._seen = output

        def loss(self, labels: Tensor) -> Tensor:
            logits = interpolate(self.name(self._seen).float(), size=(CELLS, CELLS), mode="bilinear")
            each = cross_entropy(logits, labels.long(), reduction="none")
            return each.mean() + each[labels > 0].mean()

        def leave(self) -> None:
            self._hook.remove()

    return Places()
