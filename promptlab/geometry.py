"""Geometry of a text encoder's states, without a picture: what a grid of nouns x words x frames is arranged by.

    X        (nouns, words, frames, d) states, centred by their grand mean (states lie in a narrow cone, and raw cosines
             say little); a word is a verb or a colour, a frame one way to say the same
    R2(f)    sum of squares between the levels of factor f over the total (PERMANOVA on Euclidean distance; the grid is
             balanced, so the shares of noun, word, frame, noun x word and the rest add up to 1)
    p        share of permutations whose R2 of the word is as large, words permuted within each noun and frame
    inside   R2 of the word within one noun, over nouns, and the same for frames: is "running dog" a place of its own?
    probe    accuracy of a linear classifier of the word, trained on the other nouns: a direction that nouns share
    silhouette    of the word among states of one noun, and among all; in [-1, 1]
    ari      adjusted Rand index of k-means against word and against noun: do clusters follow it?
    additivity    1 - R2(noun x word) / (R2 of noun, word and noun x word): 1 if meanings add
    primacy  cos(E(A and B), E(A)) - cos(E(A and B), E(B)) on centred states, over pairs in both orders: above 0 the
             first-named object has more of the state, 0 an encoder that ignores order

References:
    Anderson 2001, A new method for non-parametric multivariate analysis of variance.
    Rousseeuw 1987, Silhouettes; Hubert and Arabie 1985, Comparing partitions.
    Trager et al. 2023, Linear Spaces of Meanings (arXiv 2302.14383). Text primacy is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Geometry", "Partition", "all_pairs", "geometry", "partition", "primacy"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Partition:
    """Shares of the sum of squares, which add up to 1, and the permutation p of the word's."""

    noun: float
    word: float
    frame: float
    noun_word: float
    rest: float
    p: float
    permutations: int


@dataclass(frozen=True)
class Geometry:
    """What a grid of states is arranged by; see the module. None, with a reason, for what the grid cannot say."""

    n_nouns: int
    n_words: int
    n_frames: int
    partition: Partition
    word_inside: float
    word_inside_chance: float
    silhouette_inside: float | None
    silhouette_everywhere: float | None
    ari_word: float | None
    ari_noun: float | None
    probe: float | None
    probe_chance: float
    additivity: float | None
    reason: str | None = None


def partition(states: Floats, *, rng: np.random.Generator, permutations: int = 999) -> Partition:
    """Variance partition of `states` (nouns, words, frames, d). Raises ValueError for fewer than 2 of any factor."""
    x = _centred(states)
    total = float((x**2).sum())
    if total <= 1e-12 * float((np.asarray(states, np.float64) ** 2).sum()):
        raise ValueError("all states are equal: there is nothing to part")
    noun, word, frame = (_between(x, keep) for keep in ((0,), (1,), (2,)))
    both = max(0.0, _between(x, (0, 1)) - noun - word)
    k, v, f, _ = x.shape
    as_large = 0
    for _ in range(permutations):
        order = rng.permuted(np.broadcast_to(np.arange(v)[:, None], (k, v, f)), axis=1)
        mixed = np.take_along_axis(x, order[..., None], axis=1)
        as_large += _between(mixed, (1,)) >= word * (1 - 1e-12)
    rest = total - noun - word - frame - both
    p = (as_large + 1) / (permutations + 1)
    return Partition(noun / total, word / total, frame / total, both / total, rest / total, p, permutations)


def _centred(states: Floats) -> Floats:
    x = np.asarray(states, np.float64)
    if x.ndim != 4 or min(x.shape[:3]) < 2 or not np.isfinite(x).all():
        raise ValueError(f"states has shape {x.shape}: finite (nouns, words, frames, d), 2 or more of each, is allowed")
    centred: Floats = x - x.mean(axis=(0, 1, 2))
    return centred


def _between(x: Floats, keep: tuple[int, ...]) -> float:
    """Sum of squares between the groups that factors `keep` make, of centred `x`."""
    away = tuple(axis for axis in range(3) if axis not in keep)
    size = int(np.prod([x.shape[axis] for axis in away]))
    return float(size * (x.mean(axis=away) ** 2).sum())


def geometry(states: Floats, *, rng: np.random.Generator, permutations: int = 999) -> Geometry:
    """All that the module names, of `states` (nouns, words, frames, d); 2 nouns at least for the probe, as for all."""
    from sklearn.metrics import adjusted_rand_score

    x = _centred(states)
    k, v, f, d = x.shape
    parts = partition(states, rng=rng, permutations=permutations)
    nouns, words, _ = (index.ravel() for index in np.indices((k, v, f)))
    flat = x.reshape(-1, d)
    inside = [_within(one) for one in x]
    chance = [_within(np.stack([rng.permutation(one[:, j]) for j in range(f)], axis=1)) for one in x for _ in range(20)]
    apart = [_silhouette(one.reshape(-1, d) - one.mean((0, 1)), np.repeat(np.arange(v), f)) for one in x]
    told = [value for value in apart if value is not None]
    meaning = parts.noun + parts.word + parts.noun_word
    return Geometry(
        n_nouns=k,
        n_words=v,
        n_frames=f,
        partition=parts,
        word_inside=float(np.mean(inside)),
        word_inside_chance=float(np.mean(chance)),
        silhouette_inside=float(np.mean(told)) if told else None,
        silhouette_everywhere=_silhouette(flat, words),
        ari_word=float(adjusted_rand_score(words, _clusters(flat, v))),
        ari_noun=float(adjusted_rand_score(nouns, _clusters(flat, k))),
        probe=_probe(flat, words, nouns),
        probe_chance=1 / v,
        additivity=1 - parts.noun_word / meaning if meaning > 1e-9 else None,
        reason=None if told else "states within a noun are all equal",
    )


def _within(x: Floats) -> float:
    """R2 of the word for one noun's states (words, frames, d)."""
    x = x - x.mean((0, 1))
    total = float((x**2).sum())
    return float(x.shape[1] * (x.mean(1) ** 2).sum()) / total if total > 0 else 0.0


def _silhouette(x: Floats, labels: NDArray[np.int_]) -> float | None:
    """Mean silhouette by cosine, or None where states have no direction."""
    from sklearn.metrics import silhouette_score

    if np.linalg.norm(x, axis=1).min() < 1e-9 or not 1 < len(set(labels.tolist())) < len(x):
        return None
    return float(silhouette_score(x, labels, metric="cosine"))


def _clusters(x: Floats, n: int) -> NDArray[np.int_]:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # fewer distinct states than clusters: an encoder that hears no difference is an answer, not a mistake
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(KMeans(n, n_init=5, random_state=0).fit_predict(x))


def _probe(x: Floats, words: NDArray[np.int_], nouns: NDArray[np.int_]) -> float:
    """Accuracy on each noun of a ridge classifier that saw the other nouns, each noun's mean taken off."""
    from sklearn.linear_model import RidgeClassifier

    # a noun's own place is no knowledge of the word, and is free to be taken off: no label enters
    x = np.concatenate([x[nouns == one] - x[nouns == one].mean(0) for one in np.unique(nouns)])
    scale = float(np.sqrt((x**2).mean())) or 1.0
    right = []
    for one in np.unique(nouns):
        held = nouns == one
        model = RidgeClassifier(alpha=1.0).fit(x[~held] / scale, words[~held])
        right.append(float((model.predict(x[held] / scale) == words[held]).mean()))
    return float(np.mean(right))


def primacy(both: Floats, alone: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Text primacy of each unordered pair, its two orders averaged; see the module.

    Args:
        both: (2, pairs, d), states of "A and B", and of "B and A".
        alone: (things, d), states of each thing alone.
        pairs: (A, B) as indices into `alone`.
    """
    middle = alone.mean(0)
    own, ab = _unit(alone - middle), _unit(both - middle)
    first, second = (own[[pair[i] for pair in pairs]] for i in (0, 1))
    lead = (ab[0] * first).sum(1) - (ab[0] * second).sum(1), (ab[1] * second).sum(1) - (ab[1] * first).sum(1)
    mean: Floats = (lead[0] + lead[1]) / 2
    return mean


def _unit(x: Floats) -> Floats:
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    unit: Floats = x / np.where(length > 0, length, 1.0)
    return unit


def all_pairs(n: int) -> list[tuple[int, int]]:
    """Every pair of `n` things."""
    return list(combinations(range(n), 2))
