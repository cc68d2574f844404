"""Passports: how well each probe does on pictures whose truth is known."""

from __future__ import annotations

import streamlit as st

from frame import begin, table
from listing import listing

begin("Passports", "How far can I trust this probe?", needs_study=False)
found = table("passports")
st.caption(
    "Measured on drawn pictures with known faults (T0). Sensitivity: how many faults it sees; specificity: how many "
    "right pictures it leaves alone; Youden's J is their sum less 1. Below 0.5 a probe corrects no rate. AUC: how well "
    "its number sorts right from wrong."
)
if not len(found):
    st.info("No probe has a passport here yet.")
    st.code("promptlab passport binding", language=None)
    st.stop()
columns = ["sensitivity", "sensitivity_low", "sensitivity_high", "specificity", "specificity_low", "specificity_high"]
listing(
    found[["probe", "kind", "youden", "auc", *columns, "n"]],
    {"auc": "AUC"},
    youden=st.column_config.ProgressColumn("Youden's J", format="%.2f", min_value=0, max_value=1),
)
weak = found[found["youden"] < 0.5]
for row in weak.itertuples():
    st.text(f"{row.probe} on {row.kind}: J {row.youden:.2f}, too weak to correct a rate.")
