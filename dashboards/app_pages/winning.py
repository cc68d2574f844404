"""Winning prompts: wordings ranked with intervals, and the paired difference to the best one."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st
from charts import BLUE, shown, with_table
from frame import begin, measures_of, ranked, rows, table, wordings

frame = begin("Winning prompts", "Which wording should I use?")
measures = measures_of(frame.study)
if not measures:
    st.info("No picture of this study is measured yet.")
    st.code(f"promptlab score studies/{frame.study}.yaml", language="bash")
    st.stop()
left, right = st.columns(2)
default = next((i for i, name in enumerate(measures) if name in ("accuracy", "correct")), 0)
measure = left.selectbox("Rank by", measures, index=default, key="measure", bind="query-params")
axes = wordings(frame.study)
PROMPT = "the whole prompt"
axis = right.selectbox("Compare levels of", [*axes, PROMPT], key="axis", bind="query-params")
frame_ = ranked(frame.study, measure, None if axis == PROMPT else axis)
if not len(frame_):
    st.info("This measure has no value for these wordings.")
    st.stop()
meanings = rows("SELECT * FROM measure")
meaning = meanings[meanings["name"] == measure]
better = meaning["higher_is_better"].iloc[0] if len(meaning) else None
unit = str(meaning["unit"].iloc[0] or "") if len(meaning) else ""
st.caption(
    f"{measure}: {meaning['description'].iloc[0] if len(meaning) else ''}"
    f" ({unit or 'no unit'}{'' if pd.isna(better) else ', higher is better' if better else ', lower is better'}); "
    f"{frame.tier}. Intervals are 95 %, over "
    + ("the seeds of one prompt, so they are wide and say nothing of other prompts." if axis == PROMPT else "prompts.")
)
best = frame_.iloc[0]
with st.container(border=True):
    st.subheader("In the lead", anchor=False)
    st.code(str(best["level"]), language=None, wrap_lines=True)
    st.text(f"{measure} {shown(best['mean'], best['low'], best['high'])}, {best['n']} pictures")
    if len(frame_) > 1:
        next_ = frame_.iloc[1]
        if pd.notna(next_["behind"]):
            sure = next_["behind_low"] > 0 or next_["behind_high"] < 0
            words = "beats" if sure else "is not shown to beat"
            st.text(
                f"It {words} the next by {shown(next_['behind'], next_['behind_low'], next_['behind_high'])}, paired."
            )
chart = alt.Chart(frame_.head(30))
y = alt.Y("level:N", sort=None, title=None, axis=alt.Axis(labelLimit=420))
x = alt.X("mean:Q", title=measure, scale=alt.Scale(zero=False))
points = chart.mark_point(filled=True, size=90, color=BLUE, opacity=1).encode(y=y, x=x, tooltip=["level", "mean", "n"])
bars = chart.mark_rule(color=BLUE, strokeWidth=2).encode(y=y, x="low:Q", x2="high:Q")
with_table((bars + points).properties(height=alt.Step(28)), frame_, f"{measure} of each wording with 95 % intervals")

st.subheader("Copy it", anchor=False)
examples = rows(
    """
    SELECT DISTINCT ON (wording) CASE WHEN level.level IS NULL THEN cell.prompt ELSE level.level END AS wording,
        cell.prompt, cell.negative_prompt, cell.num_inference_steps AS steps, cell.guidance_scale AS cfg, cell.width,
        cell.height, cell.scheduler, cell.model FROM cell
    LEFT JOIN level ON level.study = cell.study AND level.cell_id = cell.id AND level.axis = ?
    WHERE cell.study = ? AND cell.current ORDER BY wording, cell.position
    """,
    [axis, frame.study],
)
example = examples[examples["wording"] == str(best["level"])]
if len(example):
    one = example.iloc[0]
    settings = ", ".join(
        f"{name}: {value}"
        for name, value in (
            ("Steps", one["steps"]),
            ("CFG scale", one["cfg"]),
            ("Size", f"{one['width']}x{one['height']}"),
            ("Model", one["model"]),
        )
        if pd.notna(value)
    )
    tabs = st.tabs(["Prompt", "A1111", "YAML"])
    tabs[0].code(one["prompt"], language=None, wrap_lines=True)
    tabs[1].code(f"{one['prompt']}\nNegative prompt: {one['negative_prompt'] or ''}\n{settings}", language=None)
    tabs[2].code(
        f"prompt: {{template: {str(one['prompt'])!r}}}\nsettings: {{guidance_scale: {one['cfg']}}}", language="yaml"
    )

found = table("effects", frame.study)
if len(found):
    st.subheader("What was settled before the run", anchor=False)
    st.caption("The study's contrasts, over prompts; p adjusted by Holm where a contrast is confirmatory.")
    st.dataframe(
        found[
            ["contrast", "measure", "target", "estimate", "low", "high", "p_adjusted", "n_groups", "n_pairs", "reason"]
        ],
        hide_index=True,
        width="stretch",
        column_config={
            c: st.column_config.NumberColumn(format="%.3g") for c in ("estimate", "low", "high", "p_adjusted")
        },
    )
