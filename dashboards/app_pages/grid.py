"""Grid: images along any two axes, of one prompt family and one seed, so that nothing else differs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from gallery import matrix, picture_html
from page import begin, cached
from promptlab.results import pages
from tables import in_words

page = begin("Grid", "What does each axis do to the picture?")
levels = cached(pages.axis_levels, page.study)
axes = cached(pages.compared_axes, page.study)
NONE = "(seed)"


def named(axis: str) -> str:
    """An axis in words; seeds are chosen like an axis."""
    return "seed" if axis == NONE else in_words(axis)


left, middle, right = st.columns([2, 2, 3])
axes.sort(key=lambda axis: axis != "guidance_scale")  # what people vary most comes first
across = left.selectbox("Across", [*axes, NONE], format_func=named, key="x", bind="query-params")
others = [axis for axis in [*axes, NONE] if axis != across]
down = middle.selectbox("Down", others, format_func=named, key="y", bind="query-params")
names = cached(pages.prompt_families, page.study)
family = right.selectbox(
    "Prompt family", list(names), format_func=lambda group: names.get(group, group), key="family", bind="query-params"
)
cells = cached(pages.images_of_family, page.study, family)
place = ["cell", "seed"]
apart = cells.dropna(subset="axis").pivot(index=place, columns="axis", values="level").reset_index()
wide = cells.drop(columns=["axis", "level"]).drop_duplicates(place).merge(apart, how="left", on=place)
wide = wide[wide["image"].notna() & wide["status"].notna()].sort_values(["position", "seed"])
wide[NONE] = "seed " + wide["seed"].astype(str)
fixed = [axis for axis in [*axes, NONE] if axis not in (across, down)]
for axis, column in zip(fixed, st.columns(max(1, len(fixed))), strict=False):
    values = list(dict.fromkeys(wide[axis].dropna()))
    label = f"at {named(axis)}"
    chosen = column.selectbox(label, values, key=label.replace(" ", "_"), bind="query-params") if values else None
    if chosen is not None:
        wide = wide[wide[axis] == chosen]
measures = cached(pages.measure_names, page.study, with_labels=True)
default = measures.index("correct") if "correct" in measures else 0
measure = None
if measures:
    measure = st.selectbox("Caption", measures, index=default, key="measure", bind="query-params")
words = cached(pages.captions_of_family, page.study, family, measure or "")
captions = dict(zip(zip(words["cell"], words["seed"], strict=True), words["caption"], strict=True))
order = {axis: part["level"].tolist() for axis, part in levels.groupby("axis")}
order[NONE] = list(dict.fromkeys(wide[NONE])) if len(wide) else []
across_levels = [level for level in order[across] if level in set(wide[across])]
down_levels = [level for level in order[down] if level in set(wide[down])]
if not len(wide):
    st.info("No picture is there for this choice yet.")
else:
    html: dict[tuple[str, str], str] = {}
    row: Any
    for row, key in zip(wide.itertuples(), zip(wide[across], wide[down], strict=True), strict=True):
        caption = captions.get((row.cell, row.seed))
        html.setdefault(key, picture_html(row, page.study, "" if pd.isna(caption) else str(caption), "medium"))
    st.caption(
        f"{len(html)} pictures, {page.tier}. The same seed is the same initial noise. A picture leads to its page."
    )
    matrix(html, across_levels, down_levels, f"{named(down)} / {named(across)}")
    prompts = list(dict.fromkeys(wide["prompt"]))
    with st.expander(f"The {len(prompts)} prompts of this grid"):
        for prompt in prompts:
            st.text(prompt)
