"""Charts with intervals, each beside a table that says the same. Colours are those of Okabe and Ito (2008)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st
from altair.utils import schemapi

from listing import listing, worded
from promptlab.results.words import OUTCOME_COLOURS

__all__ = [
    "BLUE",
    "MEANINGS",
    "ORANGE",
    "OUTCOME_COLOURS",
    "PICTURES",
    "as_table",
    "by_level",
    "curves",
    "drawn",
    "empty",
    "outcomes",
    "shown",
    "with_table",
]

BLUE, ORANGE = "#2E8BC0", "#D55E00"
SERIES = (BLUE, "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#8A8A8A")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
FEW = alt.Axis(tickCount=6)
MEAN = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("mean", "low", "high")]
PICTURES = alt.Tooltip("n:Q", title="pictures")
MEANINGS = {
    "correct": "every object is there in its own colour",
    "swap": "both are there, their colours exchanged",
    "leak": "one has the other's colour",
    "other": "one has a colour that was not asked for",
    "neglect": "an object is missing",
    "fused": "two objects grew into one",
}


def shown(estimate: float | None, low: float | None, high: float | None, unit: str = "") -> str:
    """An estimate with its interval: 0.27 [0.18, 0.37]."""
    if estimate is None or pd.isna(estimate):
        return "not known"
    number = f"{estimate:+.2f}" if unit == "+" else f"{estimate:.3g}"
    return number if low is None or pd.isna(low) else f"{number} [{low:.3g}, {high:.3g}]"


def empty(frame: pd.DataFrame, measure: str) -> bool:
    """Whether there is nothing to draw; says so."""
    if not len(frame):
        st.info(f"No picture here has a value of {measure} yet.")
    return not len(frame)


alt.theme.enable("none")  # Streamlit has its own
alt.data_transformers.disable_max_rows()
Spec = dict[str, Any]
CONFIG = {"axisDiscrete": {"labelFlush": False}}
"""Streamlit pushes the first name of an axis beside its place, which suits numbers at the ends alone."""


def drawn(chart: Callable[..., Any]) -> Callable[..., Spec]:
    """The chart that a function makes, as Vega-Lite: once for the same numbers, since that costs as much as a query.

    Data given once, to the layers together, and a type named for every column take a third of the time.
    Held against Vega-Lite's schema unless Altair is told not to (`app.py`).
    """

    @st.cache_data(show_spinner=False, max_entries=40)
    @wraps(chart)
    def spec(*given: Any, **named: Any) -> Spec:
        made: Spec = chart(*given, **named).to_dict(validate=schemapi.DEBUG_MODE)
        return {**made, "config": CONFIG}

    return spec


def with_table(chart: Spec, frame: pd.DataFrame, alt_text: str, key: str = "") -> None:
    """A chart, and below it the same numbers as a table; `key` tells it from the others of the page."""
    st.vega_lite_chart(spec=chart, width="stretch", alt=alt_text)
    as_table(frame, key)


def as_table(frame: pd.DataFrame, key: str, names: Mapping[str, str] | None = None) -> None:
    """A table that is made when somebody opens it: a page of many charts is there sooner without."""
    with st.expander("The same as a table", key=f"table {key}", on_change="rerun") as box:
        if box.open:
            listing(frame, names)


def _levels(levels: pd.Series, axis: str) -> Any:
    """The horizontal axis of levels: a scale where they are numbers (whole ones in whole steps), else their names."""
    if pd.api.types.is_numeric_dtype(levels):
        whole = {"tickMinStep": 1} if (levels % 1 == 0).all() else {}
        return alt.X("level:Q", title=worded(axis), axis=alt.Axis(tickCount=10, **whole))
    return alt.X("level:N", title=worded(axis), sort=None, axis=alt.Axis(labelAngle=0, labelLimit=260))


@drawn
def curves(frame: pd.DataFrame, axis: str, split: str, measure: str, limits: pd.DataFrame | None = None) -> Any:
    """Mean and 95 % interval along `axis`, a line, a colour and a shape for each level of `split`.

    Columns part, level, mean, low, high, n. The first axis is a scale where its levels are numbers. `limits` as in
    `by_level`.
    """
    data = frame.copy()
    numbers = pd.to_numeric(data["level"], errors="coerce")
    numeric = bool(numbers.notna().all())
    data["level"] = numbers if numeric else data["level"]
    parts = list(dict.fromkeys(data["part"]))
    colour = alt.Color(
        "part:N",
        title=worded(split),
        sort=parts,
        scale=alt.Scale(domain=parts, range=[SERIES[i % len(SERIES)] for i in range(len(parts))]),
        legend=alt.Legend(orient="bottom"),
    )
    shape = alt.Shape(
        "part:N",
        title=worded(split),
        sort=parts,
        scale=alt.Scale(domain=parts, range=[SHAPES[i % len(SHAPES)] for i in range(len(parts))]),
    )
    tooltip = [alt.Tooltip("part:N", title=worded(split)), alt.Tooltip("level:N", title=worded(axis)), *MEAN]
    base = alt.Chart().encode(x=_levels(data["level"], axis), color=colour, tooltip=[*tooltip, PICTURES])
    y = alt.Y("mean:Q", title=worded(measure), scale=alt.Scale(zero=False), axis=FEW)
    lines = base.mark_line(opacity=0.6).encode(y=y)
    bars = base.mark_rule(strokeWidth=2, opacity=0.7).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    points = base.mark_point(filled=True, size=110, opacity=1).encode(y=y, shape=shape)
    return alt.layer(lines, bars, points, *_across(limits), data=data).properties(height=320)


@drawn
def by_level(frame: pd.DataFrame, axis: str, measure: str, limits: pd.DataFrame | None = None) -> Any:
    """Mean and 95 % interval by level; a line where the levels are numbers. Columns level, mean, low, high, n.

    `limits` (at, what) are lines across, each with its name.
    """
    data = frame.copy()
    numbers = pd.to_numeric(data["level"], errors="coerce")
    numeric = bool(numbers.notna().all())
    data["level"] = numbers if numeric else data["level"]
    scale = alt.Scale(zero=False)
    x = _levels(data["level"], axis)
    counts = [alt.Tooltip(f"{name}:Q") for name in ("n", "n_prompts") if name in data]
    base = alt.Chart().encode(x=x, tooltip=[alt.Tooltip("level:N"), *MEAN, *counts])
    y = alt.Y("mean:Q", title=worded(measure), scale=scale, axis=FEW)
    points = base.mark_point(filled=True, size=90, color=BLUE, opacity=1).encode(y=y)
    bars = base.mark_rule(color=BLUE, strokeWidth=2).encode(y=alt.Y("low:Q", scale=scale), y2=alt.Y2("high:Q"))
    layers = [bars, points]
    if numeric:
        layers.insert(0, base.mark_line(color=BLUE, opacity=0.5).encode(y=y))
    return alt.layer(*layers, *_across(limits), data=data).properties(height=320)


def _across(limits: pd.DataFrame | None) -> list[Any]:
    """A dashed line at each limit, and its name above it."""
    if limits is None:
        return []
    base = alt.Chart(limits).encode(x=alt.X("at:Q"), tooltip=alt.Tooltip("what:N", title="limit"))
    line = base.mark_rule(strokeDash=[4, 4], color=ORANGE, strokeWidth=2)
    name = base.mark_text(align="center", baseline="bottom", color=ORANGE, fontSize=12)
    return [line, name.encode(y=alt.value(-5), text=alt.Text("what:N"))]


@drawn
def outcomes(frame: pd.DataFrame, axis: str) -> Any:
    """Stacked shares of the outcomes, one bar a level. Columns level, outcome, share, low, high, n."""
    names = list(OUTCOME_COLOURS)
    data = frame[frame["outcome"].isin(names)].copy()
    data["level"] = data["level"].fillna("all")
    data["place"] = data["outcome"].map(names.index)
    colour = alt.Color(
        "outcome:N",
        sort=names,
        scale=alt.Scale(domain=names, range=list(OUTCOME_COLOURS.values())),
        legend=alt.Legend(orient="bottom", title=None),
    )
    shares = alt.X(
        "share:Q", title="share of pictures", axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(domain=[0, 1])
    )
    formats = {"share": ".0%", "low": ".0%", "high": ".0%"}
    tooltip = [alt.Tooltip("level:N"), alt.Tooltip("outcome:N")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=form) for name, form in formats.items()]
    base = alt.Chart(data).encode(y=alt.Y("level:N", title=worded(axis), sort=None), order=alt.Order("place:Q"))
    bars = base.mark_bar(height=34).encode(x=shares, color=colour, tooltip=[*tooltip, alt.Tooltip("n:Q")])
    return bars.properties(height=alt.Step(46))
