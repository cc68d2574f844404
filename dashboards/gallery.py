"""Images on a page: thumbnails by address, a page at a time, each a link to its own page; and attention over an image.

Every text of a study or a model is escaped here. Such text stands inside HTML nowhere else.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from promptlab.run.tracing import WordMaps

__all__ = ["PAGE", "STYLE", "attention_tiles", "gallery", "matrix", "picture_html", "step_button"]

PAGE = 48
STYLE = """<style>
.pl-gallery {display: flex; flex-wrap: wrap; gap: 12px}
.pl-gallery figure {margin: 0; width: 140px}
.pl-gallery figcaption, .pl-grid figcaption {font-size: 0.8rem; line-height: 1.25; overflow-wrap: anywhere;
  margin-top: 4px}
.pl-gallery img, .pl-grid img {width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px; display: block;
  background: rgba(128, 128, 128, 0.15)}
.pl-gallery a:focus-visible img, .pl-grid a:focus-visible img {outline: 3px solid #E69F00; outline-offset: 2px}
.pl-wide figure {width: 180px}
.pl-wrap {overflow-x: auto}
.pl-grid {border-collapse: separate; border-spacing: 8px}
.pl-grid th {font-weight: 600; font-size: 0.85rem; text-align: left; max-width: 150px; overflow-wrap: anywhere}
.pl-grid th:first-child {min-width: 110px}
.pl-grid td {vertical-align: top; width: 176px; min-width: 110px}
.pl-grid figure {margin: 0}
.pl-tag {display: inline-block; border-left: 5px solid var(--c); padding-left: 5px}
</style>"""


PARTS = {"all steps": 0, "early steps": 1, "middle steps": 2, "late steps": 3}
"""The thirds of the steps by which maps of attention are shown."""


def picture_html(row: Any, study: str, caption: str = "", side: str = "small") -> str:
    """One image with its caption, linked to its page; `row` has file, image, prompt, seed."""
    alt = escape(f"{row.prompt}, seed {row.seed}" + (f", {caption}" if caption else ""), quote=True)
    link = escape("detail?" + urlencode({"study": study, "image": row.image}), quote=True)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    if not isinstance(row.file, str):
        return f"<figure><div>no picture</div>{below}</figure>"
    image = f'<img loading="lazy" src="/pictures/{side}/{escape(row.file, quote=True)}" alt="{alt}">'
    return f'<figure><a href="{link}">{image}</a>{below}</figure>'


def gallery(frame: pd.DataFrame, study: str, captions: Sequence[str], key: str) -> None:
    """The images of `frame` (file, image, prompt, seed), PAGE at a time; arrow keys turn the page."""
    pages = max(1, -(-len(frame) // PAGE))
    page = 1
    if pages > 1:

        def turn(by: int) -> None:
            """Move by a page, not beyond the ends."""
            st.session_state[key] = min(pages, max(1, (st.session_state.get(key) or 1) + by))

        with st.container(horizontal=True, vertical_alignment="center"):
            step_button("Previous", "Left", "the page before", turn, -1, key)
            page = st.pagination(pages, key=key, bind="query-params")
            step_button("Next", "Right", "the page after", turn, 1, key)
    part = slice((page - 1) * PAGE, page * PAGE)
    figures = [
        picture_html(row, study, caption)
        for row, caption in zip(frame.iloc[part].itertuples(), captions[part], strict=True)
    ]
    st.html(f'{STYLE}<div class="pl-gallery">{"".join(figures)}</div>')


def step_button(label: str, shortcut: str, what: str, act: Callable[[int], None], by: int, key: str) -> None:
    """A button that moves one forward or back; its help names its key on the keyboard."""
    help_ = f"{what}; key: arrow {shortcut.lower()}"
    st.button(label, shortcut=shortcut, help=help_, on_click=act, args=(by,), key=f"{key}_{label.lower()}")


def matrix(cells: dict[tuple[str, str], str], across: Sequence[str], down: Sequence[str], corner: str) -> None:
    """A table of images: `cells` holds HTML of `picture_html` by (across, down)."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in across)
    lines = [
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{cells.get((other, name), '')}</td>" for other in across)
        + "</tr>"
        for name in down
    ]
    table = f'<table class="pl-grid"><tr><th scope="col">{escape(corner)}</th>{head}</tr>{"".join(lines)}</table>'
    st.html(f'{STYLE}<div class="pl-wrap" tabindex="0" role="region" aria-label="grid of pictures">{table}</div>')


def _tile(pixels: NDArray[np.uint8], alt: str, caption: str) -> str:
    """One image as a figure, its data inside; all words escaped."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((256, 256 * pixels.shape[0] // pixels.shape[1])).save(buffer, "WEBP", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    image = f'<img src="data:image/webp;base64,{data}" alt="{escape(alt, quote=True)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def attention_tiles(traced: WordMaps, prompt: str) -> None:
    """An image and, beside it, where each word of its prompt looks: a heat map a word, of all steps or of a third."""
    import numpy as np

    from promptlab.run.tracing import heat

    parts = [name for name, part in PARTS.items() if np.isfinite(traced.maps[part]).all()]
    chosen = st.segmented_control("Steps", parts, default=parts[0], key="steps", bind="query-params") or parts[0]
    tiles = [_tile(traced.picture, f"the picture of: {prompt}", "the picture")]
    for word, attention in zip(traced.words, traced.maps[PARTS[chosen]], strict=True):
        tiles.append(_tile(heat(traced.picture, attention), f"where {word} looks, {chosen}", word))
    st.html(f'{STYLE}<div class="pl-gallery pl-wide">{"".join(tiles)}</div>')
    st.caption(
        "Attention shows where a word looks, not what it causes. Each map is stretched by itself: bright in its "
        "colours where the word looks, dim and grey elsewhere. Brightness compares places, never words."
    )
