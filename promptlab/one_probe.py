"""Whose word counts where several probes answer the same question: of one picture, one answer.

The probe that was asked for; else `binding`, which reads the miniature's pictures, else `human`, what raters said, else
the first by name. Ids of a probe (`binding-1-0a1b2c3d`) go by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["chosen_probe", "rows_of_one_probe"]

FIRST = ("binding", "human")


def chosen_probe(there: Iterable[str], asked: str | None = None) -> str:
    """`asked`, or the name that goes before the others of `there`; "" where there is none."""
    names = set(there)
    return asked or next((name for name in FIRST if name in names), min(names, default=""))


def rows_of_one_probe(rows: pd.DataFrame, asked: str | None = None) -> pd.DataFrame:
    """The rows, with a column `probe` of ids, of the probe that `chosen_probe` takes."""
    said = rows["probe"].str.split("-").str[0]
    return rows[said == chosen_probe(said, asked)]
