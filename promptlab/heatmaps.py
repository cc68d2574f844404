"""Heat maps over a picture: each word's attention as light, the rest in the dark.

    light = (a - min a) / (p99 - min a), clipped to 0..1      a: a word's attention; p99: its 99th percentile

Each map is stretched by itself, so brightness compares places, never words. Where a word does not look, the picture is
grey and dim; where it looks, it keeps its colours under a warm tint. Ours; Pillow alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["heat", "sheet"]

SIDE, GAP, LABEL = 224, 12, 30
"""Height of a tile, space between tiles, and height of a line of text, in pixels."""
PAPER, INK, WARM = (255, 255, 255), (32, 34, 40), np.array([255.0, 120.0, 20.0])
ROWS = ("all steps", "early", "middle", "late")


def heat(picture: NDArray[np.uint8], attention: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture (height, width, 3) with a map (h, w) laid over it, of the picture's size."""
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
) -> Image:
    """The picture, and beside it every word's map over it.

    Args:
        picture: uint8 (height, width, 3).
        maps: (4, words, h, w), all steps and their thirds; NaN where there is none.
        thirds: a row for early, middle and late steps each as well.
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
            draw.text((GAP, top + SIDE // 2), ROWS[part], INK, small, "lm")
        for column in range(len(words) + 1):
            at = left + GAP + column * (wide + GAP)
            if column == 0 and row > 0:
                continue
            tile = picture if column == 0 else heat(picture, maps[part, column - 1])
            page.paste(Image.fromarray(tile).resize((wide, SIDE), Image.Resampling.LANCZOS), (at, top))
            if row == 0 and column > 0:
                draw.text((at + wide // 2, top - LABEL // 2), words[column - 1], INK, large, "mm")
    return page
