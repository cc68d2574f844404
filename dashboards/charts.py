"""Charts with intervals, each beside a table that says the same. Colours are those of Okabe and Ito (2008)."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

__all__ = ["OUTCOME_COLOURS", "by_level", "outcomes", "percent", "shown", "with_table"]

OUTCOME_COLOURS = {
    "correct": "#009E73",
    "swap": "#D55E00",
    "leak": "#E69F00",
    "other": "#CC79A7",
    "neglect": "#56B4E9",
    "fused": "#8A8A8A",
}
BLUE = "#2E8BC0"
OUTCOME_MEANINGS = {
    "correct": "every object is there in its own colour",
    "swap": "both are there, their colours exchanged",
    "leak": "one has the other's colour",
    "other": "one has a colour that was not asked for",
    "neglect": "an object is missing",
    "fused": "two objects grew into one",
}


def percent(value: float | None) -> str:
    """A share in words: 27 %."""
    return "not known" if value is None or pd.isna(value) else f"{value:.0%}".replace("%", " %")


def shown(estimate: float | None, low: float | None, high: float | None, unit: str = "") -> str:
    """An estimate with its interval: 0.27 [0.18, 0.37]."""
    if estimate is None or pd.isna(estimate):
        return "not known"
    number = f"{estimate:+.2f}" if unit == "+" else f"{estimate:.3g}"
    return number if low is None or pd.isna(low) else f"{number} [{low:.3g}, {high:.3g}]"


def with_table(chart: Any, frame: pd.DataFrame, alt_text: str, **columns: Any) -> None:
    """A chart, and below it the same numbers as a table."""
    st.altair_chart(chart, width="stretch", alt=alt_text)
    with st.expander("The same as a table"):
        st.dataframe(frame, hide_index=True, width="stretch", column_config=columns or None)


def by_level(frame: pd.DataFrame, axis: str, measure: str, *, bounds: tuple[Any, Any] = (None, None)) -> Any:
    """Mean and 95 % interval by level; a line where the levels are numbers. Columns level, mean, low, high, n."""
    data = frame.copy()
    numbers = pd.to_numeric(data["level"], errors="coerce")
    numeric = bool(numbers.notna().all())
    data["level"] = numbers if numeric else data["level"]
    low, high = bounds
    scale = alt.Scale(domain=[low, high]) if low is not None and high is not None else alt.Scale(zero=False)
    x = (
        alt.X("level:Q", title=axis)
        if numeric
        else alt.X("level:N", title=axis, sort=None, axis=alt.Axis(labelAngle=0))
    )
    tooltip = [
        alt.Tooltip(f"{name}:{kind}", format=".3f") for name, kind in (("mean", "Q"), ("low", "Q"), ("high", "Q"))
    ]
    tooltip = [alt.Tooltip("level"), *tooltip, *(alt.Tooltip(c) for c in ("n", "n_prompts") if c in data)]
    base = alt.Chart(data).encode(x=x, tooltip=tooltip)
    y = alt.Y("mean:Q", title=measure, scale=scale)
    points = base.mark_point(filled=True, size=90, color=BLUE, opacity=1).encode(y=y)
    bars = base.mark_rule(color=BLUE, strokeWidth=2).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    layers = [bars, points]
    if numeric:
        layers.insert(0, base.mark_line(color=BLUE, opacity=0.5).encode(y=y))
    return alt.layer(*layers).properties(height=320)


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
    shares = alt.X("share:Q", title="share of pictures", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    formats = {"share": ".0%", "low": ".0%", "high": ".0%"}
    tooltip = [alt.Tooltip("level"), alt.Tooltip("outcome")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=form) for name, form in formats.items()]
    base = alt.Chart(data).encode(y=alt.Y("level:N", title=axis, sort=None), order="place:Q")
    bars = base.mark_bar(height=34).encode(x=shares, color=colour, tooltip=[*tooltip, alt.Tooltip("n")])
    return bars.properties(height=alt.Step(46))
