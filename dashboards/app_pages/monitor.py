"""Run monitor: follows a run while it goes on. A run renews the database every 15 seconds; no page blocks it."""

from __future__ import annotations

import streamlit as st

from gallery import gallery
from page import begin, cached, progress_of, show_command
from promptlab.results import pages
from promptlab.results.tables import completeness
from tables import show_table

page = begin("Run monitor", "How far is it, how long will it take, is anything wrong?")


@st.fragment(run_every=5)
def follow(study: str) -> None:
    """The state of one study, every five seconds."""
    progress = progress_of(study)
    planned, ok, failed, missing = (int(progress[name]) for name in ("planned", "ok", "failed", "missing"))
    st.progress((ok + failed) / max(1, planned), text=f"{ok + failed:,} of {planned:,} pictures")
    seconds = cached(pages.recent_seconds, study)
    last = cached(pages.last_run, study)
    running = len(last) and last["status"].iloc[0] == "open"
    columns = st.columns(4)
    columns[0].metric("last run", "going on" if running and missing else str(progress["last_run"]))
    columns[1].metric("failed", f"{failed:,}")
    speed = "not known" if seconds is None else "below 0.01" if seconds < 0.01 else f"{seconds:.2f}"
    columns[2].metric("seconds a picture", speed)
    left = "none" if not missing else "not known" if seconds is None else f"{missing * seconds / 60:.1f} min"
    columns[3].metric("time left", left)
    if missing and not running:
        st.warning("Pictures are missing and the last run has ended. This goes on where it stopped:")
        show_command("run", study)
    if failed:
        st.header("What failed", anchor=False)
        show_table(cached(completeness, study))
    newest = cached(pages.newest_images, study)
    st.header("The newest twelve", anchor=False)
    gallery(newest, study, [f"seed {seed}" for seed in newest["seed"]], "live")
    if len(last):
        run = last.iloc[0]
        st.caption(f"Run {run['id']} on {run['platform']}, python {run['python']}, promptlab {run['promptlab']}.")


follow(page.study)
