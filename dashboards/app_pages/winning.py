"""Winning prompts: wordings ranked with intervals, and the paired difference to the best one."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from charts import BLUE, PICTURES, drawn, shown, with_table
from frame import (
    ALL,
    axes_of_kind,
    begin,
    choose_family,
    for_program,
    how_to,
    measures_of,
    part,
    ranked,
    rows,
    table,
    won,
    wordings,
)
from gallery import gallery
from listing import listing, worded


@drawn
def ranks(wordings: pd.DataFrame, measure: str) -> alt.LayerChart:
    """A row for each wording, its mean with the interval."""
    y = alt.Y("level:N", sort=None, title=None, axis=alt.Axis(labelLimit=420))
    x = alt.X("mean:Q", title=worded(measure), scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=8))
    tooltip = [alt.Tooltip("level:N"), alt.Tooltip("mean:Q", format=".3f"), PICTURES]
    chart = alt.Chart()
    points = chart.mark_point(filled=True, size=90, color=BLUE, opacity=1).encode(y=y, x=x, tooltip=tooltip)
    bars = chart.mark_rule(color=BLUE, strokeWidth=2).encode(y=y, x=alt.X("low:Q"), x2=alt.X2("high:Q"))
    return alt.layer(bars, points, data=wordings).properties(height=alt.Step(28))


frame = begin("Winning prompts", "Which wording should I use?")
measures = measures_of(frame.study)
if not measures:
    st.info("No picture of this study is measured yet.")
    how_to("score", frame.study)
    st.stop()
PROMPT = "the whole prompt"


@part
def ranking_of(study: str, tier: str, measures: list[str]) -> None:
    """Wordings ranked, and the first to copy."""
    left, middle, right = st.columns(3)
    default = next((i for i, name in enumerate(measures) if name in ("accuracy", "correct")), 0)
    measure = left.selectbox("Rank by", measures, index=default, key="measure", bind="query-params")
    first = axes_of_kind(study, "order", "position", "ladder")
    axes = sorted(wordings(study), key=lambda axis: axis not in first)

    def wordings_of_it() -> None:
        """Of one family its whole wordings are compared, of all an axis."""
        st.session_state["axis"] = PROMPT if st.session_state["family"] != ALL else (axes or [PROMPT])[0]

    family = choose_family(right, study, wordings_of_it, "One family: the wordings of that prompt alone.")
    choices = [PROMPT, *axes] if family else [*axes, PROMPT]
    axis = middle.selectbox("Compare levels of", choices, format_func=worded, key="axis", bind="query-params")
    wordings_ranked = ranked(study, measure, None if axis == PROMPT else axis, family)
    if not len(wordings_ranked):
        st.info("This measure has no value for these wordings.")
        return
    meanings = rows("SELECT * FROM measure")
    meaning = meanings[meanings["name"] == measure]
    better = meaning["higher_is_better"].iloc[0] if len(meaning) else None
    unit = str(meaning["unit"].iloc[0] or "") if len(meaning) else ""
    way = "" if pd.isna(better) else ", higher is better" if better else ", lower is better"
    st.text(f"{measure}: {meaning['description'].iloc[0] if len(meaning) else ''} ({unit or 'no unit'}{way})")
    over = "the seeds of one prompt, so they are wide and say nothing of other prompts" if axis == PROMPT else "prompts"
    st.caption(f"{tier}. Intervals are 95 %, over {over}.")
    best = wordings_ranked.iloc[0]
    picture = rows("SELECT id AS image, file, prompt, seed FROM image WHERE id = ?", [best["best_image"]])
    with st.container(border=True):
        st.header("In the lead", anchor=False)
        seen, told = st.columns([1, 4], vertical_alignment="center")
        with seen:
            gallery(picture, study, ["its best picture"], "best")
        with told:
            st.code(str(best["level"]), language=None, wrap_lines=True)
            st.text(f"{worded(measure)} {shown(best['mean'], best['low'], best['high'])}, {best['n']} pictures")
            if len(wordings_ranked) > 1:
                next_ = wordings_ranked.iloc[1]
                if pd.notna(next_["behind"]):
                    sure = next_["behind_low"] > 0 or next_["behind_high"] < 0
                    words = "beats" if sure else "is not shown to beat"
                    gap = shown(next_["behind"], next_["behind_low"], next_["behind_high"])
                    st.text(f"It {words} the next by {gap}, paired.")
    compared = wordings_ranked.drop(columns="best_image")
    with_table(ranks(compared.head(30), measure), compared, f"{measure} of each wording with 95 % intervals")

    st.header("Copy it", anchor=False)
    winner = won(study, measure, None if axis == PROMPT else axis, family)
    recipe = winner.recipe
    st.caption("Its best picture's recipe; at other seeds it does as the mean says.")
    tabs = st.tabs(["Prompt", "A1111", "ComfyUI", "YAML"], key="as", bind="query-params")
    tabs[0].code(recipe["prompt"], language=None, wrap_lines=True)
    for tab, program in ((tabs[1], "a1111"), (tabs[2], "comfyui")):
        if tab.open:
            text, unsaid = for_program(winner, program)
            if text:
                tab.code(text, language=None)
            for one in unsaid:
                tab.text(one)
    settings = f"settings: {{guidance_scale: {recipe.get('guidance_scale')}}}"
    tabs[3].code(f"prompt: {{template: {str(recipe['prompt'])!r}}}\n{settings}", language="yaml")


ranking_of(frame.study, frame.tier, measures)
found = table("effects", frame.study)
if len(found):
    st.header("What was settled before the run", anchor=False)
    st.caption("The study's contrasts, over prompts; p adjusted by Holm where a contrast is confirmatory.")
    columns = [
        "contrast",
        "measure",
        "target",
        "estimate",
        "low",
        "high",
        "p_adjusted",
        "n_groups",
        "n_pairs",
        "reason",
    ]
    listing(found[columns])
