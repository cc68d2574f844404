"""Blind rating: two images of one prompt at one seed, settings and scores hidden; people compared with probes."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from charts import BLUE, vega_lite, with_table
from page import begin, cached
from promptlab.exchange.ratings import Choice, agreement_with_measures, choices, next_pair, remember
from promptlab.results import pages


@vega_lite
def agreement(measures: pd.DataFrame) -> alt.LayerChart:
    """How often each measure prefers what people chose, with the interval."""
    base = alt.Chart().encode(y=alt.Y("measure:N", sort="-x", title=None))
    x = alt.X(
        "low:Q",
        scale=alt.Scale(domain=[0, 1]),
        title="share of choices",
        axis=alt.Axis(format="%", tickCount=5),
    )
    bars = base.mark_rule(strokeWidth=2, color=BLUE).encode(x=x, x2=alt.X2("high:Q"))
    points = base.mark_point(filled=True, size=80, opacity=1, color=BLUE).encode(
        x=alt.X("agree:Q"),
        tooltip=[alt.Tooltip("measure:N"), alt.Tooltip("agree:Q", format=".0%"), alt.Tooltip("n:Q", title="choices")],
    )
    return alt.layer(bars, points, data=measures).properties(height=alt.Step(24))


page = begin("Blind rating", "Do people agree with the probes?")
home = page.store.home
made = choices(home, page.study)
pair = next_pair(page.store, page.study, made)
rater = st.sidebar.text_input("Your name", key="rater", max_chars=40, help="Kept with your choices; may stay empty.")
st.caption("Which fits the prompt better? Settings and scores are hidden. Keys: 1 left, 2 right, 0 no difference.")
if pair is None:
    st.info("Every pair of this study is rated, or it has no two pictures of one prompt at one seed.")
    st.code("promptlab run studies/guidance.yaml", language=None)
else:
    a, b, prompt = pair
    st.code(prompt, language=None, wrap_lines=True)
    files = cached(pages.image_files, (a, b))
    left, right = st.columns(2)
    for column, image, name in ((left, a, "left"), (right, b, "right")):
        source = f"/pictures/whole/{files[image]}"
        column.html(
            f'<img src="{source}" alt="the {name} picture" style="width: 100%; max-width: 420px; border-radius: 8px">'
        )

    def choose(chosen: str) -> None:
        """Keep a choice."""
        remember(home, Choice(page.study, a, b, chosen, st.session_state.get("rater") or ""))  # type: ignore[arg-type]

    one, two, none = st.columns(3)
    one.button("Left is better", shortcut="1", help="key: 1", on_click=choose, args=("a",), width="stretch")
    two.button("Right is better", shortcut="2", help="key: 2", on_click=choose, args=("b",), width="stretch")
    none.button("No difference", shortcut="0", help="a tie; key: 0", on_click=choose, args=("tie",), width="stretch")
ties = sum(one.chosen == "tie" for one in made)
count = "1 choice" if len(made) == 1 else f"{len(made)} choices"
st.text(f"{count}, {ties} of them no difference; {page.tier}")
found = agreement_with_measures(page.store, page.study, made)
if len(found):
    st.header("How often a measure prefers what people chose", anchor=False)
    st.caption("Half is chance. 95 % intervals over choices: they speak of these raters and these pictures.")
    with_table(agreement(found), found, "agreement of each measure with the choices")
