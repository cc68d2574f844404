"""Tables on a page: columns in words, numbers of three digits, no column that is empty throughout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

__all__ = ["WORDS", "listing", "worded"]

WORDS = {
    "attribute": "colour asked",
    "batch_size": "batch size",
    "behind": "behind the best",
    "behind_high": "behind, high",
    "behind_low": "behind, low",
    "both": "on both",
    "corrected_high": "corrected, high",
    "corrected_low": "corrected, low",
    "elsewhere": "on the other alone",
    "end_char": "to character",
    "high": "95 % high",
    "kept": "is read",
    "last_run": "last run",
    "leaked": "leaked",
    "low": "95 % low",
    "n": "pictures",
    "n_a": "pictures of A",
    "n_b": "pictures of B",
    "n_groups": "prompts",
    "n_pairs": "pairs",
    "n_prompts": "prompts",
    "nowhere": "on neither",
    "own": "kept by its own",
    "p": "p",
    "p_adjusted": "p (Holm)",
    "prompt_group": "prompt family",
    "sensitivity_high": "sensitivity, high",
    "sensitivity_low": "sensitivity, low",
    "specificity_high": "specificity, high",
    "specificity_low": "specificity, low",
    "start_char": "from character",
    "target": "about",
    "youden": "Youden's J",
}
"""Columns of tables that are called otherwise on a page; the rest lose their underscores."""


def worded(name: str) -> str:
    """A column in words."""
    return WORDS.get(name, name.replace("_", " "))


def listing(frame: pd.DataFrame, names: Mapping[str, str] | None = None, **columns: Any) -> None:
    """A table in words. `names` calls columns otherwise here; `columns` are Streamlit's own column settings."""
    said = {**WORDS, **(names or {})}
    shown = frame.drop(columns=[c for c in frame if len(frame) and frame[c].replace("", None).isna().all()])
    settings: dict[str, Any] = {}
    for column in map(str, shown):
        label = said.get(column, column.replace("_", " "))
        real = pd.api.types.is_float_dtype(shown[column])
        number = st.column_config.NumberColumn(label, format="%.3g")
        settings[column] = number if real else st.column_config.Column(label)
        if not pd.api.types.is_numeric_dtype(shown[column]) and shown[column].isna().any():
            shown = shown.assign(**{column: shown[column].astype(object).where(shown[column].notna(), "")})
    st.dataframe(shown, hide_index=True, width="stretch", column_config={**settings, **columns}, placeholder="-")
