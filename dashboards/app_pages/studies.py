"""Studies: what is there, how far it is, and the newest pictures."""

from __future__ import annotations

import streamlit as st

from frame import begin, how_to, rows, studies
from gallery import gallery

frame = begin("Studies", "What have I got, and is it finished?")
known = studies()
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
one = frame.facts
question = rows("SELECT text FROM study WHERE name = ?", [frame.study])["text"]
with st.container(border=True):
    st.header("The study chosen at the left", anchor=False)
    st.text(frame.study)
    left, middle, right = st.columns(3)
    left.metric("pictures that count", f"{int(one['ok']):,} of {int(one['planned']):,}")
    middle.metric("failed", f"{int(one['failed']):,}")
    right.metric("not made yet", f"{int(one['missing']):,}")
    if one["missing"]:
        st.caption("Make what is missing, or go on after a crash, with the same command:")
        how_to("run", frame.study)
    with st.expander("The study as it was written"):
        st.code(question.iloc[0] if len(question) and question.iloc[0] else "(made in Python)", language="yaml")

st.header("Newest pictures", anchor=False)
newest = rows(
    """
    SELECT image.id AS image, image.file, image.prompt, image.seed, image.guidance_scale
    FROM image JOIN (SELECT DISTINCT image FROM cell_image WHERE study = ?) mine ON mine.image = image.id
    WHERE image.status = 'ok' AND image.file IS NOT NULL ORDER BY image.rowid DESC LIMIT 12
    """,
    [frame.study],
)
gallery(newest, frame.study, [str(prompt) for prompt in newest["prompt"]], "newest")
