"""Grid: pictures of any two axes, at one prompt family and one seed, so that only what is named differs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from frame import begin, families, rows, wordings
from gallery import matrix, picture_html
from listing import worded

frame = begin("Grid", "What does each axis do to the picture?")
levels = rows(
    """
    SELECT axis, level, min(level_position) AS place, count(DISTINCT cell_id) AS cells FROM level
    JOIN cell ON cell.study = level.study AND cell.id = level.cell_id AND cell.current
    WHERE level.study = ? GROUP BY ALL ORDER BY axis, place
    """,
    [frame.study],
)
axes = wordings(frame.study)
NONE = "(seed)"


def named(axis: str) -> str:
    """An axis in words; seeds stand beside the axes."""
    return "seed" if axis == NONE else worded(axis)


left, middle, right = st.columns([2, 2, 3])
axes.sort(key=lambda axis: axis != "guidance_scale")  # what people vary most stands across
across = left.selectbox("Across", [*axes, NONE], format_func=named, key="x", bind="query-params")
others = [axis for axis in [*axes, NONE] if axis != across]
down = middle.selectbox("Down", others, format_func=named, key="y", bind="query-params")
names = families(frame.study)
family = right.selectbox(
    "Prompt family", list(names), format_func=lambda group: names.get(group, group), key="family", bind="query-params"
)
cells = rows(
    """
    SELECT cell.id AS cell, cell.prompt, cell.position, cell_image.seed, image.id AS image, image.file, image.status,
        level.axis, level.level
    FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
    LEFT JOIN image ON image.id = cell_image.image
    LEFT JOIN level ON level.study = cell.study AND level.cell_id = cell.id
    WHERE cell.study = ? AND cell.current AND cell.prompt_group = ? ORDER BY cell.position, cell_image.seed
    """,
    [frame.study, family],
)
place = ["cell", "seed"]
apart = cells.dropna(subset="axis").pivot(index=place, columns="axis", values="level").reset_index()
wide = cells.drop(columns=["axis", "level"]).drop_duplicates(place).merge(apart, how="left", on=place)
wide = wide[wide["image"].notna() & wide["status"].notna()].sort_values(["position", "seed"])
wide[NONE] = "seed " + wide["seed"].astype(str)
fixed = [axis for axis in [*axes, NONE] if axis not in (across, down)]
for axis, column in zip(fixed, st.columns(max(1, len(fixed))), strict=False):
    there = list(dict.fromkeys(wide[axis].dropna()))
    label = f"at {named(axis)}"
    chosen = column.selectbox(label, there, key=label.replace(" ", "_"), bind="query-params") if there else None
    if chosen is not None:
        wide = wide[wide[axis] == chosen]
measures = rows(
    "SELECT DISTINCT measure FROM measured WHERE study = ? AND with_value + with_label > 0 ORDER BY measure",
    [frame.study],
)["measure"].tolist()
default = measures.index("correct") if "correct" in measures else 0
measure = None
if measures:
    measure = st.selectbox("Say below each picture", measures, index=default, key="measure", bind="query-params")
said = rows(
    """
    SELECT cell_id AS cell, seed, coalesce(any_value(label), format('{:.3g}', avg(value)), any_value(reason)) AS said
    FROM scored WHERE study = ? AND prompt_group = ? AND measure = ? GROUP BY ALL
    """,
    [frame.study, family, measure or ""],
)
wide = wide.merge(said, how="left", on=["cell", "seed"]) if len(wide) else wide.assign(said=pd.Series(dtype=str))
order = {axis: part["level"].tolist() for axis, part in levels.groupby("axis")}
order[NONE] = list(dict.fromkeys(wide[NONE])) if len(wide) else []
across_levels = [level for level in order[across] if level in set(wide[across])]
down_levels = [level for level in order[down] if level in set(wide[down])]
if not len(wide):
    st.info("No picture is there for this choice yet.")
else:
    html = {}
    for row, key in zip(wide.itertuples(), zip(wide[across], wide[down], strict=True), strict=True):
        html.setdefault(key, picture_html(row, frame.study, "" if pd.isna(row.said) else str(row.said), "medium"))
    st.caption(
        f"{len(html)} pictures, {frame.tier}. The same seed is the same initial noise. A picture leads to its page."
    )
    matrix(html, across_levels, down_levels, f"{named(down)} / {named(across)}")
    prompts = list(dict.fromkeys(wide["prompt"]))
    with st.expander(f"The {len(prompts)} prompts of this grid"):
        for prompt in prompts:
            st.text(prompt)
