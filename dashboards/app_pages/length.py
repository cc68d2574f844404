"""Specificity and length: how many words and tokens help, and what becomes of words past the encoder's limit."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from charts import by_level, curves, empty, with_table
from page import axes_of_kind, begin, cached, column_of
from promptlab.errors import PromptlabError
from promptlab.results import pages
from promptlab.results.tables import cell_means, crossed_means
from promptlab.run.plan import token_limits
from tables import in_words

page = begin("Specificity and length", "How many words help before more of them hurt?")
found = axes_of_kind(page.study, "ladder", "tokens")
if not found:
    st.info("This study varies neither details nor length. Choose another at the left, or make one:")
    st.code("promptlab run studies/specificity.yaml\npromptlab run studies/token_length.yaml", language=None)
    st.stop()
left, right = st.columns(2)
axis = left.selectbox("Axis", list(found), key="axis", bind="query-params")
measures = cached(pages.measure_names, page.study)
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


def marked_limits() -> pd.DataFrame:
    """The limit of each encoder and its name, as columns at and what. A caption on the page names them."""
    known = encoder_limits(cached(pages.model_names, page.study))
    marks = pd.DataFrame({"at": list(known.values()), "what": [f"{name} reads {at}" for name, at in known.items()]})
    marks = marks.groupby("at")["what"].agg(", ".join).reset_index()
    st.caption(f"The dashed line is the limit: no encoder reads words past it ({'; '.join(marks['what'])} tokens).")
    return marks


tokens = found[axis] == "tokens"
st.caption(f"{page.tier}; means over pictures with 95 % intervals over prompts.")
means = cached(cell_means, page.study, measure, axis)
if empty(means, measure):
    st.stop()
at, arm = column_of(page.study, axis, "at"), column_of(page.study, axis, "arm")
if at is not None:
    st.header("Where in the prompt it stands", anchor=False)
    lines = cached(crossed_means, page.study, measure, at, axis)
    lines = lines.sort_values("part", key=pd.to_numeric, kind="stable", ignore_index=True)
    lines["part"] = lines["part"] + " tokens long"
    chart = curves(lines, "token at which it begins", axis, measure, limits=marked_limits())
    with_table(chart, lines, f"{measure} by the place of a thing", "places")
if arm is not None:
    st.header("Details beside as many empty words", anchor=False)
    lines = cached(crossed_means, page.study, measure, axis, arm)
    with_table(curves(lines, axis, "what was added", measure), lines, f"{measure} by details, beside filler", "filler")
st.header("How long the prompt is, in tokens" if tokens else "How many details", anchor=False)
numeric = pd.to_numeric(means["level"], errors="coerce").notna().all()
chart = by_level(means, axis, measure, limits=marked_limits() if tokens and numeric else None)
with_table(chart, means, f"{measure} by {in_words(axis)}")
