"""Claims: sentences about prompting that everybody repeats, each with its verdict, its figure and what it rests on."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from charts import shown
from frame import begin, table
from listing import listing
from promptlab.results.words import TIERS
from promptlab.store.home import find_home


def rests_on(claim: Any) -> dict[str, list[str]]:
    """What a claim's verdict rests on: columns what and value."""
    told = {k: claim.detail.get(k) for k in ("design", "size", "expects", "margin", "unit", "source", "comparator")}
    told |= {
        "measure": claim.measure,
        "p after Holm": claim.p_adjusted,
        "units": claim.n_groups,
        "pairs": claim.n_pairs,
    }
    told = {k: str(v) for k, v in told.items() if v is not None and v == v and v != ""}
    if claim.reason:
        told["beware"] = claim.reason
    return {"what": list(told), "value": list(told.values())}


begin("Claims", "Is what everybody says about prompting true?", needs_study=False)
found = table("effects", "claims")
if not len(found):
    st.info("No claim was settled here yet. All of them take less than half an hour on a laptop:")
    st.code("promptlab claims", language=None)
    st.stop()
ICONS = {"supported": ":material/check_circle:", "partly": ":material/contrast:", "contradicted": ":material/cancel:"}
COLOURS = {"supported": "green", "partly": "orange", "contradicted": "red", "not testable here": "gray"}
details = [json.loads(detail) for detail in found["detail"]]
found["claim"] = [detail["claim"] for detail in details]
found["unit"] = [detail["unit"] for detail in details]
found["place"] = found["contrast"].str.extract(r"(\d+)", expand=False).astype(int)
found = found.assign(detail=details).sort_values(["place", "contrast"])
st.caption(
    "Each had one endpoint, one margin and one test, written before its run; Holm over the set. Tier T1: "
    f"{TIERS['T1']}. They show what is true of a small world that is known."
)
counts = found["verdict"].value_counts()
for column, name in zip(st.columns(4), COLOURS, strict=True):
    column.metric(name, int(counts.get(name, 0)))
wanted = st.pills(
    "Show", list(COLOURS), default=list(COLOURS), selection_mode="multi", key="verdicts", bind="query-params"
)
for row in found.itertuples():
    if row.verdict not in (wanted or list(COLOURS)):
        continue
    with st.container(border=True):
        figure = find_home().path / "claims" / f"{row.contrast}.svg"
        if figure.is_file():
            st.image(figure.read_text("utf-8"), width="stretch", alt=f"{row.contrast}: {row.claim}. {row.verdict}")
        else:
            left, right = st.columns([3, 1])
            left.text(f"{row.contrast}. {row.claim}")
            right.badge(row.verdict, icon=ICONS.get(row.verdict), color=COLOURS.get(row.verdict, "gray"))
            if pd.notna(row.estimate):
                st.text(
                    f"{shown(row.estimate, row.low, row.high)} {row.unit or ''}".rstrip() + f", {row.n_groups} units"
                )
        with st.expander("What it rests on", key=f"rests {row.contrast}", on_change="rerun") as box:
            if box.open:
                st.dataframe(rests_on(row), hide_index=True, width="stretch")
st.header("All of them", anchor=False)
listing(
    found[["contrast", "claim", "verdict", "estimate", "low", "high", "p_adjusted", "n_groups", "unit"]],
    {"contrast": "", "n_groups": "units"},
)
