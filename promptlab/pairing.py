"""From one number a picture to one number a prompt.

A value that is None or NaN was not measured; an infinite one, or text, is refused at this door. A pair counts only if
both arms were measured: otherwise it is dropped and counted, and a prompt left without pairs drops out. Nothing is
filled in.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Groups", "PromptPairs", "Values", "numbers_of", "pair_prompts", "positions_of"]

Floats = NDArray[np.float64]
Values = Sequence[float | bool | None] | NDArray[Any]
Groups = Sequence[Hashable] | NDArray[Any]


def numbers_of(values: Values, name: str) -> Floats:
    """One-dimensional float array; None becomes NaN. Raises ValueError for other shapes, text and infinities."""
    if not (isinstance(values, np.ndarray) and values.dtype.kind in "fiub"):
        given = list(values)
        for value in given:
            if value is not None and not isinstance(value, (Real, np.bool_)):
                raise ValueError(f"{name} holds {value!r}: a value is a number, True, False, or None if not measured")
        values = np.array([np.nan if value is None else value for value in given], dtype=np.float64)
    array: Floats = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: one number for each picture, shape (n,), is allowed")
    if np.isinf(array).any():
        raise ValueError(f"{name} holds an infinite value: give None for what could not be measured")
    return array


def positions_of(labels: Groups) -> tuple[tuple[Hashable, ...], NDArray[np.intp]]:
    """Distinct labels in order of appearance, and the place of each given label among them, (n,)."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        names, first, where = np.unique(labels, return_index=True, return_inverse=True)
        order = np.argsort(first)
        return tuple(names[order].tolist()), np.argsort(order)[where]
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(label, len(places)) for label in labels], dtype=np.intp)
    if any(label is None or label != label for label in places):
        raise ValueError("a group is None or NaN: every value needs the prompt it belongs to")
    return tuple(places), index


@dataclass(frozen=True)
class PromptPairs:
    """Measured pairs, averaged within prompts: `a`, `b`, `difference`, each (n_groups,); see `pair_prompts`."""

    groups: tuple[Hashable, ...]
    a: Floats
    b: Floats
    n_pairs: int
    n_dropped: int
    seed_correlation: float | None

    @property
    def difference(self) -> Floats:
        """a - b of each prompt, (n_groups,)."""
        return self.a - self.b


def pair_prompts(
    values_a: Values,
    values_b: Values,
    groups: Groups,
    seeds: Groups | None = None,
) -> PromptPairs:
    """Average both arms within prompts, over the pairs where both were measured.

    Arguments:
        values_a, values_b: (n,); `values_a[i]` and `values_b[i]` come from one prompt at one seed.
        groups: (n,) the prompt of each pair.
        seeds: (n,) the seed of each pair. If given, a seed that comes twice in one prompt is refused: it would count
            one picture twice.
    """
    a, b = numbers_of(values_a, "values_a"), numbers_of(values_b, "values_b")
    if not len(a) == len(b) == len(groups):
        raise ValueError(f"pairs need equal lengths: {len(a)} values_a, {len(b)} values_b, {len(groups)} groups")
    if seeds is not None:
        if len(seeds) != len(a):
            raise ValueError(f"pairs need equal lengths: {len(a)} values_a, {len(seeds)} seeds")
        seen: set[tuple[Hashable, Hashable]] = set()
        for pair in zip(groups, seeds, strict=True):
            if pair in seen:
                raise ValueError(f"seed {pair[1]!r} of prompt {pair[0]!r} comes twice: give each pair once")
            seen.add(pair)
    names, index = positions_of(groups)
    kept = ~(np.isnan(a) | np.isnan(b))
    a, b, index = a[kept], b[kept], index[kept]
    counts = np.bincount(index, minlength=len(names))
    some = counts > 0
    totals_a, totals_b = (np.bincount(index, weights=arm, minlength=len(names)) for arm in (a, b))
    safe = np.maximum(counts, 1)
    means_a, means_b = totals_a / safe, totals_b / safe
    rest_a, rest_b = a - means_a[index], b - means_b[index]
    spread = float(np.sqrt((rest_a @ rest_a) * (rest_b @ rest_b)))
    return PromptPairs(
        groups=tuple(name for name, has in zip(names, some, strict=True) if has),
        a=means_a[some],
        b=means_b[some],
        n_pairs=int(kept.sum()),
        n_dropped=int((~kept).sum()),
        seed_correlation=float(rest_a @ rest_b) / spread if spread > 1e-12 else None,
    )
