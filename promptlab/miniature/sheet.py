"""A sheet to draw things on, in tones instead of colours, so one drawing serves every colour and is painted once.

A drawing is a label image: every pixel holds a tone number. `Sheet.shares` reduces it to the size asked and keeps, for
each tone, the share of every pixel that it covers (anti-aliasing); the renderer mixes the tones' colours with these.

    BODY, SHADE, DEEP, LIGHT              the asked colour, a darker one, the darkest (lines), a lighter one
    RIM                                   a thin line around the whole silhouette
    INK, PALE, PAPER, WOOD, METAL, GLOW   neutral details (wheels, windows, pages, trunk, hub, lamplight)

Coordinates run from 0 to 100, x to the right and y downwards; things stand on y = 96.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

__all__ = [
    "BODY",
    "DEEP",
    "DETAILS",
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
]

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
