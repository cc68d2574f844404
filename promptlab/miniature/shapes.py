"""The drawings of the miniature: one function for each noun, painted in tones on a `Sheet`.

A sheet is a label image: every pixel holds the number of a tone. Tones stand in for colours, so one drawing serves
every colour and is painted once. `Sheet.shares` reduces it to the requested size and keeps, for each tone, the share of
every pixel that it covers (anti-aliasing); the renderer mixes the tones' colours with these.

    BODY, SHADE, DEEP, LIGHT              the requested colour, a darker one, the darkest (lines), a lighter one
    RIM                                   a thin line around the whole silhouette
    INK, PALE, PAPER, WOOD, METAL, GLOW   neutral details (wheels, windows, pages, trunk, hub, lamplight)

Of everything painted, at least 65 % is the requested colour or a tone of it, and that colour is the largest part.
Coordinates run from 0 to 100, x to the right and y downwards; things stand on y = 96.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

__all__ = [
    "BODY",
    "DEEP",
    "DETAILS",
    "DRAWINGS",
    "GLOW",
    "GRID",
    "INK",
    "LIGHT",
    "METAL",
    "NONE",
    "PALE",
    "PAPER",
    "RIM",
    "SHADE",
    "TONES",
    "WOOD",
    "Sheet",
    "drawing",
    "template",
]


def _ball(s: Sheet) -> None:
    s.oval(50, 53, 43, 43, SHADE)
    s.oval(46, 48, 43, 43, BODY, SHADE)
    arc = [(52 * math.cos(a) - 12, 53 + 52 * math.sin(a)) for a in np.linspace(-0.8, 0.8, 20)]
    s.line(arc, 2.6, DEEP, BODY)
    s.line([(96 - x, y) for x, y in arc], 2.6, DEEP, BODY)
    s.line([(8, 52), (92, 52)], 2.6, DEEP, BODY)
    s.oval(30, 30, 8, 6, LIGHT, BODY)


def _box(s: Sheet) -> None:
    s.polygon([(8, 34), (28, 14), (94, 14), (75, 34)], LIGHT)
    s.polygon([(75, 34), (94, 14), (94, 75), (75, 96)], SHADE)
    s.block(8, 34, 75, 96, BODY)
    s.polygon([(36, 34), (55, 14), (65, 14), (47, 34)], DEEP)
    s.block(36, 34, 47, 48, DEEP)
    for line in ([(8, 34), (75, 34)], [(75, 34), (75, 96)], [(75, 34), (94, 14)]):
        s.line(line, 2, DEEP)


def _cup(s: Sheet) -> None:
    s.oval(71, 52, 22, 22, BODY)
    s.oval(71, 52, 12.5, 12.5, NONE)
    s.smooth([(8, 22), (9, 50), (14, 82), (24, 95), (58, 95), (68, 82), (73, 50), (74, 22), (41, 18)], BODY)
    s.polygon([(62, 22), (58, 96), (80, 96), (74, 22)], SHADE, BODY)
    s.oval(41, 21, 33, 8, LIGHT)
    s.oval(41, 22, 29, 5.5, DEEP)
    s.block(17, 38, 22, 74, LIGHT, 2.5)


def _chair(s: Sheet) -> None:
    s.block(27, 50, 34, 88, DEEP)
    s.block(66, 50, 73, 88, DEEP)
    s.block(22, 4, 78, 46, BODY, 7)
    s.block(33, 15, 67, 21, NONE, 3)
    s.block(33, 29, 67, 34, NONE, 3)
    s.block(26, 40, 34, 58, SHADE)
    s.block(66, 40, 74, 58, SHADE)
    s.polygon([(22, 52), (78, 52), (90, 66), (10, 66)], BODY)
    s.block(10, 66, 90, 73, SHADE, 2)
    s.block(12, 70, 22, 96, BODY, 2)
    s.block(78, 70, 88, 96, BODY, 2)


def _car(s: Sheet) -> None:
    s.smooth([(16, 56), (27, 33), (36, 27), (62, 27), (71, 34), (84, 56), (50, 60)], BODY)
    s.block(3, 50, 97, 82, BODY, 10)
    s.block(3, 76, 97, 82, SHADE, 3)
    s.polygon([(28, 51), (34, 36), (45, 36), (45, 51)], PALE)
    s.polygon([(50, 51), (50, 36), (61, 36), (71, 51)], PALE)
    s.line([(47.5, 54), (47.5, 72)], 2, DEEP)
    s.block(53, 58, 61, 61, DEEP, 1)
    s.oval(93, 61, 3.5, 4, GLOW)
    for x in (25, 75):
        s.oval(x, 84, 10.5, 10.5, INK)
        s.oval(x, 84, 5.2, 5.2, METAL)


def _house(s: Sheet) -> None:
    s.block(68, 12, 79, 36, SHADE)
    s.block(12, 40, 88, 96, BODY)
    s.polygon([(3, 45), (50, 9), (97, 45)], SHADE)
    s.line([(13.5, 46.5), (86.5, 46.5)], 3, DEEP)
    s.block(43, 66, 59, 96, DEEP, 1)
    s.oval(55, 82, 1.8, 1.8, GLOW)
    for x in (20, 66):
        s.block(x, 60, x + 15, 75, PALE, 1)
        s.line([(x + 7.5, 60), (x + 7.5, 75)], 2, DEEP)
        s.line([(x, 67.5), (x + 15, 67.5)], 2, DEEP)


def _tree(s: Sheet) -> None:
    s.polygon([(44, 60), (56, 60), (60, 96), (40, 96)], WOOD)
    crown = ((50, 27, 25, 23), (27, 47, 22, 20), (73, 47, 22, 20), (50, 52, 26, 20))
    for x, y, rx, ry in crown:
        s.oval(x, y, rx, ry, SHADE)
    for x, y, rx, ry in crown:
        s.oval(x - 3, y - 4, rx, ry, BODY, SHADE)
    for x, y in ((40, 20), (22, 40), (62, 42)):
        s.oval(x, y, 7, 4.5, LIGHT, BODY)


def _fish(s: Sheet) -> None:
    s.smooth([(38, 34), (52, 14), (66, 22), (62, 36)], SHADE)
    s.smooth([(46, 70), (56, 84), (64, 80), (62, 66)], SHADE)
    s.smooth([(66, 52), (84, 28), (96, 24), (91, 52), (96, 80), (84, 76)], BODY)
    s.smooth([(4, 54), (14, 40), (34, 28), (58, 34), (76, 50), (58, 70), (34, 78), (14, 68)], BODY)
    s.smooth([(8, 64), (30, 66), (58, 62), (76, 50), (60, 76), (34, 82)], SHADE, BODY)
    s.line([(33, 36), (37, 46), (37, 60), (33, 70)], 2.4, DEEP, None)
    for x, y in ((48, 44), (58, 50), (48, 57)):
        s.oval(x, y, 4.2, 3, LIGHT)
    s.oval(21, 48, 6.5, 6.5, PAPER)
    s.oval(20, 48, 3.6, 3.6, INK)


def _star(s: Sheet) -> None:
    def corners(outer: float, inner: float, x: float, y: float) -> list[tuple[float, float]]:
        turns = [(-0.5 + k / 5) * math.pi for k in range(10)]
        radii = [outer if k % 2 == 0 else inner for k in range(10)]
        return [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, turns, strict=True)]

    star = corners(44, 20, 50, 53)
    s.polygon(star, SHADE)
    s.line([*star, star[0]], 5, SHADE)
    s.polygon(corners(44, 20, 47, 50), BODY, SHADE)
    s.line([*corners(44, 20, 47, 50), corners(44, 20, 47, 50)[0]], 5, BODY, SHADE)
    s.polygon(corners(17, 8, 45, 47), LIGHT, BODY)


def _hat(s: Sheet) -> None:
    s.oval(50, 78, 46, 14, SHADE)
    s.oval(50, 75, 46, 13, BODY)
    s.smooth([(23, 76), (26, 40), (36, 24), (50, 29), (64, 24), (74, 40), (77, 76), (50, 84)], BODY)
    s.polygon([(63, 20), (65, 66), (80, 66), (76, 26)], SHADE, BODY)
    s.smooth([(23.5, 60), (50, 67), (76.5, 60), (77, 73), (50, 80), (23, 73)], DEEP)
    s.smooth([(32, 40), (37, 30), (40, 32), (36, 50), (32, 54)], LIGHT)


def _lamp(s: Sheet) -> None:
    s.block(46, 50, 54, 90, SHADE)
    s.oval(50, 91, 25, 5.5, BODY)
    s.oval(50, 58, 33, 6, GLOW)
    s.polygon([(31, 6), (69, 6), (90, 56), (10, 56)], BODY)
    s.oval(50, 56, 40, 4.5, BODY)
    s.polygon([(60, 6), (69, 6), (90, 56), (74, 60)], SHADE, BODY)
    s.oval(50, 59.5, 27, 2.5, GLOW)
    s.polygon([(34, 10), (39, 10), (27, 52), (18, 52)], LIGHT)


def _book(s: Sheet) -> None:
    s.block(18, 8, 82, 95, SHADE, 5)
    s.block(25, 78, 80, 89, PAPER, 1)
    s.line([(27, 82), (79, 82)], 1.2, METAL)
    s.line([(27, 85.5), (79, 85.5)], 1.2, METAL)
    s.block(18, 6, 82, 78, BODY, 5)
    s.block(18, 8, 29, 88, SHADE, 4)
    s.line([(30, 7), (30, 78)], 2, DEEP)
    s.block(40, 20, 72, 27, PAPER, 2)
    s.block(45, 33, 67, 38, PAPER, 2)
    s.turn(9)


def _bottle(s: Sheet) -> None:
    s.smooth(
        [
            *((41, 14), (41, 28), (31, 44), (28, 58), (28, 90), (32, 96)),
            *((68, 96), (72, 90), (72, 58), (69, 44), (59, 28), (59, 14)),
        ],
        BODY,
    )
    s.polygon([(55, 10), (55, 30), (63, 46), (64, 97), (76, 97), (74, 40), (60, 26), (60, 10)], SHADE, BODY)
    s.block(39, 5, 61, 16, DEEP, 2)
    s.block(28, 64, 64, 77, PAPER, 0, BODY)
    s.block(63, 64, 74, 77, METAL, 0, SHADE)
    s.line([(35, 50), (38, 44)], 3.5, LIGHT, BODY)
    s.line([(46, 20), (46, 28)], 3, LIGHT, BODY)


def _dog_standing(s: Sheet) -> None:
    s.line([(84, 50), (91, 40), (93, 28)], 7, BODY)
    for x in (42, 66):
        s.block(x, 60, x + 9, 94, SHADE, 3)
    s.block(28, 44, 87, 73, BODY, 12)
    for x in (30, 77):
        s.block(x, 58, x + 10, 96, BODY, 3)
    s.block(42, 68, 77, 73, SHADE, 2, BODY)
    s.smooth([(12, 28), (22, 14), (36, 16), (44, 30), (44, 50), (32, 56), (16, 46)], BODY)
    s.block(3, 31, 26, 46, BODY, 6)
    s.smooth([(34, 15), (44, 18), (49, 34), (46, 46), (39, 42), (36, 28)], DEEP)
    s.oval(6, 34, 4, 3.5, INK)
    s.oval(23, 28, 3, 3, INK)
    s.line([(33, 54), (46, 50)], 4.5, DEEP, BODY)


def _dog_running(s: Sheet) -> None:
    s.line([(82, 42), (89, 32), (92, 20)], 6.5, BODY)
    s.line([(36, 58), (24, 72), (12, 74)], 8, SHADE)
    s.line([(76, 56), (78, 70), (87, 80)], 8, SHADE)
    s.smooth([(26, 44), (44, 36), (66, 38), (82, 36), (87, 48), (80, 62), (58, 60), (38, 66), (26, 58)], BODY)
    s.line([(34, 60), (20, 82), (9, 84)], 8.5, BODY)
    s.line([(80, 52), (84, 67), (91, 68)], 8.5, BODY)
    s.smooth([(10, 28), (20, 16), (32, 18), (40, 30), (40, 48), (28, 54), (14, 44)], BODY)
    s.block(2, 30, 24, 44, BODY, 6)
    s.smooth([(30, 20), (40, 14), (54, 16), (58, 24), (48, 29), (36, 30)], DEEP)
    s.oval(5, 33, 4, 3.5, INK)
    s.oval(21, 28, 3, 3, INK)
    s.smooth([(44, 62), (58, 56), (76, 58), (62, 64)], SHADE, BODY)


def _dog_sleeping(s: Sheet) -> None:
    s.smooth([(20, 78), (30, 58), (52, 48), (76, 50), (93, 64), (96, 82), (90, 95), (56, 97), (24, 95)], BODY)
    s.smooth([(60, 96), (66, 78), (80, 70), (90, 78), (90, 95)], SHADE)
    s.smooth([(63, 97), (68, 81), (80, 74), (88, 80), (88, 97)], BODY)
    s.line([(92, 90), (76, 93), (58, 92)], 7, SHADE)
    s.smooth([(4, 88), (8, 76), (20, 66), (36, 66), (46, 76), (46, 90), (36, 96), (10, 96)], BODY)
    s.smooth([(34, 66), (44, 66), (52, 78), (50, 92), (43, 90), (38, 78)], DEEP)
    s.line([(18, 80), (22, 83), (27, 80)], 2.4, INK)
    s.oval(6, 86, 4, 3.5, INK)


DRAWINGS: dict[str, Callable[[Sheet], None]] = {
    "ball": _ball,
    "box": _box,
    "cup": _cup,
    "chair": _chair,
    "car": _car,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "star": _star,
    "hat": _hat,
    "lamp": _lamp,
    "book": _book,
    "bottle": _bottle,
    "dog": _dog_standing,
    "dog standing": _dog_standing,
    "dog running": _dog_running,
    "dog sleeping": _dog_sleeping,
}
"""How to paint each noun; the dog also by its pose."""


def drawing(noun: str, pose: str | None = None, seed: int = 0) -> Sheet:
    """A noun painted on its own sheet.

    "unknown" is a random smooth blob that `seed` decides; `seed` has no effect on the other nouns. Raises ValueError
    for a noun that cannot be drawn.
    """
    sheet = Sheet()
    if noun == "unknown":
        _blob(sheet, np.random.default_rng(seed))
    elif (paint := DRAWINGS.get(f"{noun} {pose}") or DRAWINGS.get(noun)) is not None:
        paint(sheet)
    else:
        raise ValueError(f"cannot draw {noun!r}; allowed: {', '.join(DRAWINGS)}, unknown, or two joined by '+'")
    return sheet


def _blob(s: Sheet, rng: np.random.Generator) -> None:
    angles = np.linspace(0, 2 * math.pi, 36, endpoint=False)
    radius = np.ones_like(angles)
    for k in range(2, 6):
        radius += rng.normal(0, 0.34 / k) * np.cos(k * angles + rng.uniform(0, 2 * math.pi))
    radius = np.clip(radius, 0.35, None)
    points = np.stack([np.cos(angles) * rng.uniform(0.65, 1), np.sin(angles) * rng.uniform(0.65, 1)], 1)
    points *= 42 * (radius / radius.max())[:, None]
    s.smooth([(50 + float(x), 53 + float(y)) for x, y in points], SHADE)
    s.smooth([(47 + float(x), 50 + float(y)) for x, y in points], BODY, SHADE)
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(30, 70, 2)
        tone = int(rng.choice([LIGHT, DEEP, SHADE, PAPER]))
        s.oval(float(x), float(y), float(rng.uniform(3, 9)), float(rng.uniform(3, 9)), tone, BODY)


@lru_cache(maxsize=1024)
def _kept(noun: str, pose: str | None, side: int) -> np.ndarray:
    # Half precision halves the memory of every process that draws; shares need no more than 11 bits.
    shares = drawing(noun, pose).shares(side).astype(np.float16)
    shares.setflags(write=False)
    return shares


def template(noun: str, pose: str | None, seed: int, side: int) -> np.ndarray:
    """Tone shares of a noun in a box of `side` pixels: float32 (side, side, TONES), 0..1.

    "a+b" joins the left half of a to the right half of b; "unknown" is a blob that `seed` decides.
    """
    if "+" in noun:
        left, right = noun.split("+", 1)
        half = side // 2
        joined = np.concatenate([_kept(left, None, side)[:, :half], _kept(right, None, side)[:, half:]], 1)
        return joined.astype(np.float32)
    if noun == "unknown":
        # No blob comes twice, so none is kept; every other pixel of the drawing is enough for a smooth shape.
        return drawing(noun, None, seed).shares(side, step=2)
    return _kept(noun, pose, side).astype(np.float32)


GRID = 256
"""Side of a drawing before it is reduced, in pixels."""

NONE, BODY, SHADE, DEEP, LIGHT, RIM, INK, PALE, PAPER, WOOD, METAL, GLOW = range(12)
TONES = 11
"""Number of tones; tone t lies in channel t - 1 of a template."""

DETAILS: dict[int, tuple[int, int, int]] = {
    INK: (44, 46, 54),
    PALE: (206, 230, 242),
    PAPER: (250, 246, 232),
    WOOD: (126, 92, 64),
    METAL: (176, 180, 188),
    GLOW: (255, 240, 190),
}
"""sRGB of the neutral tones, 0..255; the other tones follow from the asked colour."""

RIM_WIDTH = 0.027
"""Width of the rim as a share of the box."""

Points = Sequence[tuple[float, float]]


class Sheet:
    """A label image of GRID x GRID tones to paint on; later paint covers earlier paint."""

    def __init__(self) -> None:
        """Start empty."""
        self.label = np.zeros((GRID, GRID), np.uint8)

    def _paint(self, mask: Image.Image, tone: int, on: int | None) -> None:
        where = np.asarray(mask) > 0
        if on is not None:
            where &= self.label == on
        self.label[where] = tone

    @staticmethod
    def _blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
        mask = Image.new("L", (GRID, GRID))
        return mask, ImageDraw.Draw(mask)

    def polygon(self, points: Points, tone: int, on: int | None = None) -> None:
        """Fill a polygon; `on` limits the paint to pixels that hold that tone."""
        mask, pen = self._blank()
        pen.polygon([(x * GRID / 100, y * GRID / 100) for x, y in points], fill=1)
        self._paint(mask, tone, on)

    def smooth(self, points: Points, tone: int, on: int | None = None) -> None:
        """Fill a closed Catmull-Rom curve through `points`."""
        b = np.array(points, float)[:, None]
        a, c, d = (np.roll(b, -k, axis=0) for k in (-1, 1, 2))
        t = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
        curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        self.polygon([(float(x), float(y)) for x, y in curve.reshape(-1, 2)], tone, on)

    def oval(self, x: float, y: float, rx: float, ry: float, tone: int, on: int | None = None) -> None:
        """Fill an ellipse with centre (x, y) and radii rx, ry."""
        mask, pen = self._blank()
        k = GRID / 100
        pen.ellipse(((x - rx) * k, (y - ry) * k, (x + rx) * k, (y + ry) * k), fill=1)
        self._paint(mask, tone, on)

    def block(
        self, left: float, top: float, right: float, bottom: float, tone: int, radius: float = 0, on: int | None = None
    ) -> None:
        """Fill a rectangle with rounded corners."""
        mask, pen = self._blank()
        k = GRID / 100
        pen.rounded_rectangle((left * k, top * k, right * k, bottom * k), radius * k, fill=1)
        self._paint(mask, tone, on)

    def line(self, points: Points, width: float, tone: int, on: int | None = None) -> None:
        """Draw a line with round ends and joints."""
        mask, pen = self._blank()
        k = GRID / 100
        scaled = [(x * k, y * k) for x, y in points]
        pen.line(scaled, fill=1, width=max(1, round(width * k)))
        r = width * k / 2
        for x, y in scaled:
            pen.ellipse((x - r, y - r, x + r, y + r), fill=1)
        self._paint(mask, tone, on)

    def turn(self, degrees: float) -> None:
        """Rotate everything painted so far, anticlockwise around the centre."""
        turned = Image.fromarray(self.label).rotate(degrees, Image.Resampling.NEAREST)
        self.label = np.array(turned)

    def shares(self, side: int, step: int = 1) -> np.ndarray:
        """Share of every pixel that each tone covers, with a rim added: float32 (side, side, TONES), 0..1.

        `step` 2 looks only at every other pixel of the sheet: four times faster, a little coarser.
        """
        label = self.label[::step, ::step]
        distance = ndimage.distance_transform_edt(label == NONE)
        label = np.where((label == NONE) & (distance <= RIM_WIDTH * len(label)), RIM, label)
        shares = np.zeros((side, side, TONES), np.float32)
        for tone in np.unique(label[label > 0]):
            layer = Image.fromarray((label == tone).astype(np.float32))
            shares[:, :, tone - 1] = np.asarray(layer.resize((side, side), Image.Resampling.BOX))
        return shares
