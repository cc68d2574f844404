"""Bleeding map: which colour, requested for one object, leaked to which other object; and the images of it."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from charts import BLUE, ORANGE, as_table, vega_lite, with_table
from gallery import gallery
from page import begin, cached, fragment
from promptlab.results.leakage import leakages, leaked_pictures

PLACES = {"other": "on the other alone", "both": "on both"}
"""In words, which object has the requested colour: the column `went` of `leaked_pictures`."""


@vega_lite
def by_colour(found: pd.DataFrame) -> alt.LayerChart:
    """A row for each colour: its leaked share with the interval, and what was expected."""
    base = alt.Chart()
    y = alt.Y("attribute:N", sort=None, title="colour asked of one object")
    title = "share of pictures where the other object has it"
    x = alt.X("leaked:Q", title=title, axis=alt.Axis(format="%", tickCount=6))
    shares = [alt.Tooltip(f"{name}:Q", format=".0%") for name in ("leaked", "low", "high", "expected")]
    tooltip = [alt.Tooltip("attribute:N"), *shares, alt.Tooltip("n:Q")]
    bars = base.mark_rule(color=BLUE, strokeWidth=2).encode(y=y, x=alt.X("low:Q"), x2=alt.X2("high:Q"))
    points = base.mark_point(filled=True, size=90, color=BLUE, opacity=1).encode(y=y, x=x, tooltip=tooltip)
    ticks = base.mark_tick(color=ORANGE, thickness=3).encode(y=y, x=alt.X("expected:Q"), tooltip=tooltip)
    return alt.layer(bars, points, ticks, data=found).properties(height=alt.Step(26))


@vega_lite
def colour_map(pairs: pd.DataFrame) -> alt.LayerChart:
    """A cell for each colour and each other object; one that is clicked becomes the selection "cell"."""
    pick = alt.selection_point(name="cell", fields=["attribute", "other"])
    heat = alt.Chart().encode(
        x=alt.X("other:N", title="the other object", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("attribute:N", title="colour asked of one object"),
    )
    named = [alt.Tooltip("attribute:N"), alt.Tooltip("other:N")]
    colour = alt.Color(
        "leaked:Q",
        scale=alt.Scale(scheme="cividis", domain=[0, 1]),
        legend=alt.Legend(format="%", title="leaked", tickCount=5),
    )
    boxes = heat.mark_rect(stroke="gray", strokeWidth=0.3).encode(
        color=colour,
        opacity=alt.condition(pick, alt.value(1), alt.value(0.45)),
        tooltip=[*named, alt.Tooltip("leaked:Q", format=".0%"), *(alt.Tooltip(f"{c}:Q") for c in ("n", "n_prompts"))],
    )
    numbers = heat.mark_text(fontSize=11).encode(
        text=alt.Text("leaked:Q", format=".0%"),
        color=alt.condition("datum.leaked > 0.55", alt.value("black"), alt.value("white")),
    )
    return alt.layer(boxes.add_params(pick), numbers, data=pairs).properties(height=alt.Step(30))


page = begin("Bleeding map", "Which colour leaks, and to what?")
leakage = cached(leakages, page.study)
found = leakage["attribute"]
if not len(found):
    st.info("No picture of this study has two objects whose colours a probe could tell. This study has many:")
    st.code("promptlab run studies/attribute_binding.yaml", language=None)
    st.stop()
whole = leakage[None].iloc[0]
st.caption(
    f"Pictures in which both objects were found, {page.tier}. Leaked: the other object has the "
    "colour that was asked of this one. Expected: how often a thing shows that colour where nobody asked for it. "
    "What the background took is not known."
)
columns = st.columns(4)
columns[0].metric("kept by its own object", f"{whole['own']:.0%}")
columns[1].metric("on both", f"{whole['both']:.0%}")
columns[2].metric("on the other alone", f"{whole['elsewhere']:.0%}")
columns[3].metric("on neither", f"{whole['nowhere']:.0%}")
st.caption(
    f"Of {int(whole['n']):,} requested colours in {int(whole['n_prompts'])} prompt families, {whole['leaked']:.0%} "
    f"leaked [{whole['low']:.0%}, {whole['high']:.0%}]; {whole['expected']:.0%} were expected."
)
st.header("By colour", anchor=False)
with_table(by_colour(found), found, "leaked share by colour with 95 % intervals and what was expected")
st.caption("Blue: measured, with its 95 % interval over prompts. Orange: expected without any leak.")

st.header("Colour by colour, noun by noun", anchor=False)
pairs = leakage["pair"]
few = 4
shown = pairs[pairs["n"] >= few]
st.caption(
    f"Choose a cell to see its pictures. Cells of fewer than {few} pictures are left out. "
    "A cell of few pictures is only a hint."
)


def from_the_map() -> None:
    """A cell that was clicked becomes the choice below; one that is clicked again takes it back."""
    cell = (st.session_state["heat"].get("selection", {}).get("cell") or [{}])[0]
    if cell:
        st.session_state["colour"], st.session_state["other"] = cell["attribute"], cell["other"]


st.vega_lite_chart(
    spec=colour_map(shown),
    on_select=from_the_map,
    selection_mode="cell",
    key="heat",
    alt="share of pictures in which the other object took the colour",
)
as_table(pairs, "pairs", {"other": "the other object"})


@fragment
def worst_of(study: str) -> None:
    """The pictures of a colour, or of a cell of the map."""
    st.header("Where it went wrong, the worst first", anchor=False)
    left, right = st.columns(2)
    colours = [str(name) for name in found.sort_values(["leaked", "n"], ascending=False)["attribute"]]
    attribute = left.selectbox(
        "Colour asked of one object",
        colours,
        key="colour",
        bind="query-params",
        help="The colour that leaks most is first.",
    )
    any_ = "any object"
    nouns = sorted(str(name) for name in pairs[pairs["attribute"] == attribute]["other"].unique())
    if st.session_state.get("other") not in (None, any_, *nouns):  # chosen for another colour
        st.session_state["other"] = any_
    other = right.selectbox("The other object, which has it", [any_, *nouns], key="other", bind="query-params")
    worst = cached(leaked_pictures, study, attribute, None if other == any_ else other)
    st.text(
        f"Asked {attribute} of one object, and {other if other == any_ else 'the ' + other} beside it has it: "
        f"{len(worst)} pictures. First those where it is on the other alone, then those where it is on both."
    )
    captions = [
        f"{prompt}: {PLACES.get(place, place)}" for prompt, place in zip(worst["prompt"], worst["went"], strict=True)
    ]
    if captions:
        gallery(worst, study, captions, "worst")


worst_of(page.study)
