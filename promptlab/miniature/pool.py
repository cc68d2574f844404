"""The pool: training pictures drawn once and read by every stage.

`pixels.npy` uint8 (n, 128, 128, 3); `labels.npy` uint8 (n, 2, 32, 32), the noun (0 is background) and the colour
(0 is none) of each 4x4 block of pixels. Scene i is `scene(seed, i)`, so nothing else is stored. Rendering is spread
over processes; an interrupted pool goes on at its first empty picture.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from promptlab.miniature.loop import Report
from promptlab.miniature.world import CANVAS, COLOURS, NOUNS, Scene, Thing, sample_scene

__all__ = ["CELLS", "Pool", "fill", "label_map", "scene"]

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


def label_map(things: tuple[Thing, ...], truth: tuple) -> np.ndarray:  # type: ignore[type-arg]
    """Nouns and colours of blocks, shape (2, 32, 32): a block belongs to what covers most of it, 0 if half is bare."""
    block = CANVAS // CELLS
    names, colours = {n: i + 1 for i, n in enumerate(LABELS)}, {c: i + 1 for i, c in enumerate(COLOURS)}
    out = np.zeros((2, CELLS, CELLS), np.uint8)
    best = np.full((CELLS, CELLS), 0.5)
    for t in truth:
        share = t.mask.reshape(CELLS, block, CELLS, block).mean((1, 3))
        wins = share >= best
        out[0][wins] = names.get(t.noun, names["unknown"])
        out[1][wins] = colours[t.colour]
        best = np.maximum(best, share)
    return out


def _render_chunk(folder: str, kind: str, seed: int, start: int, stop: int) -> int:
    from promptlab.miniature.render import render

    pixels = np.load(Path(folder) / f"{kind}_pixels.npy", mmap_mode="r+")
    labels = np.load(Path(folder) / f"{kind}_labels.npy", mmap_mode="r+")
    draw = scene if kind == "train" else parser_scene
    for i in range(start, stop):
        drawn = draw(seed, i)
        picture = render(drawn)
        pixels[i] = picture.image
        labels[i] = label_map(drawn.things, picture.truth)
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
