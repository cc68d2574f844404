"""Backgrounds and styles of the miniature.

`background` paints a setting: smooth, with small differences by seed (a few kept variants of each). `apply_style`
changes the pixels of a finished picture as a phrase such as "golden light" or "sketch" asks. All arrays are float32,
0..255.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from promptlab.miniature.world import CANVAS, SETTINGS, STYLES

__all__ = ["HORIZON", "VARIANTS", "apply_style", "background"]

VARIANTS = 24
"""How many versions of a setting exist."""

HORIZON = 0.53
"""Height of the horizon, share of the canvas from the top."""

_Y, _X = np.meshgrid((np.arange(CANVAS) + 0.5) / CANVAS, (np.arange(CANVAS) + 0.5) / CANVAS, indexing="ij")


def _ramp(y: np.ndarray, stops: list[tuple[float, tuple[float, float, float]]]) -> np.ndarray:
    """Vertical gradient through colour stops (height, sRGB), (CANVAS, CANVAS, 3)."""
    heights = [h for h, _ in stops]
    return np.stack([np.interp(y, heights, [c[k] for _, c in stops]) for k in range(3)], -1)


def _soft(value: np.ndarray, width: float = 0.006) -> np.ndarray:
    """Step from 0 to 1 where `value` crosses 0, `width` wide; last axis added for colours."""
    return np.asarray(np.clip(value / width + 0.5, 0, 1)[..., None])


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    return _soft(radius - np.hypot(_X - x, _Y - y), 0.01)


def _plain(rng: np.random.Generator) -> np.ndarray:
    base = rng.uniform(214, 228) + rng.uniform(-3, 3, 3)
    glow = np.exp(-((_X - rng.uniform(0.35, 0.65)) ** 2 + (_Y - 0.45) ** 2) / 0.25)[..., None]
    return np.asarray(base - 8 + 14 * glow)


def _hills(rng: np.random.Generator, depth: float) -> np.ndarray:
    phase = rng.uniform(0, 6.28)
    slope: np.ndarray = depth * np.sin(_X * rng.uniform(4, 7) + phase)
    return _soft(_Y - HORIZON - slope)


def _grass(rng: np.random.Generator) -> np.ndarray:
    sky = _ramp(_Y, [(0, (150, 204, 240)), (HORIZON, (214, 234, 246))])
    meadow = _ramp(_Y, [(HORIZON, (176, 214, 122)), (1, (140, 186, 92))])
    meadow = meadow + 3 * np.sin(_X * 40 + 9 * np.sin(_Y * 30 + rng.uniform(0, 6)))[..., None]
    x, y = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.2)
    for dx, r in ((-0.07, 0.04), (0, 0.055), (0.07, 0.04)):
        sky = sky + 0.8 * _disc(x + dx, y, r) * (252 - sky)
    ground = _hills(rng, 0.012)
    return np.asarray(sky * (1 - ground) + meadow * ground)


def _night(rng: np.random.Generator) -> np.ndarray:
    sky = _ramp(_Y, [(0, (14, 20, 52)), (HORIZON, (38, 50, 98))])
    for _ in range(12):
        x, y = rng.uniform(0.02, 0.98), rng.uniform(0.02, 0.48)
        sky = sky + _disc(x, y, 0.008) * rng.uniform(0.5, 1) * (235 - sky)
    x, y = rng.uniform(0.08, 0.92), rng.uniform(0.09, 0.16)
    moon = np.clip(_disc(x, y, 0.06) - _disc(x + 0.03, y - 0.015, 0.05), 0, 1)
    sky = sky + moon * (np.array((240, 236, 208)) - sky)
    land = _ramp(_Y, [(HORIZON, (36, 50, 74)), (1, (24, 34, 54))])
    ground = _hills(rng, 0.01)
    return np.asarray(sky * (1 - ground) + land * ground)


def _sunset(rng: np.random.Generator) -> np.ndarray:
    sky = _ramp(_Y, [(0, (146, 124, 176)), (0.3, (226, 164, 168)), (HORIZON, (250, 212, 164))])
    sun = _disc(rng.uniform(0.15, 0.85), HORIZON - 0.02, 0.09)
    sky = sky + sun * (np.array((255, 238, 190)) - sky)
    land = _ramp(_Y, [(HORIZON, (196, 148, 140)), (1, (164, 122, 130))])
    ground = _hills(rng, 0.006)
    return np.asarray(sky * (1 - ground) + land * ground)


def _table(rng: np.random.Generator) -> np.ndarray:
    tint = rng.uniform(-5, 5, 3)
    wall = _ramp(_Y, [(0, (226, 222, 208)), (1, (236, 232, 220))]) + tint
    depth = (_Y - HORIZON) / (1 - HORIZON)
    grain = np.sin(_Y * 90 + 2.0 * np.sin(_X * rng.uniform(5, 9) + rng.uniform(0, 6))) * 4
    planks = 8 * np.exp(-(((depth * 3 + rng.uniform(0, 1)) % 1.0 - 0.5) ** 2) / 0.002)
    wood = _ramp(_Y, [(HORIZON, (208, 166, 118)), (1, (192, 148, 102))]) + grain[..., None] - planks[..., None]
    edge = _soft(_Y - HORIZON)
    return np.asarray(wall * (1 - edge) + wood * edge - 18 * np.exp(-((_Y - HORIZON) ** 2) / 0.0002)[..., None])


def _snow(rng: np.random.Generator) -> np.ndarray:
    sky = _ramp(_Y, [(0, (168, 186, 208)), (HORIZON, (206, 218, 230))])
    land = _ramp(_Y, [(HORIZON, (238, 243, 248)), (1, (224, 232, 242))])
    ground = _hills(rng, 0.015)
    picture = sky * (1 - ground) + land * ground
    for _ in range(14):
        x, y = rng.uniform(0, 1), rng.uniform(0, 0.9)
        picture = picture + _disc(x, y, rng.uniform(0.007, 0.012)) * (254 - picture)
    return np.asarray(picture)


_PAINTERS = {
    "plain": _plain,
    "grass": _grass,
    "night": _night,
    "sunset": _sunset,
    "table": _table,
    "snow": _snow,
}


@lru_cache(maxsize=VARIANTS * len(SETTINGS))
def background(setting: str, variant: int) -> np.ndarray:
    """The empty picture of a setting: float32 (CANVAS, CANVAS, 3), 0..255. Treat it as read-only."""
    if setting not in _PAINTERS:
        raise ValueError(f"cannot paint the setting {setting!r}; allowed: {', '.join(SETTINGS)}")
    rng = np.random.default_rng([variant, SETTINGS.index(setting)])
    picture: np.ndarray = np.clip(_PAINTERS[setting](rng), 0, 255).astype(np.float32)
    picture.setflags(write=False)
    return picture


_WARM = (np.array((1.05, 0.93, 0.66)) * (1.10 - 0.22 * (_X + _Y) / 2)[..., None]).astype(np.float32)
_DIM = (0.52 - 0.22 * np.clip(np.hypot(_X - 0.5, _Y - 0.5) - 0.2, 0, 1)).astype(np.float32)[..., None]
_HATCH = (0.94 + 0.06 * np.sin((_X + _Y) * CANVAS * 2 * np.pi / 6)).astype(np.float32)[..., None]


def apply_style(picture: np.ndarray, style: str | None, things: np.ndarray) -> np.ndarray:
    """Change a picture, float32 (CANVAS, CANVAS, 3), as `style` asks. `things` (bool) says where objects are.

    "flat" and "glossy" decide how objects are painted, so they change nothing here.
    """
    if style is not None and style not in STYLES:
        raise ValueError(f"cannot draw in the style {style!r}; allowed: {', '.join(STYLES)}")
    if style == "golden light":
        return np.asarray(picture * _WARM + np.float32(6))
    if style == "dark":
        return np.asarray(picture * _DIM)
    if style == "blurry":
        return np.asarray(ndimage.gaussian_filter(picture, (1.9, 1.9, 0), truncate=3.0))
    if style == "sketch":
        grey = picture.mean(-1)
        lines = np.zeros_like(grey)
        lines[1:] += np.abs(np.diff(grey, axis=0))
        lines[:, 1:] += np.abs(np.diff(grey, axis=1))
        strength = np.where(things[..., None], np.float32(0.74), np.float32(0.34)) * _HATCH
        paper = np.array((252, 250, 244), np.float32)
        return np.asarray(paper - (paper - picture) * strength - np.minimum(lines * 1.1, 110)[..., None])
    return picture
