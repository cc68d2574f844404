"""Word order: what moving a phrase does, over prompts and in each of them."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from charts import BLUE, PICTURES, by_level, drawn, empty, with_table
from frame import axes_of_kind, begin, measures_of, part, table
from listing import listing, worded


@drawn
def prompt_by_prompt(means: pd.DataFrame, axis: str, measure: str) -> alt.LayerChart:
    """A line for each prompt family."""
    chart = alt.Chart().encode(
        x=alt.X("level:N", sort=None, title=worded(axis), axis=alt.Axis(labelAngle=0, labelLimit=260)),
        y=alt.Y("mean:Q", title=worded(measure), scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)),
        detail=alt.Detail("prompt_group:N"),
        tooltip=[alt.Tooltip("prompt:N"), alt.Tooltip("level:N"), alt.Tooltip("mean:Q", format=".3f"), PICTURES],
    )
    lines, points = chart.mark_line(color=BLUE, opacity=0.55), chart.mark_point(color=BLUE, filled=True, opacity=0.7)
    return alt.layer(lines, points, data=means).properties(height=320)


frame = begin("Word order", "Does it matter what I name first?")
axes = list(axes_of_kind(frame.study, "order", "position"))
if not axes:
    st.info("This study does not vary the order of words. Choose another at the left, or make one:")
    st.code("promptlab run studies/word_order.yaml", language=None)
    st.stop()


@part
def along(study: str, tier: str, axes: list[str]) -> None:
    """A measure along an axis, over prompts and of each."""
    left, right = st.columns(2)
    axis = left.selectbox("Axis", axes, key="axis", bind="query-params")
    measures = measures_of(study)
    default = next((i for i, name in enumerate(measures) if name == "accuracy"), 0)
    measure = right.selectbox("Measure", measures, index=default, key="measure", bind="query-params")
    means, lines = table("curves", study, measure, axis)
    st.caption(f"{tier}; 95 % intervals over prompts. Arms differ in the order of words alone, seeds are shared.")
    if not empty(means, measure):
        with_table(by_level(means, axis, measure), means, f"{measure} by {axis}")
    lines = lines.head(5000)
    if len(lines):
        st.header("Prompt by prompt", anchor=False)
        st.caption("A line is one prompt family, averaged over seeds. Parallel lines: the order does the same to all.")
        with_table(prompt_by_prompt(lines, axis, measure), lines, f"{measure} of each prompt by {axis}", "prompts")


along(frame.study, frame.tier, axes)
effects = table("effects", frame.study)
if len(effects):
    st.header("Contrasts of the study", anchor=False)
    st.caption(f"Paired differences over prompts, {frame.tier}; p by Holm where a contrast is confirmatory, else q.")
    listing(
        effects[["contrast", "measure", "estimate", "low", "high", "p_adjusted", "q", "n_groups", "n_pairs", "reason"]]
    )
