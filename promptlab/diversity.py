"""How different the pictures of one prompt are, over its seeds.

    x    embeddings (n, d), one row a picture, scaled here to unit length
    K    their cosines x x^T (n, n);  l  the eigenvalues of K / n, which sum to 1
    V    Vendi score exp(-sum l ln l): the effective number of different pictures, from 1 (all alike) to n
    H    entropy -sum f log2 f of the labels' frequencies f, in bits

All three depend on n: compare only at equal n, and V only with one kernel (here the cosine of one encoder).

References:
    The Vendi Score: A Diversity Evaluation Metric for Machine Learning, Friedman and Dieng 2023 (arXiv 2210.02410).
    A Mathematical Theory of Communication, Shannon 1948.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptlab.pairing import Floats, positions_of

__all__ = ["entropy_bits", "mean_pairwise_cosine_distance", "vendi"]


def _unit_rows(embeddings: NDArray[Any], at_least: int) -> Floats:
    x = np.asarray(embeddings, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] < at_least or x.shape[1] < 1:
        raise ValueError(f"embeddings has shape {x.shape}: (n, d) with n >= {at_least} is allowed")
    if not np.isfinite(x).all():
        raise ValueError("embeddings holds NaN or infinite values: leave such pictures out, and count them")
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if (length == 0).any():
        raise ValueError("an embedding is all 0: it points nowhere and has no cosine")
    unit: Floats = x / length
    return unit


def vendi(embeddings: NDArray[Any]) -> float:
    """Vendi score with the cosine kernel, in [1, n], of embeddings (n, d), n >= 1."""
    from scipy import special  # late: a study file is checked by asking probes what they measure, without scipy

    x = _unit_rows(embeddings, at_least=1)
    # K / n has the squared singular values of x / sqrt(n): no n x n matrix, and none below 0 by rounding.
    eigenvalues = np.linalg.svd(x, compute_uv=False) ** 2 / len(x)
    return float(np.exp(special.entr(eigenvalues).sum()))


def mean_pairwise_cosine_distance(embeddings: NDArray[Any]) -> float:
    """Mean of 1 - cos over all pairs of different rows of embeddings (n, d), n >= 2; in [0, n / (n - 1)]."""
    x = _unit_rows(embeddings, at_least=2)
    n = len(x)
    together = x.sum(axis=0)
    # |sum x|^2 = n + 2 sum over pairs of cos.
    return float(max(0.0, (n * n - together @ together) / (n * (n - 1))))


def entropy_bits(labels: Sequence[Hashable]) -> float:
    """Plug-in entropy of labels in bits, in [0, log2 n]; with few labels it lies below the truth."""
    from scipy import special

    if not len(labels):
        raise ValueError("no label given: entropy needs at least one")
    names, index = positions_of(labels)
    share = np.bincount(index, minlength=len(names)) / len(index)
    return float(special.entr(share).sum() / np.log(2))
