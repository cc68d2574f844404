"""CFG: correctness, colour and diversity against guidance, and the same prompt and seed all along it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from charts import MEANINGS, by_level, empty, outcomes, with_table
from gallery import matrix, picture_html
from page import begin, cached, fragment
from promptlab.results import pages
from promptlab.results.tables import curves, many_curves, outcome_shares

page = begin("CFG", "What guidance for this model?")
axes = [name for name in ("guidance_scale", "distilled_guidance_scale") if cached(pages.varies, page.study, name)]
if not axes:
    st.info("This study does not vary guidance. Choose another at the left, or make one:")
    st.code("promptlab run studies/guidance.yaml", language=None)
    st.stop()
axis = st.selectbox("Which guidance", axes, key="axis", bind="query-params") if len(axes) > 1 else axes[0]
st.caption(
    "Classifier-free guidance: w in u + w (c - u). 0 is unconditional, 1 purely conditional."
    if axis == "guidance_scale"
    else "A guidance that was distilled into an input of the model: no CFG, and 1 is not the conditional pass."
)
shares = cached(outcome_shares, page.study, by=axis)
if len(shares):
    st.header("Is it what was asked for?", anchor=False)
    st.caption(f"Outcomes of two-object prompts, {page.tier}; intervals in the table are 95 %, over prompts.")
    with_table(outcomes(shares, axis), shares, f"shares of the outcomes of binding by {axis}", "outcomes")
    st.caption("; ".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items()) + ".")
measures = cached(pages.measure_names, page.study)
wanted = [
    m
    for m in ("p95_chroma", "colourfulness", "clipped_share", "rms_contrast", "seed_distance", "vendi", "clip_cosine")
    if m in measures
]


@fragment
def pictures_by(study: str, axis: str, tier: str) -> None:
    """Measures of the images along the axis, a chart each."""
    st.header("What it does to the picture", anchor=False)
    st.caption(f"Means over pictures with 95 % intervals over prompts, {tier}.")
    usual = tuple(wanted[:4])
    chosen = st.pills("Measures", measures, default=usual, selection_mode="multi", key="measures", bind="query-params")
    known = cached(many_curves, study, usual, axis)
    columns = st.columns(2)
    for i, measure in enumerate(chosen):
        with columns[i % 2]:
            means, _ = known[measure] if measure in known else cached(curves, study, measure, axis)
            if not empty(means, measure):
                with_table(by_level(means, axis, measure), means, f"{measure} by {axis}", measure)
    if "p95_chroma" in wanted or "colourfulness" in wanted:
        st.caption(
            "Burn shows as chroma and clipped share that rise above those of moderate guidance while correctness falls."
        )


pictures_by(page.study, axis, page.tier)
st.header("The same prompt and seed", anchor=False)
strip = cached(pages.images_along_axis, page.study, axis)
prompts = list(dict.fromkeys(strip["prompt"]))[:8]
html: dict[tuple[str, str], str] = {}
row: Any
for prompt in prompts:
    images = strip[strip["prompt"] == prompt]
    for row in images[images["seed"] == images["seed"].iloc[0]].itertuples():
        html[(f"w = {row.level}", prompt)] = picture_html(row, page.study, "", "medium")
if html:
    across = list(dict.fromkeys(f"w = {level}" for level in strip.sort_values("place")["level"]))
    matrix(html, across, prompts, "prompt")
