"""Where each word looks: a picture and, beside it, one heat map a word laid over it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st

from gallery import STYLE

__all__ = ["looks"]

PARTS = {"all steps": 0, "early steps": 1, "middle steps": 2, "late steps": 3}


def _tile(pixels: Any, alt: str, caption: str) -> str:
    """One picture as a figure, its data inside; all words escaped."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((256, 256 * pixels.shape[0] // pixels.shape[1])).save(buffer, "WEBP", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img src="data:image/webp;base64,{data}" alt="{escape(alt, quote=True)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def looks(picture: Any, words: Sequence[str], maps: Any, prompt: str) -> None:
    """The tiles, of all steps or of a third of them.

    Args:
        picture: uint8 (height, width, 3).
        maps: float32 (4, words, h, w), all steps and their thirds; NaN where too few steps leave one empty.
    """
    import numpy as np

    from promptlab.run.tracing import heat

    there = [name for name, part in PARTS.items() if np.isfinite(maps[part]).all()]
    chosen = st.segmented_control("Steps", there, default=there[0], key="steps", bind="query-params") or there[0]
    tiles = [_tile(picture, f"the picture of: {prompt}", "the picture")]
    for word, one in zip(words, maps[PARTS[chosen]], strict=True):
        tiles.append(_tile(heat(picture, one), f"where {word} looks, {chosen}", word))
    st.html(f'{STYLE}<div class="pl-gallery pl-wide">{"".join(tiles)}</div>')
    st.caption(
        "Attention shows where a word looks, not what it causes. Each map is stretched by itself: bright in its "
        "colours where the word looks, dim and grey elsewhere. Brightness compares places, never words."
    )
