"""Export: take the numbers along, safe for spreadsheets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st
from frame import begin, rows, table

from promptlab.export import safe_text

frame = begin("Export", "How do I hand this on?")


def csv(made: Callable[[], pd.DataFrame]) -> bytes:
    """A CSV in which no cell is a formula."""
    return made().map(safe_text).to_csv(index=False).encode("utf-8", "replace")


OUTCOMES = """
    SELECT study, prompt, seed, guidance_scale, num_inference_steps, outcome, tier, image, file FROM outcomes
    WHERE study = ? AND measure = 'correct' ORDER BY prompt, seed LIMIT 100000
    """
MEANS = """
    SELECT cell_id, prompt, model, tier, guidance_scale, num_inference_steps, measure, target, avg(value) AS mean,
        count(value) AS n FROM scored WHERE study = ? AND status = 'ok' GROUP BY ALL ORDER BY ALL LIMIT 100000
    """
for what, made, name in (
    ("Mean of every measure in every cell", partial(frame.store.query, MEANS, [frame.study]), "means"),
    ("Outcome of every picture", partial(frame.store.query, OUTCOMES, [frame.study]), "outcomes"),
    ("Contrasts with intervals", partial(table, "effects", frame.study), "effects"),
):
    with st.container(border=True):
        st.subheader(what, anchor=False)
        st.caption("CSV in UTF-8, made when it is asked for; at most 100,000 rows")
        st.download_button("Download", partial(csv, made), f"{frame.study}_{name}.csv", "text/csv", key=name)
st.subheader("Whole tables", anchor=False)
st.caption("Parquet with every column, and a CSV without formulas, by command:")
st.code(f"promptlab export {frame.study} --to exported", language="bash")
st.subheader("X/Y/Z plot of A1111", anchor=False)
levels = rows(
    """
    SELECT axis, list(level ORDER BY place) AS levels FROM (
        SELECT axis, level, min(level_position) AS place FROM level WHERE study = ? GROUP BY ALL)
    GROUP BY axis HAVING count(*) > 1 ORDER BY axis
    """,
    [frame.study],
)
names = {"guidance_scale": "CFG Scale", "num_inference_steps": "Steps", "scheduler": "Sampler", "seed": "Seed"}
block = "\n".join(f"{names[r.axis]}: {', '.join(r.levels)}" for r in levels.itertuples() if r.axis in names)
st.code(block or "This study varies no setting that an X/Y/Z plot has.", language=None)
st.subheader("In a notebook", anchor=False)
st.code(
    f'from promptlab.store import Store\n\nStore().query("SELECT * FROM scored WHERE study = ?", [{frame.study!r}])',
    language="python",
)
