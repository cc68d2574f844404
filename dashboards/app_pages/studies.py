"""Studies: each study that was run, how far it is, and its newest images."""

from __future__ import annotations

import streamlit as st

from gallery import gallery
from page import begin, cached, progress_of, show_command
from promptlab.results import pages, tables

page = begin("Studies", "What have I got, and is it finished?")
known = cached(tables.studies)
known["done"] = known["ok"] / known["planned"].clip(lower=1)
st.dataframe(
    known[["study", "done", "planned", "ok", "failed", "missing", "cells", "last_run"]],
    hide_index=True,
    width="stretch",
    column_config={
        "done": st.column_config.ProgressColumn("done", format="percent", min_value=0, max_value=1),
        "planned": st.column_config.NumberColumn("pictures", help="cells x seeds of the current plan"),
        "last_run": "last run",
    },
)
progress = progress_of(page.study)
with st.container(border=True):
    st.header("The study chosen at the left", anchor=False)
    st.text(page.study)
    left, middle, right = st.columns(3)
    left.metric("pictures that count", f"{int(progress['ok']):,} of {int(progress['planned']):,}")
    middle.metric("failed", f"{int(progress['failed']):,}")
    right.metric("not made yet", f"{int(progress['missing']):,}")
    if progress["missing"]:
        st.caption("Make what is missing, or go on after a crash, with the same command:")
        show_command("run", page.study)
    with st.expander("The study as it was written"):
        st.code(cached(pages.study_text, page.study) or "(made in Python)", language="yaml")

st.header("Newest pictures", anchor=False)
newest = cached(pages.newest_images, page.study)
gallery(newest, page.study, [str(prompt) for prompt in newest["prompt"]], "newest")
