"""Image detail: what exactly made a picture, what its encoder read, what each probe said, and its siblings."""

from __future__ import annotations

import json

import streamlit as st
from frame import begin, rows
from gallery import gallery, picture_html

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
left, right = st.columns([2, 3])
with left:
    row = next(found.rename(columns={"id": "image"}).itertuples())
    st.html(
        f"<style>.pl-one img {{width: 100%; border-radius: 8px}} .pl-one figure {{margin: 0}}</style>"
        f'<div class="pl-one">{picture_html(row, frame.study, "", "whole")}</div>'
    )
    st.caption(
        f"{frame.tier}; {image['width']} x {image['height']} pixels, {image['seconds']:.2f} s, status {image['status']}"
    )
with right:
    st.subheader("Prompt", anchor=False)
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
    st.dataframe({"setting": list(facts), "value": list(facts.values())}, hide_index=True, width="stretch")
    where = rows(
        """
        SELECT level.axis, level.level FROM cell_image
        JOIN level ON level.study = cell_image.study AND level.cell_id = cell_image.cell_id
        WHERE cell_image.study = ? AND cell_image.image = ? LIMIT 40
        """,
        [frame.study, asked],
    )
    with st.expander("Its place in the study, and the whole recipe"):
        st.dataframe(where, hide_index=True, width="stretch")
        st.json(json.loads(image["recipe"]))

st.subheader("What the probes said", anchor=False)
scores = rows(
    """
    SELECT DISTINCT probe, measure, target, value, label, reason, detail FROM score
    WHERE image = ? ORDER BY probe, measure, target LIMIT 500
    """,
    [asked],
)
st.dataframe(
    scores.drop(columns="detail"),
    hide_index=True,
    width="stretch",
    column_config={"value": st.column_config.NumberColumn("value", format="%.4g")},
)
seen = [json.loads(detail).get("found") for detail in scores["detail"].dropna() if '"found"' in detail]
if seen and seen[0]:
    st.caption("What the scene parser saw")
    st.dataframe(seen[0], hide_index=True, width="stretch")
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
    st.subheader("Which words are tracked", anchor=False)
    st.dataframe(phrases, hide_index=True, width="stretch")
siblings = rows(
    """
    SELECT DISTINCT image.id AS image, image.file, image.prompt, image.seed, image.guidance_scale FROM image
    WHERE image.prompt = ? AND image.model = ? AND image.id <> ? AND image.file IS NOT NULL
    ORDER BY image.guidance_scale, image.seed LIMIT 48
    """,
    [image["prompt"], image["model"], asked],
)
if len(siblings):
    st.subheader("The same prompt at other seeds and settings", anchor=False)
    captions = [f"seed {s}, w = {w:g}" for s, w in zip(siblings["seed"], siblings["guidance_scale"], strict=True)]
    gallery(siblings, frame.study, captions, "siblings")
