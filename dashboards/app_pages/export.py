"""Export: take the numbers along, safe for spreadsheets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode, urlsplit

import pandas as pd
import streamlit as st

from frame import begin, table
from promptlab.exchange.a1111_comfyui import plot_lines
from promptlab.exchange.export import csv_text, plot_axes
from promptlab.results import load

frame = begin("Export", "How do I hand this on?")


def report() -> bytes:
    """The report of the study, made when it is asked for."""
    from promptlab.results.report import report_html

    return report_html(frame.store, frame.study).encode("utf-8")


def csv(made: Callable[[], pd.DataFrame]) -> bytes:
    """A CSV in which no cell is a formula, made when it is asked for."""
    return csv_text(made()).encode("utf-8", "replace")


with st.container(border=True):
    st.header("A report", anchor=False)
    st.caption("One HTML file to mail: question, answer with intervals, pictures right and wrong, methods.")
    st.download_button(
        "Download the report",
        report,
        f"{frame.study}.html",
        "text/html",
        key="report",
        shortcut="d",
        help="key: d",
    )
with st.container(border=True):
    st.header("A link", anchor=False)
    st.caption(
        "The address of every page holds its study and its filters: copy it from the browser. This dashboard answers "
        "on this machine alone; on another with the same store the part behind the host shows the same."
    )
    here = urlsplit(st.context.url or "http://127.0.0.1:8501")
    st.code(f"{here.scheme}://{here.netloc}/winning?{urlencode({'study': frame.study})}", language=None)
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
        st.header(what, anchor=False)
        st.caption("CSV in UTF-8, made when it is asked for; at most 100,000 rows")
        st.download_button("Download", partial(csv, made), f"{frame.study}_{name}.csv", "text/csv", key=name)
st.header("Whole tables", anchor=False)
st.caption("Parquet with every column, and a CSV without formulas, by command:")
st.code(f"promptlab export {frame.study} --to exported", language=None)
st.header("X/Y/Z plot of A1111", anchor=False)
block = "\n".join(f"{kind}: {values}" for kind, values in plot_lines(plot_axes(load(frame.study))))
st.code(block or "This study varies no setting that an X/Y/Z plot has.", language=None)
st.caption("Of the winning prompt, with its settings: A1111's text with this plot, or a graph of ComfyUI:")
st.code(
    f"promptlab export {frame.study} --as a1111 --to exported\n"
    f"promptlab export {frame.study} --as comfyui --to exported",
    language=None,
)
st.header("In a notebook", anchor=False)
st.code(
    f'from promptlab.store import Store\n\nStore().query("SELECT * FROM scored WHERE study = ?", [{frame.study!r}])',
    language="python",
)
