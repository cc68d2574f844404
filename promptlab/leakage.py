"""The leakage matrix: for each attribute asked of an object, where it went in the picture.

    own         its object has it, the other has not            both        both have it
    other       the other object has it, its own has not        nowhere     neither has it

of pictures in which both objects were found. `leaked` is other and both together: the share of pictures in which the
other object took the colour. `expected` is what it would be without any leak: how often things show this colour in
pictures of the same study whose prompt asks for it nowhere. Only a share above that is leakage. What the background
took is not known: no probe here sees it.

People's annotations and the scene parser's findings go through the same view (`leakage` in views.sql).

Ours; that attributes leak to where the other object is, Rassin et al. 2023, Linguistic Binding in Diffusion Models
(arXiv 2306.08877).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from promptlab.ranking import said_by
from promptlab.totals import interval_of_rates

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["WENT", "leakage", "leakages"]

WENT = ("own", "both", "other", "nowhere")
COLUMNS = (
    *("attribute", "other", "n", "n_prompts", "own", "both", "elsewhere", "nowhere"),
    *("leaked", "low", "high", "expected", "tier"),
)


By = Literal["attribute", "other", "pair"] | None


def leakage(store: Store, study: str, by: By = "attribute", probe: str | None = None, seed: int = 0) -> pd.DataFrame:
    """One row an attribute asked, a noun of the other object, a pair of both, or (None) one row for all.

    Columns: attribute, other (NULL where rows are not told apart by it), n (pictures), n_prompts, shares `own`, `both`,
    `elsewhere` (the other object alone), `nowhere`; `leaked` = both + elsewhere with its 95 % interval over prompts,
    `low` and `high`; `expected` (see module; NULL where no picture could tell); tier. The most leaking first.

    `probe` says whose word counts, such as "binding" or "human": the first of these that has any, if None.
    """
    return leakages(store, study, (by,), probe, seed)[by]


def leakages(
    store: Store,
    study: str,
    by: Sequence[By] = ("attribute", "pair", None),
    probe: str | None = None,
    seed: int = 0,
) -> dict[By, pd.DataFrame]:
    """Several such tables, for which the pictures are read once."""
    rows = said_by(store.query(_WENT, [study]), probe)
    chance = _chance(store, study, set(rows["probe"]))
    return {one: _table(rows, chance, one, seed) for one in by}


_WENT = """
SELECT probe, attribute, other, prompt_group, went, min(tier) AS tier, count(*) AS n, min(cell_id) AS first
FROM leakage WHERE study = ? GROUP BY ALL ORDER BY first, probe, attribute, other, went
"""
"""Added up by prompt, in the order of the cells: the same random numbers resample the same prompts."""


def _table(rows: pd.DataFrame, chance: dict[str, float], by: By, seed: int) -> pd.DataFrame:
    import pandas as pd

    keys = {"attribute": ["attribute"], "other": ["other"], "pair": ["attribute", "other"], None: []}[by]
    parts = rows.groupby(keys, sort=True) if keys else [((), rows)] if len(rows) else []
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for names, part in parts:
        leaked = part["n"].where(part["went"].isin(["both", "other"]), 0)
        groups = part.assign(leaked=leaked).groupby("prompt_group", sort=False)[["leaked", "n"]].sum()
        n = int(part["n"].sum())
        interval = interval_of_rates(groups["leaked"].to_numpy(), groups["n"].to_numpy(), rng=rng, weigh="images")
        shares = part.groupby("went")["n"].sum() / n
        told = [(chance[a], k) for a, k in zip(part["attribute"], part["n"].tolist(), strict=True) if a in chance]
        row: dict[str, Any] = {"attribute": None, "other": None, **dict(zip(keys, names, strict=True))}
        row |= {"n": n, "n_prompts": len(groups), "tier": part["tier"].iloc[0]}
        row |= {("elsewhere" if went == "other" else went): float(shares.get(went, 0.0)) for went in WENT}
        row |= {"leaked": interval.estimate, "low": interval.low, "high": interval.high}
        weight = sum(k for _, k in told)
        out.append(row | {"expected": sum(rate * k for rate, k in told) / weight if weight else None})
    frame = pd.DataFrame(out, columns=list(COLUMNS))
    return frame.sort_values("leaked", ascending=False, kind="stable", ignore_index=True)


def _chance(store: Store, study: str, probes: set[str]) -> dict[str, float]:
    """By colour: how often a thing shows it where the prompt asks for it nowhere."""
    seen = store.query(
        """
        SELECT probe, label, asked, count(*) AS n FROM (
            SELECT scored.probe, scored.label, coalesce(claims.asked, []) AS asked FROM scored
            LEFT JOIN (SELECT prompt_id, list(attribute ORDER BY position) AS asked FROM binding
                WHERE attribute IS NOT NULL GROUP BY prompt_id) claims USING (prompt_id)
            WHERE scored.study = ? AND status = 'ok' AND measure = 'colour' AND label IS NOT NULL)
        GROUP BY ALL ORDER BY ALL
        """,
        [study],
    )
    seen = seen[seen["probe"].isin(probes)]
    rows = [
        (set(label.split("|")), set(asked), int(n))
        for label, asked, n in zip(seen["label"], seen["asked"], seen["n"], strict=True)
    ]
    out = {}
    for colour in {colour for shown, asked, _ in rows for colour in shown | asked}:
        free = sum(n for _, asked, n in rows if colour not in asked)
        if free:
            out[colour] = sum(n for shown, asked, n in rows if colour in shown and colour not in asked) / free
    return out
