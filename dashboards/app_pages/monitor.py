"""Run monitor: follows a run while it goes on. The database is renewed every 15 seconds; looking never holds it."""

from __future__ import annotations

import streamlit as st

from frame import begin, how_to, rows, studies, table
from gallery import gallery
from listing import listing

frame = begin("Run monitor", "How far is it, how long will it take, is anything wrong?")


@st.fragment(run_every=5)
def follow(study: str) -> None:
    """The state of one study, again and again."""
    one = studies().set_index("study").loc[study]
    planned, ok, failed, missing = (int(one[name]) for name in ("planned", "ok", "failed", "missing"))
    st.progress((ok + failed) / max(1, planned), text=f"{ok + failed:,} of {planned:,} pictures")
    speed = rows(
        """
        SELECT median(seconds) AS seconds FROM (
            SELECT image.seconds FROM image JOIN cell_image ON cell_image.image = image.id
            WHERE cell_image.study = ? AND image.seconds IS NOT NULL ORDER BY image.rowid DESC LIMIT 64)
        """,
        [study],
    )["seconds"].iloc[0]
    last = rows("SELECT * FROM run WHERE study = ? ORDER BY started DESC LIMIT 1", [study])
    open_ = len(last) and last["status"].iloc[0] == "open"
    columns = st.columns(4)
    columns[0].metric("last run", "going on" if open_ and missing else str(one["last_run"]))
    columns[1].metric("failed", f"{failed:,}")
    columns[2].metric(
        "seconds a picture", "not known" if speed != speed else "below 0.01" if speed < 0.01 else f"{speed:.2f}"
    )
    left = missing * speed / 60 if speed == speed else None
    columns[3].metric("time left", "none" if not missing else "not known" if left is None else f"{left:.1f} min")
    if missing and not open_:
        st.warning("Pictures are missing and the last run has ended. This goes on where it stopped:")
        how_to("run", study)
    if failed:
        st.header("What failed", anchor=False)
        listing(table("completeness", study))
    newest = rows(
        """
        SELECT image.id AS image, image.file, image.prompt, image.seed
        FROM image JOIN (SELECT DISTINCT image FROM cell_image WHERE study = ?) mine ON mine.image = image.id
        WHERE image.status = 'ok' AND image.file IS NOT NULL ORDER BY image.rowid DESC LIMIT 12
        """,
        [study],
    )
    st.header("The newest twelve", anchor=False)
    gallery(newest, study, [f"seed {seed}" for seed in newest["seed"]], "live")
    if len(last):
        run = last.iloc[0]
        st.caption(f"Run {run['id']} on {run['platform']}, python {run['python']}, promptlab {run['promptlab']}.")


follow(frame.study)
