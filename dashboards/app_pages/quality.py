"""Data quality: what is not in the averages, and why."""

from __future__ import annotations

import streamlit as st

from page import begin, cached, progress_of, show_command
from promptlab.results import pages
from promptlab.results.tables import completeness
from tables import show_table

page = begin("Data quality", "What is not in the averages, and why?")
progress = progress_of(page.study)
columns = st.columns(3)
columns[0].metric("pictures in the averages", f"{int(progress['ok']):,} of {int(progress['planned']):,}")
columns[1].metric("failed", f"{int(progress['failed']):,}", help="made, but blank, NaN, refused or broken")
columns[2].metric("missing", f"{int(progress['missing']):,}")
show_table(cached(completeness, page.study))
if progress["failed"]:
    st.caption("Make again whatever did not end ok:")
    show_command("run", page.study, " --retry")
st.header("What could not be measured", anchor=False)
gaps = cached(pages.unmeasured, page.study)
if len(gaps):
    st.caption("A probe that cannot tell says so; such a picture is in no mean of that measure, and never counts as 0.")
    show_table(gaps)
else:
    st.success("Every measure has a value for every picture.")
damage = cached(pages.damaged_journals)
if len(damage):
    st.header("Damaged journals", anchor=False)
    show_table(damage)
    st.code("promptlab doctor\npromptlab rebuild", language=None)
st.header("What decided the pictures", anchor=False)
facts = cached(pages.run_facts, page.study)
changed = facts[facts["versions"] > 1]
if len(changed):
    st.warning("These changed between the runs of this study, so its pictures were not all made alike.")
    show_table(changed)
with st.expander("All facts of its runs"):
    show_table(facts)
