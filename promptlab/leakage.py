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

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from promptlab.one_probe import rows_of_one_probe
from promptlab.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["WENT", "leakage"]

WENT = ("own", "both", "other", "nowhere")
COLUMNS = (
    *("attribute", "other", "n", "n_prompts", "own", "both", "elsewhere", "nowhere"),
    *("leaked", "low", "high", "expected", "tier"),
)


def leakage(
    store: Store,
    study: str,
    by: Literal["attribute", "other", "pair"] | None = "attribute",
    probe: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """One row an attribute asked, a noun of the other object, a pair of both, or (None) one row for all.

    Columns: attribute, other (NULL where rows are not told apart by it), n (pictures), n_prompts, shares `own`, `both`,
    `elsewhere` (the other object alone), `nowhere`; `leaked` = both + elsewhere with its 95 % interval over prompts,
    `low` and `high`; `expected` (see module; NULL where no picture could tell); tier. The most leaking first.

    `probe` says whose word counts, such as "binding" or "human": the first of these that has any, if None.
    """
    import pandas as pd

    rows = rows_of_one_probe(
        store.query(
            "SELECT * FROM leakage WHERE study = ? ORDER BY cell_id, seed, probe, object, other_object", [study]
        ),
        probe,
    )
    chance = _chance(store, study, set(rows["probe"]))
    keys = {"attribute": ["attribute"], "other": ["other"], "pair": ["attribute", "other"], None: []}[by]
    parts = rows.groupby(keys, sort=True) if keys else [((), rows)] if len(rows) else []
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for names, part in parts:
        groups = part["prompt_group"].tolist()
        interval = mean_interval(part["leaked"].astype(float).tolist(), groups, rng=rng, resamples=2000, weigh="images")
        shares = part["went"].value_counts(normalize=True)
        known = part["attribute"].map(chance).dropna()
        row: dict[str, Any] = {"attribute": None, "other": None, **dict(zip(keys, names, strict=True))}
        row |= {"n": len(part), "n_prompts": part["prompt_group"].nunique(), "tier": part["tier"].iloc[0]}
        row |= {("elsewhere" if went == "other" else went): float(shares.get(went, 0.0)) for went in WENT}
        row |= {"leaked": interval.estimate, "low": interval.low, "high": interval.high}
        out.append(row | {"expected": float(known.mean()) if len(known) else None})
    frame = pd.DataFrame(out, columns=list(COLUMNS))
    return frame.sort_values("leaked", ascending=False, kind="stable", ignore_index=True)


def _chance(store: Store, study: str, probes: set[str]) -> dict[str, float]:
    """By colour: how often a thing shows it where the prompt asks for it nowhere."""
    seen = store.query(
        """
        SELECT probe, string_split(label, '|') AS shown,
            (SELECT list(attribute) FROM binding WHERE binding.prompt_id = scored.prompt_id) AS asked
        FROM scored WHERE study = ? AND status = 'ok' AND measure = 'colour' AND label IS NOT NULL
        """,
        [study],
    )
    seen = seen[seen["probe"].isin(probes)]
    colours = {str(colour) for shown in seen["shown"] for colour in shown}
    colours |= {str(colour) for asked in seen["asked"] for colour in asked if colour}
    out = {}
    for colour in colours:
        free = [
            colour in shown for shown, asked in zip(seen["shown"], seen["asked"], strict=True) if colour not in asked
        ]
        if free:
            out[colour] = sum(free) / len(free)
    return out
