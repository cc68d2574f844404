"""Order: what it does to an object to be named first.

    mention      1 for the object that the prompt names first, 2 for the one that it names second
    order        which of the two orders of the same pair of objects an image was made from
    primacy      P(first is there) - P(second is there), averaged over both orders, [-1, 1]
    by position  the same of colour accuracy, given presence
    area, side   the first's share of both areas, and P(first is left), each minus 1/2, averaged over both orders

With both orders of one pair, what makes an object easy to draw stands once on each side and cancels. A prompt with one
order only is dropped. An encoder that is blind to order must give exactly 0 in all four.

References:
    Grimal et al. 2024, TIAM (arXiv 2307.05134): detections by position of mention. The indices are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow
from promptlab.results.queries import StudyScores, balanced, object_places
from promptlab.stats.paired import Finding, mean_finding, need

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["applies", "area_share", "find", "primacy", "side"]


def applies(axes: Sequence[AxisColumn]) -> bool:
    """Whether an axis puts two objects or slots into both orders."""
    return any(column.kind == "order" and len(column.names) == 2 for column in axes)


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    """Primacy, colour by position, share of area and side for each order of two objects."""
    columns = {column.name: column for column in data.columns if column.kind == "order"}
    for axis, levels in data.axes.items():
        names = columns[axis].names if axis in columns else ()
        if len(names) != 2 or len(levels) != 2 or not set(names) <= set(data.rows["target"]):
            continue
        places = object_places(data)
        binding = data.rows[data.rows["probe"] == "binding"]
        for name, measure in (("primacy", "noun"), ("colour by position", "colour")):
            scores = _mentions(binding[binding["measure"] == measure], axis, names, "value")
            yield FindingRow(name, axis, f"binding.{measure}", partial(primacy, scores, rng=rng))
        area, centre = (_mentions(places, axis, names, column) for column in ("area", "x"))
        shares = partial(area_share, area, rng=rng)
        yield FindingRow("first's share of area, less 1/2", axis, "binding.noun", shares)
        yield FindingRow("first is left, less 1/2", axis, "binding.noun", partial(side, centre, rng=rng))


def _mentions(rows: pd.DataFrame, axis: str, names: tuple[str, ...], column: str) -> pd.DataFrame:
    """prompt_group, order, seed, mention (1 or 2) and value, of the objects `names` that the order arranges."""
    rows = balanced(rows[rows["objects"] == 2], axis)
    orders = {", ".join(order): order for order in permutations(names)}
    levels = [levels.get(axis) or "" for levels in rows["levels"]]
    arranged = [orders.get(level, ()) for level in levels]
    mentions = [order.index(t) + 1 if t in order else 0 for order, t in zip(arranged, rows["target"], strict=True)]
    found = rows[["prompt_group", "seed"]].assign(order=levels, mention=mentions, value=rows[column].astype(float))
    keys = ["prompt_group", "order", "seed", "mention"]
    return found[found["mention"] > 0].groupby(keys)["value"].mean().reset_index()


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
