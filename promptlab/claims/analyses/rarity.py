"""Whether rare combinations fail: the slope of "there, in its colour" on log10 of how often training showed the pair.

One unit is one noun, its slope over its colours (least squares): a noun that is hard in every colour does not count as
rare. Pairs that training never showed are apart: their rate against that of the rest stands in the detail.

Log-linear rise with frequency: Udandarao et al. 2024, No "Zero-Shot" Without Exponential Data (arXiv 2404.04125).
"""

from __future__ import annotations

import numpy as np

from promptlab.claims.analyses import Analysis, Finding
from promptlab.resources import shipped_folder
from promptlab.results.findings.rarity import pair_counts
from promptlab.store import Store

__all__ = ["load", "slope"]

STUDY = "rarity"


def load() -> Analysis:
    """The analysis of the study `rarity`."""
    return _measure


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of y on x, both (n,)."""
    centred = x - x.mean()
    return float((centred * y).sum() / (centred**2).sum())


def _measure(store: Store) -> Finding:
    counts = pair_counts(shipped_folder() / "pair_counts.csv")
    rows = store.query(
        """
        SELECT noun, colour, avg(is_right) AS share, count(is_right) AS n FROM (
            SELECT levels['noun'] AS noun, levels['colour'] AS colour, seed,
                (bool_and(value = 1) FILTER (measure = 'noun')
                    AND coalesce(bool_and(value = 1) FILTER (measure = 'colour'), false))::INTEGER AS is_right
            FROM scored WHERE study = ? AND measure IN ('noun', 'colour') AND status = 'ok'
            GROUP BY ALL)
        WHERE is_right IS NOT NULL GROUP BY ALL ORDER BY ALL
        """,
        [STUDY],
    )
    rows["count"] = [counts.get((noun, colour), 0) for noun, colour in zip(rows["noun"], rows["colour"], strict=True)]
    seen, unseen = rows[rows["count"] > 0], rows[rows["count"] == 0]
    values = {
        str(noun): slope(np.log10(part["count"].to_numpy(float)), part["share"].to_numpy(float))
        for noun, part in seen.groupby("noun")
        if part["count"].nunique() > 2
    }
    detail = {
        "seen": round(float(seen["share"].mean()), 4) if len(seen) else None,
        "never_seen": round(float(unseen["share"].mean()), 4) if len(unseen) else None,
        "pictures": int(rows["n"].sum()),
    }
    return Finding("rise of the share right for ten times as many examples", values, "noun", None, detail, tier="T1")
