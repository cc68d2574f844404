"""Draw a `Scene`: the picture and the truth about every thing in it.

Each thing is a stack of tone shares (`shapes.template`) mixed with the tones of its colour and laid over the
background of the setting. The same scene gives the same bytes.

Beyond the nouns of the world, `Thing.noun` may be "unknown" (a random blob that the scene's seed decides) or "a+b"
(left half a, right half b: a fused object), and `Thing.colour` may be "c+d" (left half c, right half d).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from promptlab.miniature.scenery import HORIZON, VARIANTS, apply_style, background
from promptlab.miniature.shapes import template
from promptlab.miniature.sheet import BODY, DEEP, DETAILS, LIGHT, RIM, SHADE, TONES
from promptlab.miniature.world import CANVAS, COLOURS, Scene, Thing

__all__ = ["Picture", "Truth", "render"]


_SHINY = tuple(tone - 1 for tone in (BODY, SHADE, DEEP, LIGHT))
"""Channels of a template that a highlight may cover."""


@dataclass(frozen=True, eq=False)
class Truth:
    """One thing as drawn: tight box (left, top, right, bottom; pixels) of its visible pixels `mask`, bool (128, 128).

    A thing that nothing shows of has an empty mask and the box (0, 0, 0, 0).
    """

    noun: str
    colour: str
    box: tuple[float, float, float, float]
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn scene: sRGB uint8 (128, 128, 3), and the truth of every thing in the scene's order."""

    image: np.ndarray
    truth: tuple[Truth, ...]


@lru_cache(maxsize=256)
def _tones(colour: str, dark_ground: bool, flat: bool) -> np.ndarray:
    """sRGB of every tone for a colour: float32 (TONES, 3)."""
    if colour not in COLOURS:
        raise ValueError(f"no such colour {colour!r}; allowed: {', '.join(COLOURS)}")
    body = np.array(COLOURS[colour], np.float32)
    luminance = float(body @ np.array((0.299, 0.587, 0.114)))
    shade, deep, light = body * 0.85, body * 0.6, body + (255 - body) * 0.42
    if colour == "black":
        # A darker black shows no line: the lines of black things are lighter instead.
        shade, deep, light = body * 0.55, body + 48, body + 62
    rim = body * 0.42 if colour != "white" else body * 0.5
    if dark_ground and luminance < 125:
        rim = body * 0.35 + np.array((214, 220, 236)) * 0.65
    elif dark_ground or flat:
        rim = body if not (flat and colour in ("white", "yellow") and not dark_ground) else body * 0.7
    if flat:
        shade, light = body, body
    tones = np.zeros((TONES, 3), np.float32)
    for tone, value in ((BODY, body), (SHADE, shade), (DEEP, deep), (LIGHT, light), (RIM, rim)):
        tones[tone - 1] = value
    for tone, detail in DETAILS.items():
        tones[tone - 1] = detail
    return tones


@lru_cache(maxsize=128)
def _shadow(width: int) -> np.ndarray:
    """Darkness of a soft contact shadow, float32 (height, width, 1), 0..1."""
    height = max(4, round(width * 0.22))
    y, x = np.mgrid[0:height, 0:width]
    r = ((x + 0.5) / width * 2 - 1) ** 2 + ((y + 0.5) / height * 2 - 1) ** 2
    return np.asarray(0.34 * np.clip(1 - r, 0, 1)[..., None], np.float32)


@lru_cache(maxsize=128)
def _light(side: int) -> np.ndarray:
    """Soft light from the upper left: factor of brightness, float32 (side, side, 1), 0.9..1.06."""
    u = (np.arange(side) + 0.5) / side
    return np.asarray((1.06 - 0.08 * (u[:, None] + u[None]))[..., None], np.float32)


@lru_cache(maxsize=128)
def _gloss(side: int) -> np.ndarray:
    """Strength of the highlight of a glossy thing, float32 (side, side, 1), 0..1."""
    u = (np.arange(side) + 0.5) / side
    v, h = u[:, None], u[None]
    spot = np.exp(-((((h - 0.36) / 0.15) ** 2 + ((v - 0.36) / 0.09) ** 2) ** 2))
    streak = 0.45 * np.exp(-(((h + 0.55 * v - 0.98) / 0.07) ** 4))
    return np.asarray(np.maximum(spot * 0.9, streak)[..., None], np.float32)


def _window(left: int, top: int, width: int, height: int) -> tuple[slice, slice, slice, slice]:
    """Where a patch lies on the canvas (rows, columns) and which part of the patch is inside it (rows, columns)."""
    y0, y1 = max(top, 0), max(min(top + height, CANVAS), 0)
    x0, x1 = max(left, 0), max(min(left + width, CANVAS), 0)
    y0, x0 = min(y0, y1), min(x0, x1)
    return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def _paint(thing: Thing, scene: Scene, jitter: float, side: int, blob: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours times cover, float32 (side, side, 3), and cover, float32 (side, side, 1), of a thing in its own box."""
    flat = scene.style == "flat"
    shares = template(thing.noun, thing.pose, blob, side)
    halves = [
        shares.reshape(-1, TONES) @ _tones(colour, scene.setting == "night", flat) for colour in thing.colour.split("+")
    ]
    paint = halves[0].reshape(side, side, 3)
    if len(halves) == 2:
        paint[:, side // 2 :] = halves[1].reshape(side, side, 3)[:, side // 2 :]
    cover = shares.sum(-1, keepdims=True)
    if not flat:
        paint = paint * (_light(side) * np.float32(jitter))
    if scene.style == "glossy":
        shine = _gloss(side) * shares[:, :, list(_SHINY)].sum(-1, keepdims=True)
        paint = paint * (1 - shine) + 255 * shine
    return paint, cover


def render(scene: Scene) -> Picture:
    """Draw a scene. Raises ValueError for a noun, colour, setting or style that the miniature does not know."""
    rng = np.random.default_rng(scene.seed)
    canvas = background(scene.setting, int(rng.integers(VARIANTS))) * np.float32(rng.uniform(0.97, 1.02))
    jitters = rng.uniform(0.97, 1.03, max(len(scene.things), 1))
    places = []
    for thing in scene.things:
        side = max(8, round(thing.side * CANVAS))
        places.append((round(thing.x * CANVAS - side / 2), round(thing.y * CANVAS - side / 2), side))
    for left, top, side in places:
        if top + side > HORIZON * CANVAS:
            shadow = _shadow(side)
            rows, columns, r, c = _window(left, top + round(side * 0.97) - len(shadow) // 2, side, len(shadow))
            canvas[rows, columns] *= 1 - shadow[r, c]
    owner = np.full((CANVAS, CANVAS), -1, np.int8)
    for k, (thing, (left, top, side)) in enumerate(zip(scene.things, places, strict=True)):
        paint, cover = _paint(thing, scene, float(jitters[k]), side, scene.seed + k)
        rows, columns, r, c = _window(left, top, side, side)
        canvas[rows, columns] = canvas[rows, columns] * (1 - cover[r, c]) + paint[r, c]
        owner[rows, columns][cover[r, c, 0] > 0.5] = k
    canvas = apply_style(canvas, scene.style, owner >= 0)
    image = np.clip(canvas + np.float32(0.5), 0, 255).astype(np.uint8)
    truth = tuple(_truth(thing, owner == k) for k, thing in enumerate(scene.things))
    return Picture(image, truth)


def _truth(thing: Thing, mask: np.ndarray) -> Truth:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return Truth(thing.noun, thing.colour, (0.0, 0.0, 0.0, 0.0), mask)
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Truth(thing.noun, thing.colour, box, mask)
