"""Order: what it does to a thing to be named first.

    mention      1 for the object that the prompt names first, 2 for the one that it names second
    order        which of the two orders of the same pair of objects a picture was made from
    primacy      P(first is there) - P(second is there), averaged over both orders, [-1, 1]
    by position  the same of colour accuracy, given presence
    area, side   first's share of both areas, and P(first is left), each minus 1/2, averaged over both orders
    sensitivity  distance between the pictures of the two orders at one seed, minus that between paraphrases

With both orders of one pair, what makes an object easy to draw stands once on each side and cancels; a prompt with one
order only is dropped. Paraphrases change words and not order: their distance is the floor of noise. An encoder blind to
order must come out at exactly 0 in the first four.

References:
    Abbasi et al. 2025, CLIP Under the Microscope (arXiv 2502.19842). Grimal et al. 2024, TIAM (arXiv 2307.05134),
    detections by position of mention. The indices are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from promptlab.findings import Finding, mean_finding, need
from promptlab.stats import Effect, paired_effect

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["area_share", "primacy", "sensitivity", "side"]


def primacy(scores: pd.DataFrame, *, rng: np.random.Generator) -> Finding:
    """Value of the first-named minus that of the second, averaged over seeds, then over both orders, then over prompts.

    `scores` has the columns prompt_group, seed, order, mention (1 or 2) and value: presence (1 or 0) for the primacy
    index, colour accuracy for binding by position. A picture counts if both its objects were measured.
    """
    return _by_order(scores, lambda first, second: first - second, rng)


def area_share(scores: pd.DataFrame, *, rng: np.random.Generator) -> Finding:
    """The first-named's share of both areas, minus 1/2: value is an object's area (any unit, at least 0)."""
    if (scores["value"].dropna().astype(float) < 0).any():
        raise ValueError("value holds an area below 0")

    def share(first: pd.Series[float], second: pd.Series[float]) -> pd.Series[float]:
        both = first + second
        return first / both.where(both > 0) - 0.5

    return _by_order(scores, share, rng)


def side(scores: pd.DataFrame, *, rng: np.random.Generator) -> Finding:
    """P(the first-named is left of the second) minus 1/2: value is the x of an object's centre; a tie counts half."""
    return _by_order(scores, lambda first, second: (first < second) + (first == second) / 2 - 0.5, rng)


def _by_order(
    scores: pd.DataFrame,
    compare: Callable[[pd.Series[float], pd.Series[float]], pd.Series[float]],
    rng: np.random.Generator,
) -> Finding:
    need(scores, "prompt_group", "seed", "order", "mention", "value")
    named = set(scores["mention"])
    if not named <= {1, 2}:
        raise ValueError(f"mention holds {sorted(map(str, named - {1, 2}))}: 1 (named first) and 2 are allowed")
    keys = ["prompt_group", "order", "seed"]
    if scores.duplicated([*keys, "mention"]).any():
        raise ValueError("an object of one picture comes twice: give each (prompt_group, order, seed, mention) once")
    if scores.empty:
        return mean_finding(np.array([]), rng=rng, n=0)
    numbers = scores.assign(value=scores["value"].astype(float))
    wide = numbers.pivot(index=keys, columns="mention", values="value").reindex(columns=[1, 2])
    measured = wide.dropna()
    difference = compare(measured[1], measured[2]).dropna()
    # orders of one prompt, each averaged over its seeds; a prompt with one order says nothing free of salience
    means = difference.groupby(level=["prompt_group", "order"]).mean().groupby(level="prompt_group")
    orders = scores.groupby("prompt_group")["order"].nunique()
    if (orders > 2).any():
        raise ValueError(f"a prompt has {int(orders.max())} orders: two of each pair of objects are allowed")
    whole = means.mean()[means.size() == 2]
    return mean_finding(
        np.asarray(whole, dtype=np.float64),
        rng=rng,
        n=len(difference),
        n_dropped=len(wide) - len(difference),
        prompts_without_both_orders=int(len(orders) - len(whole)),
    )


def sensitivity(scores: pd.DataFrame, *, rng: np.random.Generator) -> Effect:
    """Distance between orders minus distance between paraphrases, paired by prompt and seed.

    `scores` has the columns prompt_group, seed, kind ("order" or "paraphrase") and value (a distance of two pictures at
    one seed, such as 1 - cosine of their embeddings); several distances of one kind are averaged.
    """
    need(scores, "prompt_group", "seed", "kind", "value")
    strange = set(scores["kind"]) - {"order", "paraphrase"}
    if strange:
        raise ValueError(f"kind holds {sorted(map(str, strange))}: 'order' and 'paraphrase' are allowed")
    wide = scores.assign(value=scores["value"].astype(float)).pivot_table(
        index=["prompt_group", "seed"], columns="kind", values="value", aggfunc="mean", dropna=False
    )
    wide = wide.reindex(columns=["order", "paraphrase"])
    groups = wide.index.get_level_values("prompt_group").tolist()
    return paired_effect(wide["order"].tolist(), wide["paraphrase"].tolist(), groups, rng=rng)
