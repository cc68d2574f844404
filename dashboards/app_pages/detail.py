"""Image detail: what exactly made an image, what its encoder read, where each word looks, what each probe said."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from gallery import attention_tiles, gallery, picture_html, step_button
from page import begin, cached
from promptlab.errors import PromptlabError
from promptlab.results import pages
from promptlab.run.plan import truncations
from promptlab.run.tracing import WordMaps, cell_of, retrace
from tables import show_table

page = begin("Image detail", "What exactly made this picture?")
image_id = st.query_params.get("image", "")
found = cached(pages.image_record, image_id)
if not len(found):
    if image_id:
        st.warning("There is no such picture here; below are the first ones of the study.")
    first = cached(pages.images_of_study, page.study)
    st.caption("Choose a picture.")
    gallery(first, page.study, [str(p) for p in first["prompt"]], "choose")
    st.stop()
image = found.iloc[0]
recipe = json.loads(image["recipe"])
near = cached(pages.neighbours, page.study, image_id)


def go(by: int) -> None:
    """Show the image before or after this one in the order of the study; stay at the ends."""
    neighbour = near["before" if by < 0 else "after"].iloc[0] if len(near) else None
    if isinstance(neighbour, str):
        st.query_params["image"] = neighbour


with st.container(horizontal=True, vertical_alignment="center"):
    step_button("Previous", "Left", "the picture before in the study", go, -1, "detail")
    step_button("Next", "Right", "the picture after in the study", go, 1, "detail")
    comparing = st.button("Compare", shortcut="b", help="this cell beside another at the same seeds; key: b")
    if len(near):
        st.caption(f"picture {int(near['place'].iloc[0]):,} of {int(near['total'].iloc[0]):,}")
if comparing and len(near):
    st.switch_page("app_pages/compare.py", query_params={"study": page.study, "a": str(near["cell"].iloc[0])})
left, right = st.columns([2, 3])
with left:
    row = next(found.rename(columns={"id": "image"}).itertuples())
    st.html(
        f"<style>.pl-one img {{width: 100%; border-radius: 8px}} .pl-one figure {{margin: 0}}</style>"
        f'<div class="pl-one">{picture_html(row, page.study, "", "whole")}</div>'
    )
    took = "" if pd.isna(image["seconds"]) else f"{image['seconds']:.2f} s, "
    st.caption(f"{page.tier}; {image['width']} x {image['height']} pixels, {took}status {image['status']}")
with right:
    st.header("Prompt", anchor=False)
    st.code(image["prompt"], language=None, wrap_lines=True)
    names = (
        "seed",
        "guidance_scale",
        "distilled_guidance_scale",
        "num_inference_steps",
        "scheduler",
        "negative_prompt",
    )
    facts = {name: image[name] for name in (*names, "model", "backend", "batch_size")}
    facts = {k: str(v) for k, v in facts.items() if v is not None and v == v and v != ""}
    show_table(pd.DataFrame({"setting": list(facts), "value": list(facts.values())}))
    where = cached(pages.image_levels, page.study, image_id)
    with st.expander("Its place in the study, and the whole recipe"):
        show_table(where)
        st.json(recipe)

st.header("What each encoder read", anchor=False)
try:
    for one in truncations([cell_of(recipe)[0]]):
        words = f"{one.encoder}: {one.longest} of {one.limit} tokens, {'some are cut' if one.lost else 'all are kept'}"
        st.progress(min(1.0, one.longest / one.limit), text=words)
        if one.lost:
            st.warning("This part is cut off:")
            st.text(one.lost)
except PromptlabError as error:
    st.text(f"Not known here: {error}")


@st.cache_data(show_spinner="Making the picture again, with each word's attention", max_entries=20)
def traced(
    image_id: str, recipe: dict[str, Any], pixels: str | None, rows: int | None, dtype: str | None
) -> tuple[WordMaps, bool]:
    """The image made again with attention to each of its words, and whether it is the same image."""
    return retrace(recipe, pixels, rows, dtype)


st.header("Where each word looks", anchor=False)
if st.button("Trace it", shortcut="w", help="Makes the picture again and keeps each word's attention; key: w"):
    st.session_state["traced"] = image_id
if st.session_state.get("traced") == image_id:
    size = None if pd.isna(image["batch_size"]) else int(image["batch_size"])
    dtype = cached(pages.run_fact, str(image["run"]), "diffusion.dtype")
    try:
        maps, same = traced(image_id, recipe, image["pixels"], size, dtype)
    except PromptlabError as error:
        st.text(f"It cannot be traced: {error}")
    else:
        if same:
            st.caption("The same picture: its pixels have the hash that is in the store.")
        else:
            st.warning(
                "Not the same picture to the last bit: same settings and seed, but its pixels have another hash than "
                "that in the store. Another machine, version or number of threads rounds otherwise, and so does "
                "a compiled model."
            )
        attention_tiles(maps, str(image["prompt"]))

st.header("What the probes said", anchor=False)
scores = cached(pages.image_scores, image_id)
show_table(scores.drop(columns="detail"))
parsed = [json.loads(detail).get("found") for detail in scores["detail"].dropna() if '"found"' in detail]
if parsed and parsed[0]:
    st.caption("What the scene parser saw")
    show_table(pd.DataFrame(parsed[0]))
phrases = cached(pages.image_phrases, page.study, image_id)
if len(phrases):
    st.header("Which words are tracked", anchor=False)
    show_table(phrases)
siblings = cached(pages.same_prompt_images, image_id, str(image["prompt"]), str(image["model"]))
if len(siblings):
    st.header("The same prompt at other seeds and settings", anchor=False)
    pairs = zip(siblings["seed"], siblings["guidance_scale"], strict=True)
    captions = [f"seed {s}" if pd.isna(w) else f"seed {s}, w = {w:g}" for s, w in pairs]
    gallery(siblings, page.study, captions, "siblings")
