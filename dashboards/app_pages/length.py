"""Specificity and length: how many words and tokens help, and what lies behind the encoder's limit."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from charts import by_level, curves, empty, with_table
from frame import axes_of_kind, begin, column_of, measures_of, rows, table
from listing import worded
from promptlab.errors import PromptlabError
from promptlab.run.plan import token_limits

frame = begin("Specificity and length", "How many words help before more of them hurt?")
found = axes_of_kind(frame.study, "ladder", "tokens")
if not found:
    st.info("This study varies neither details nor length. Choose another at the left, or make one:")
    st.code("promptlab run studies/specificity.yaml\npromptlab run studies/token_length.yaml", language=None)
    st.stop()
left, right = st.columns(2)
axis = left.selectbox("Axis", list(found), key="axis", bind="query-params")
measures = measures_of(frame.study)
if not measures:
    st.info("No picture of this study is measured yet.")
    st.stop()
default = next((i for i, name in enumerate(measures) if name in ("correct", "noun", "seed_distance")), 0)
measure = str(right.selectbox("Measure", measures, index=default, key="measure", bind="query-params"))


@st.cache_data(show_spinner=False, max_entries=50)
def encoder_limits(models: tuple[str, ...]) -> dict[str, int]:
    """What each text encoder of the study's models reads, in tokens; CLIP's 77 where no model is on this disk."""
    known: dict[str, int] = {}
    for model in models:
        try:
            known |= token_limits(model)
        except PromptlabError:
            continue
    return known or {"CLIP": 77}


def limits_here() -> pd.DataFrame:
    """The limit of each encoder and its name: at, what. Says what they are."""
    made = rows("SELECT DISTINCT model FROM cell WHERE study = ? AND current ORDER BY model", [frame.study])["model"]
    known = encoder_limits(tuple(made))
    marks = pd.DataFrame({"at": list(known.values()), "what": [f"{name} reads {at}" for name, at in known.items()]})
    marks = marks.groupby("at", as_index=False)["what"].agg(", ".join)
    st.caption(f"The dashed line is the cut: words behind it reach no encoder ({'; '.join(marks['what'])} tokens).")
    return marks


tokens = found[axis] == "tokens"
st.caption(f"{frame.tier}; means over pictures with 95 % intervals over prompts.")
means = table("cell_means", frame.study, measure, axis)
if empty(means, measure):
    st.stop()
at, arm = column_of(frame.study, axis, "at"), column_of(frame.study, axis, "arm")
if at is not None:
    st.header("Where in the prompt it stands", anchor=False)
    lines = table("crossed_means", frame.study, measure, at, axis)
    lines = lines.sort_values("part", key=pd.to_numeric, kind="stable", ignore_index=True)
    lines["part"] = lines["part"] + " tokens long"
    chart = curves(lines, "token at which it begins", axis, measure, limits=limits_here())
    with_table(chart, lines, f"{measure} by the place of a thing", "places")
if arm is not None:
    st.header("Details beside as many empty words", anchor=False)
    lines = table("crossed_means", frame.study, measure, axis, arm)
    with_table(curves(lines, axis, "what was added", measure), lines, f"{measure} by details, beside filler", "filler")
st.header("How long the prompt is, in tokens" if tokens else "How many details", anchor=False)
numeric = pd.to_numeric(means["level"], errors="coerce").notna().all()
chart = by_level(means, axis, measure, limits=limits_here() if tokens and numeric else None)
with_table(chart, means, f"{measure} by {worded(axis)}")
