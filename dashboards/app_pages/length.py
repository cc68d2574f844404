"""Specificity and length: how many words and tokens help, and what lies behind the encoder's limit."""

from __future__ import annotations

import altair as alt
import streamlit as st
from charts import by_level, empty, with_table
from frame import begin, kinds, measures_of, table

frame = begin("Specificity and length", "How many words help before more of them hurt?")
found = {axis: kind for axis, kind in kinds(frame.study).items() if kind in ("ladder", "tokens")}
if not found:
    st.info("This study varies neither details nor length. Choose another at the left, or make one:")
    st.code("promptlab run studies/specificity.yaml\npromptlab run studies/token_length.yaml", language="bash")
    st.stop()
left, right = st.columns(2)
axis = left.selectbox("Axis", list(found))
measures = measures_of(frame.study)
default = next((i for i, name in enumerate(measures) if name in ("correct", "noun", "seed_distance")), 0)
measure = right.selectbox("Measure", measures, index=default, key="measure", bind="query-params")
means = table("cell_means", frame.study, measure, axis)
if empty(means, str(measure)):
    st.stop()
chart = by_level(means, axis, measure)
numbers = [float(level) for level in means["level"] if str(level).replace(".", "").isdigit()]
if found[axis] == "tokens" and len(numbers) == len(means) and len(means):
    limits = {"CLIP reads 75 and its two marks": 77.0}
    rule = alt.Chart(alt.Data(values=[{"at": at, "what": what} for what, at in limits.items()]))
    drawn = rule.mark_rule(strokeDash=[4, 4], color="#D55E00", strokeWidth=2).encode(x="at:Q", tooltip="what:N")
    chart = alt.layer(*chart.layer, drawn).properties(height=320)
    st.caption("The dashed line is CLIP's limit of 77: words behind it reach no CLIP encoder.")
st.caption(f"{frame.tier}; 95 % intervals over prompts.")
with_table(chart, means, f"{measure} by {axis}")
