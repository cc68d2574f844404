"""The world of the miniature: everyday things, drawn by us, so the truth of every picture is known.

A `Scene` says everything that decides a picture: which `Thing`s stand where, in which setting and style. Pairs of noun
and colour come with uneven, Zipf-like frequencies (rank r has weight 1/r**ZIPF), and `HELD_OUT` pairs never occur in
training, so that rarity and novelty can be studied with known counts.

References:
    Okawa et al. 2023, Compositional Abilities Emerge Multiplicatively (arXiv 2310.09336): concept worlds with held-out
    combinations. Wang et al. 2026 (arXiv 2601.06338): coloured objects and relations for text-to-image circuits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

__all__ = [
    "CANVAS",
    "COLOURS",
    "HELD_OUT",
    "NOUNS",
    "PAIRS",
    "POSES",
    "RELATIONS",
    "SETTINGS",
    "SIZES",
    "STYLES",
    "Scene",
    "Thing",
    "pair_weights",
    "place",
    "sample_scene",
    "swap_colours",
]

CANVAS = 128
"""Side of a picture in pixels."""

NOUNS = ("ball", "box", "cup", "chair", "car", "house", "tree", "fish", "star", "hat", "lamp", "book", "bottle", "dog")
POSES = ("standing", "running", "sleeping")
"""Only the dog has a pose."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (216, 38, 40),
    "orange": (244, 138, 28),
    "yellow": (250, 218, 50),
    "green": (46, 158, 66),
    "blue": (40, 96, 214),
    "purple": (128, 58, 178),
    "pink": (246, 140, 188),
    "brown": (122, 76, 40),
    "black": (34, 34, 38),
    "white": (248, 248, 248),
}
"""Nominal sRGB of each colour, 0..255."""

SIZES: dict[str, float] = {"small": 0.33, "medium": 0.41, "large": 0.46}
"""Side of a thing's box as a share of the canvas."""

RELATIONS = ("left of", "right of", "above", "below", "next to")
SETTINGS = ("plain", "grass", "night", "sunset", "table", "snow")
STYLES = ("golden light", "dark", "blurry", "sketch", "flat", "glossy")

ZIPF = 0.6
PAIRS = tuple((noun, colour) for noun in NOUNS for colour in COLOURS)
_WORLD_SEED = 20261123


def _ranked_pairs() -> tuple[tuple[str, str], ...]:
    order = np.random.default_rng(_WORLD_SEED).permutation(len(PAIRS))
    return tuple(PAIRS[i] for i in order)


HELD_OUT = frozenset(
    {
        ("ball", "purple"),
        ("box", "green"),
        ("cup", "orange"),
        ("chair", "pink"),
        ("car", "brown"),
        ("house", "black"),
        ("tree", "blue"),
        ("fish", "yellow"),
        ("star", "white"),
        ("hat", "red"),
        ("lamp", "pink"),
        ("book", "orange"),
        ("bottle", "black"),
        ("dog", "green"),
    }
)
"""Pairs (noun, colour) that no training picture shows: one for each noun."""


@dataclass(frozen=True)
class Thing:
    """One object: what it is, and where its box lies (centre x, y and side, shares of the canvas, y downwards)."""

    noun: str
    colour: str
    size: str = "medium"
    pose: str | None = None
    x: float = 0.5
    y: float = 0.6
    side: float = SIZES["medium"]


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture. `relation` holds from the first thing to the second; `seed` drives texture."""

    things: tuple[Thing, ...]
    setting: str = "plain"
    style: str | None = None
    relation: str | None = None
    seed: int = 0


@cache
def pair_weights(pairs: Literal["train", "held_out", "all"]) -> np.ndarray:
    """Probability of each of `PAIRS`, shape (140,): Zipf-like in training, uniform over the held-out or over all."""
    weights = np.zeros(len(PAIRS))
    for rank, pair in enumerate(_ranked_pairs(), start=1):
        known = pair not in HELD_OUT
        if pairs == "train" and known:
            weights[PAIRS.index(pair)] = rank**-ZIPF
        elif pairs == "all" or (pairs == "held_out" and not known):
            weights[PAIRS.index(pair)] = 1.0
    total: float = weights.sum()
    return np.asarray(weights / total)


def place(things: tuple[Thing, ...], relation: str | None, rng: np.random.Generator) -> tuple[Thing, ...]:
    """Give 1 to 3 things places without overlap: a row, or a column for above and below. Sizes shrink to fit three."""
    n = len(things)
    sides = np.array([SIZES[t.size] for t in things]) * rng.uniform(0.95, 1.05, n) * (1.0, 0.98, 0.74)[n - 1]
    if n == 1:
        xs, ys = rng.uniform(0.32, 0.68, 1), rng.uniform(0.50, 0.62, 1)
    elif n == 2 and relation in ("above", "below"):
        half = sides / 2
        top, bottom = (0, 1) if relation == "above" else (1, 0)
        xs = rng.uniform(0.40, 0.60) + rng.uniform(-0.08, 0.08, 2)
        ys = np.empty(2)
        ys[top] = 0.03 + half[top] + rng.uniform(0, 0.02)
        ys[bottom] = 0.97 - half[bottom] - rng.uniform(0, 0.02)
    else:
        order = list(range(n))
        if relation == "right of":
            order = [1, 0, *order[2:]]
        elif relation != "left of" and rng.random() < 0.5:
            order = order[::-1]
        slack = 0.94 - sides.sum()
        gaps = rng.dirichlet(np.full(n + 1, 4.0)) * max(slack, 0.0)
        xs, ys, left = np.empty(n), np.empty(n), 0.03
        for k, i in enumerate(order):
            left += gaps[k]
            xs[i] = left + sides[i] / 2
            left += sides[i]
            ys[i] = rng.uniform(0.52, 0.62)
    return tuple(
        replace(t, x=float(x), y=float(y), side=float(s)) for t, x, y, s in zip(things, xs, ys, sides, strict=True)
    )


def sample_scene(
    rng: np.random.Generator,
    *,
    count: int | None = None,
    pairs: Literal["train", "held_out", "all"] = "train",
) -> Scene:
    """Draw a scene: 1 to 3 things (shares .35, .50, .15 unless `count` says), no noun twice, any setting and style."""
    n = count or int(rng.choice([1, 2, 3], p=[0.35, 0.50, 0.15]))
    chosen: list[Thing] = []
    while len(chosen) < n:
        noun, colour = PAIRS[rng.choice(len(PAIRS), p=pair_weights(pairs))]
        if noun in {t.noun for t in chosen}:
            continue
        size = str(rng.choice(list(SIZES), p=[0.2, 0.6, 0.2]))
        chosen.append(Thing(noun, colour, size, str(rng.choice(POSES)) if noun == "dog" else None))
    relation = str(rng.choice(RELATIONS)) if n == 2 and rng.random() < 0.5 else None
    if relation in ("above", "below"):
        chosen = [replace(t, size="medium" if t.size == "large" else t.size) for t in chosen]
    setting = str(rng.choice(SETTINGS, p=[0.35, 0.13, 0.13, 0.13, 0.13, 0.13]))
    style = str(rng.choice(STYLES)) if rng.random() < 0.25 else None
    return Scene(place(tuple(chosen), relation, rng), setting, style, relation, int(rng.integers(2**31)))


def swap_colours(scene: Scene) -> Scene:
    """The same scene with the colours of the first two things exchanged: the picture of the swapped caption."""
    a, b, *rest = scene.things
    return replace(scene, things=(replace(a, colour=b.colour), replace(b, colour=a.colour), *rest))
