"""CFG: correctness, colour and diversity against guidance, and the same prompt and seed all along it."""

from __future__ import annotations

import streamlit as st

from charts import MEANINGS, by_level, empty, outcomes, with_table
from frame import begin, measures_of, part, rows, table, varies
from gallery import matrix, picture_html

frame = begin("CFG", "What guidance for this model?")
axes = [name for name in ("guidance_scale", "distilled_guidance_scale") if varies(frame.study, name)]
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
shares = table("outcome_shares", frame.study, by=axis)
if len(shares):
    st.header("Is it what was asked for?", anchor=False)
    st.caption(f"Outcomes of two-object prompts, {frame.tier}; intervals in the table are 95 %, over prompts.")
    with_table(outcomes(shares, axis), shares, f"shares of the outcomes of binding by {axis}", "outcomes")
    st.caption("; ".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items()) + ".")
measures = measures_of(frame.study)
wanted = [
    m
    for m in ("p95_chroma", "colourfulness", "clipped_share", "rms_contrast", "seed_distance", "vendi", "clip_cosine")
    if m in measures
]


@part
def pictures_by(study: str, axis: str, tier: str) -> None:
    """Measures of the pictures along the axis, a chart each."""
    st.header("What it does to the picture", anchor=False)
    st.caption(f"Means over pictures with 95 % intervals over prompts, {tier}.")
    usual = tuple(wanted[:4])
    chosen = st.pills("Measures", measures, default=usual, selection_mode="multi", key="measures", bind="query-params")
    known = table("many_curves", study, usual, axis)
    columns = st.columns(2)
    for i, measure in enumerate(chosen):
        with columns[i % 2]:
            means, _ = known[measure] if measure in known else table("curves", study, measure, axis)
            if not empty(means, measure):
                with_table(by_level(means, axis, measure), means, f"{measure} by {axis}", measure)
    if "p95_chroma" in wanted or "colourfulness" in wanted:
        st.caption(
            "Burn shows as chroma and clipped share that rise above those of moderate guidance while correctness falls."
        )


pictures_by(frame.study, axis, frame.tier)
st.header("The same prompt and seed", anchor=False)
strip = rows(
    """
    WITH arm AS (
        SELECT cell.id, cell.study, cell.prompt, cell.position, level.level, level.level_position AS place
        FROM cell JOIN level ON level.study = cell.study AND level.cell_id = cell.id AND level.axis = ?
        WHERE cell.study = ? AND cell.current
    ), whole AS (  -- the first prompts that have every level
        SELECT prompt FROM arm GROUP BY prompt
        HAVING count(DISTINCT level) = (SELECT max(place) + 1 FROM arm) ORDER BY min(position) LIMIT 40
    )
    SELECT arm.level, arm.place, arm.prompt, cell_image.seed, image.id AS image, image.file
    FROM arm JOIN whole USING (prompt)
    JOIN cell_image ON cell_image.study = arm.study AND cell_image.cell_id = arm.id
    JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
    QUALIFY count(DISTINCT arm.level) OVER (PARTITION BY arm.prompt, cell_image.seed) = max(arm.place) OVER () + 1
    ORDER BY arm.position, cell_image.seed, arm.place LIMIT 240
    """,
    [axis, frame.study],
)
prompts = list(dict.fromkeys(strip["prompt"]))[:8]
html, down = {}, []
for prompt in prompts:
    part = strip[strip["prompt"] == prompt]
    part = part[part["seed"] == part["seed"].iloc[0]]
    down.append(prompt)
    for row in part.itertuples():
        html[(f"w = {row.level}", prompt)] = picture_html(row, frame.study, "", "medium")
if html:
    matrix(html, list(dict.fromkeys(f"w = {level}" for level in strip.sort_values("place")["level"])), down, "prompt")
