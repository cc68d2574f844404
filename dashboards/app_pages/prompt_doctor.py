"""Prompt doctor: a prompt read as the encoder reads it, and tried at once on the miniature."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from gallery import attention_tiles
from page import heading
from promptlab.errors import PromptlabError
from promptlab.results.lint import SILENT, Lint, advice, lint, verdicts
from promptlab.store import Store
from tables import show_table

if TYPE_CHECKING:
    from promptlab.run.tracing import WordMaps

heading("Prompt doctor", "What does the model read in my prompt?")
EXAMPLE = "a photo of a red cup and a blue chair"
prompt = st.text_area("Prompt", value=EXAMPLE, max_chars=2000, key="prompt", bind="query-params")


@st.cache_data(show_spinner="Reading", max_entries=200)
def read(text: str) -> Lint:
    """The prompt as the miniature reads it."""
    return lint(text)


try:
    found = read(prompt)
except PromptlabError as error:
    st.text(str(error))
    st.stop()


def shaded(one: Lint) -> str:
    """The words, those with more reach darker, those that are cut struck out; all escaped."""
    most = max((w.reach or 0.0 for w in one.words), default=0.0) or 1.0
    out = []
    for word in one.words:
        share = (word.reach or 0.0) / most
        style = f"background: rgba(46, 139, 192, {0.6 * share:.2f}); border-radius: 4px; padding: 2px 4px"
        if not word.kept:
            style += "; text-decoration: line-through; opacity: 0.5"
        tooltip = f"reach {word.reach:.3f}, token {word.slot}" if word.reach is not None else f"token {word.slot}"
        out.append(f'<span style="{style}" title="{tooltip}">{escape(word.text)}</span>')
    return f'<p style="font-size: 1.3rem; line-height: 2.1">{" ".join(out)}</p>'


st.html(shaded(found))
st.caption(
    "Darker words move the text encoder's state more when they are left out; struck-out words are cut off. The "
    "miniature's encoder; other models by command: promptlab lint --model."
)
for one in found.encoders:
    st.progress(min(1.0, one.total / one.limit), text=f"{one.encoder}: {one.total} of {one.limit} tokens")
    if one.lost:
        st.warning("This part is cut off:")
        st.text(one.lost)
if found.unknown:
    st.warning("The miniature never learned these words; a real model may know them:")
    st.text(", ".join(found.unknown))
if found.silent:
    st.caption(f"Next to nothing (reach below {SILENT}):")
    st.text(", ".join(found.silent))
if found.order is not None:
    st.metric("change when the colours are exchanged, over change when the objects are reordered", f"{found.order:.2f}")
    st.caption("Below 1 the encoder sees less of a change in another meaning than in the same meaning in other words.")
lines = advice(found, verdicts(Store()))
st.header("Advice", anchor=False)
if lines:
    for claim, line in lines:
        st.text(f"{claim}: {line}")
else:
    st.caption("None: advice comes from settled claims alone, and none here speaks of this prompt. promptlab claims")
with st.expander("Word by word"):
    show_table(pd.DataFrame([vars(word) for word in found.words]), {"text": "word", "slot": "first token"})


@st.cache_resource(show_spinner="Loading the miniature")
def miniature() -> Any:
    """The miniature, ready to draw."""
    from promptlab import plugins

    return plugins.load("backend", "diffusion", model="miniature", batch_size=4)


@st.cache_data(show_spinner="Drawing", max_entries=50)
def drawn(text: str, guidance: float) -> list[tuple[str, str]]:
    """Four images as data addresses, and what the scene parser sees in each; nothing is stored."""
    from promptlab.run.tracing import try_prompt

    out = []
    for picture, seen in try_prompt(miniature(), text, guidance, seeds=4):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        out.append(("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), seen))
    return out


st.header("Try it", anchor=False)
left, right = st.columns([3, 1], vertical_alignment="bottom")
guidance = left.slider("guidance_scale", 0.0, 20.0, 5.0, 0.5, key="guidance", bind="query-params")
if right.button("Draw four", shortcut="Ctrl+Enter", help="key: Ctrl + Enter"):
    st.session_state["drawn"] = (prompt, guidance)
if "drawn" in st.session_state:
    text, w = st.session_state["drawn"]
    st.text(f"{text} (w = {w:g}, seeds 0 to 3)")
    for column, (address, seen) in zip(st.columns(4), drawn(text, w), strict=True):
        alt = escape(f"{text}: {seen}", quote=True)
        column.html(f'<img src="{address}" alt="{alt}" style="width: 100%; border-radius: 6px">')
        column.caption("The parser sees")
        column.text(seen)


@st.cache_data(show_spinner="Looking", max_entries=20)
def traced(text: str, guidance: float) -> WordMaps:
    """The image at seed 0 with attention to each of its words."""
    from promptlab.records import Settings
    from promptlab.run.tracing import word_maps

    return word_maps(text, 0, Settings(guidance_scale=guidance, num_inference_steps=25))


st.header("Where each word looks", anchor=False)
clicked = st.button("Trace seed 0", shortcut="w", help="Draws it again and keeps each word's attention; key: w")
if clicked or st.session_state.get("traced") == (prompt, guidance):
    st.session_state["traced"] = (prompt, guidance)
    try:
        maps = traced(prompt, guidance)
    except PromptlabError as error:
        st.text(str(error))
    else:
        attention_tiles(maps, prompt)
