"""Image detail: what exactly made a picture, what its encoder read, where each word looks, what each probe said."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from frame import begin, rows
from gallery import gallery, picture_html, turning
from listing import listing
from looks import looks
from promptlab.errors import PromptlabError
from promptlab.run.plan import truncations
from promptlab.run.tracing import cell_of, retrace

frame = begin("Image detail", "What exactly made this picture?")
asked = st.query_params.get("image", "")
found = rows("SELECT * FROM image WHERE id = ?", [asked])
if not len(found):
    if asked:
        st.warning("There is no such picture here; below are the first ones of the study.")
    first = rows(
        """
        SELECT image.id AS image, image.file, image.prompt, image.seed FROM cell
        JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
        JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
        WHERE cell.study = ? AND cell.current ORDER BY cell.position, cell_image.seed LIMIT 480
        """,
        [frame.study],
    )
    st.caption("Choose a picture.")
    gallery(first, frame.study, [str(p) for p in first["prompt"]], "choose")
    st.stop()
image = found.iloc[0]
recipe = json.loads(image["recipe"])
near = rows(
    """
    SELECT before, after, place, total, cell FROM (
        SELECT image, cell, lag(image) OVER seen AS before, lead(image) OVER seen AS after,
            row_number() OVER seen AS place, count(*) OVER () AS total
        FROM (
            SELECT image.id AS image, arg_min(cell.id, cell.position) AS cell, min(cell.position) AS position,
                min(image.seed) AS seed
            FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
            JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
            WHERE cell.study = ? AND cell.current GROUP BY image.id)
        WINDOW seen AS (ORDER BY position, seed)) WHERE image = ?
    """,
    [frame.study, asked],
)


def go(by: int) -> None:
    """Show the picture before or after this one in the order of the study; at the ends stay."""
    there = near["before" if by < 0 else "after"].iloc[0] if len(near) else None
    if isinstance(there, str):
        st.query_params["image"] = there


with st.container(horizontal=True, vertical_alignment="center"):
    turning("Previous", "Left", "the picture before in the study", go, -1, "detail")
    turning("Next", "Right", "the picture after in the study", go, 1, "detail")
    beside = st.button("Compare", shortcut="b", help="this cell beside another at the same seeds; key: b")
    if len(near):
        st.caption(f"picture {int(near['place'].iloc[0]):,} of {int(near['total'].iloc[0]):,}")
if beside and len(near):
    st.switch_page("app_pages/compare.py", query_params={"study": frame.study, "a": str(near["cell"].iloc[0])})
left, right = st.columns([2, 3])
with left:
    row = next(found.rename(columns={"id": "image"}).itertuples())
    st.html(
        f"<style>.pl-one img {{width: 100%; border-radius: 8px}} .pl-one figure {{margin: 0}}</style>"
        f'<div class="pl-one">{picture_html(row, frame.study, "", "whole")}</div>'
    )
    took = "" if pd.isna(image["seconds"]) else f"{image['seconds']:.2f} s, "
    st.caption(f"{frame.tier}; {image['width']} x {image['height']} pixels, {took}status {image['status']}")
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
    listing(pd.DataFrame({"setting": list(facts), "value": list(facts.values())}))
    where = rows(
        """
        SELECT level.axis, level.level FROM cell_image
        JOIN level ON level.study = cell_image.study AND level.cell_id = cell_image.cell_id
        WHERE cell_image.study = ? AND cell_image.image = ? LIMIT 40
        """,
        [frame.study, asked],
    )
    with st.expander("Its place in the study, and the whole recipe"):
        listing(where)
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
    image_id: str, recipe: dict[str, Any], pixels: str | None, batch: int | None, dtype: str | None
) -> tuple[Any, ...]:
    """The picture made again, its words, attention to each, and whether it is the same picture."""
    maps, same = retrace(recipe, pixels, batch, dtype)
    return maps.picture, maps.words, maps.maps, same


st.header("Where each word looks", anchor=False)
if st.button("Trace it", shortcut="w", help="Makes the picture again and keeps each word's attention; key: w"):
    st.session_state["traced"] = asked
if st.session_state.get("traced") == asked:
    size = None if pd.isna(image["batch_size"]) else int(image["batch_size"])
    facts_of_run = rows("SELECT value FROM fact WHERE run = ? AND name = 'diffusion.dtype'", [image["run"]])
    dtype = str(facts_of_run["value"].iloc[0]) if len(facts_of_run) else None
    try:
        *seen, same = traced(asked, recipe, image["pixels"], size, dtype)
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
        looks(*seen, str(image["prompt"]))

st.header("What the probes said", anchor=False)
scores = rows(
    """
    SELECT DISTINCT probe, probe_id, measure, target, value, label, reason, detail FROM score
    WHERE image = ? ORDER BY probe_id, measure, target LIMIT 500
    """,
    [asked],
)
listing(scores.drop(columns="detail"))
seen_by_parser = [json.loads(detail).get("found") for detail in scores["detail"].dropna() if '"found"' in detail]
if seen_by_parser and seen_by_parser[0]:
    st.caption("What the scene parser saw")
    listing(pd.DataFrame(seen_by_parser[0]))
phrases = rows(
    """
    SELECT phrase.name, phrase.text, phrase.role, phrase.start_char, phrase.end_char FROM phrase
    JOIN (SELECT prompt_id FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
          WHERE cell.study = ? AND cell_image.image = ? LIMIT 1) mine ON mine.prompt_id = phrase.prompt_id
    ORDER BY phrase.position
    """,
    [frame.study, asked],
)
if len(phrases):
    st.header("Which words are tracked", anchor=False)
    listing(phrases)
siblings = rows(
    """
    SELECT DISTINCT image.id AS image, image.file, image.prompt, image.seed, image.guidance_scale FROM image
    WHERE image.prompt = ? AND image.model = ? AND image.id <> ? AND image.file IS NOT NULL
    ORDER BY image.guidance_scale, image.seed LIMIT 48
    """,
    [image["prompt"], image["model"], asked],
)
if len(siblings):
    st.header("The same prompt at other seeds and settings", anchor=False)
    pairs = zip(siblings["seed"], siblings["guidance_scale"], strict=True)
    captions = [f"seed {s}" if pd.isna(w) else f"seed {s}, w = {w:g}" for s, w in pairs]
    gallery(siblings, frame.study, captions, "siblings")
