"""Export: take the numbers along, safe for spreadsheets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode, urlsplit

import pandas as pd
import streamlit as st

from page import begin, cached
from promptlab.exchange.a1111_comfyui import plot_lines
from promptlab.exchange.export import csv_text, plot_axes
from promptlab.results import load, pages
from promptlab.results.tables import effects

page = begin("Export", "How do I hand this on?")


def report() -> bytes:
    """The report of the study, made on request."""
    from promptlab.results.report import report_html

    return report_html(page.store, page.study).encode("utf-8")


def csv(read: Callable[[], pd.DataFrame]) -> bytes:
    """A CSV in which no cell is a formula, made on request."""
    return csv_text(read()).encode("utf-8", "replace")


with st.container(border=True):
    st.header("A report", anchor=False)
    st.caption("One HTML file to mail: question, answer with intervals, pictures right and wrong, methods.")
    st.download_button(
        "Download the report",
        report,
        f"{page.study}.html",
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
    address = urlsplit(st.context.url or "http://127.0.0.1:8501")
    st.code(f"{address.scheme}://{address.netloc}/ranking?{urlencode({'study': page.study})}", language=None)
for what, read, name in (
    ("Mean of every measure in every cell", partial(pages.exported_means, page.store, page.study), "means"),
    ("Outcome of every picture", partial(pages.exported_outcomes, page.store, page.study), "outcomes"),
    ("Contrasts with intervals", partial(cached, effects, page.study), "effects"),
):
    with st.container(border=True):
        st.header(what, anchor=False)
        st.caption("CSV in UTF-8, made on request; at most 100,000 rows")
        st.download_button("Download", partial(csv, read), f"{page.study}_{name}.csv", "text/csv", key=name)
st.header("Whole tables", anchor=False)
st.caption("Parquet with every column, and a CSV without formulas, by command:")
st.code(f"promptlab export {page.study} --to exported", language=None)
st.header("X/Y/Z plot of A1111", anchor=False)
block = "\n".join(f"{kind}: {values}" for kind, values in plot_lines(plot_axes(load(page.study))))
st.code(block or "This study varies no setting that an X/Y/Z plot has.", language=None)
st.caption("Of the winning prompt, with its settings: A1111's text with this plot, or a graph of ComfyUI:")
st.code(
    f"promptlab export {page.study} --as a1111 --to exported\npromptlab export {page.study} --as comfyui --to exported",
    language=None,
)
st.header("In a notebook", anchor=False)
st.code(
    f"import promptlab\n\npromptlab.load({page.study!r}).images()",
    language="python",
)
