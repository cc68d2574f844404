"""Passports: how well each probe does on pictures whose truth is known."""

from __future__ import annotations

import streamlit as st
from frame import begin, table

begin("Passports", "How far can I trust this probe?", needs_study=False)
found = table("passports")
st.caption(
    "Measured on drawn pictures with known faults (T0). Sensitivity: how many faults it sees; specificity: how many "
    "right pictures it leaves alone; Youden's J is their sum less 1. Below 0.5 a probe corrects no rate. AUC: how well "
    "its number sorts right from wrong."
)
if not len(found):
    st.info("No probe has a passport here yet.")
    st.code("promptlab passport binding", language="bash")
    st.stop()
columns = ["sensitivity", "sensitivity_low", "sensitivity_high", "specificity", "specificity_low", "specificity_high"]
st.dataframe(
    found[["probe", "family", "youden", "auc", *columns, "n"]],
    hide_index=True,
    width="stretch",
    column_config={
        "youden": st.column_config.ProgressColumn("Youden's J", format="%.2f", min_value=0, max_value=1),
        **{c: st.column_config.NumberColumn(c.replace("_", " "), format="%.3f") for c in columns},
        "auc": st.column_config.NumberColumn("AUC", format="%.3f"),
    },
)
weak = found[found["youden"] < 0.5]
for row in weak.itertuples():
    st.text(f"{row.probe} on {row.family}: J {row.youden:.2f}, too weak to correct a rate.")
