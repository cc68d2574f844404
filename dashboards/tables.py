"""Tables on a page: columns in words, numbers with three digits, no column that is empty throughout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

__all__ = ["WORDS", "in_words", "show_table"]

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
"""What a page calls these columns of tables; the names of others lose their underscores."""


def in_words(name: str) -> str:
    """A column in words."""
    return WORDS.get(name, name.replace("_", " "))


def show_table(frame: pd.DataFrame, names: Mapping[str, str] | None = None, **columns: Any) -> None:
    """A table in words. `names` renames columns for this table; `columns` are Streamlit's own column settings."""
    labels = {**WORDS, **(names or {})}
    filled = frame.drop(columns=[c for c in frame if len(frame) and frame[c].replace("", None).isna().all()])
    settings: dict[str, Any] = {}
    for column in map(str, filled):
        label = labels.get(column, column.replace("_", " "))
        real = pd.api.types.is_float_dtype(filled[column])
        number = st.column_config.NumberColumn(label, format="%.3g")
        settings[column] = number if real else st.column_config.Column(label)
        if not pd.api.types.is_numeric_dtype(filled[column]) and filled[column].isna().any():
            filled = filled.assign(**{column: filled[column].astype(object).where(filled[column].notna(), "")})
    st.dataframe(filled, hide_index=True, width="stretch", column_config={**settings, **columns}, placeholder="-")
