"""Vendi, cosine distance and entropy: cases computed by hand, and slow twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from promptlab.analyzer.probes.diversity import entropy_bits, mean_pairwise_cosine_distance, vendi


def test_vendi_by_hand() -> None:
    assert vendi(np.eye(4)) == pytest.approx(4)
    assert vendi(np.ones((5, 3))) == pytest.approx(1)
    assert vendi(np.array([[3.0, 4.0]])) == pytest.approx(1)
    # Two pairs of twins, at a right angle to each other: two different pictures.
    assert vendi(np.array([[1, 0], [2, 0], [0, 1], [0, 5]])) == pytest.approx(2)
    # 60 degrees apart: K / 2 has eigenvalues 3/4 and 1/4, hence exp(H) = 4 / 3**(3/4).
    assert vendi(np.array([[1, 0], [0.5, np.sqrt(3) / 2]])) == pytest.approx(4 / 3**0.75)
    # Shares 3/4 and 1/4 of two orthogonal kinds: the same eigenvalues.
    assert vendi(np.array([[1, 0], [1, 0], [1, 0], [0, 1]])) == pytest.approx(4 / 3**0.75)


@pytest.mark.parametrize("shape", [(8, 512), (30, 4)])
def test_vendi_equals_the_eigenvalues_of_the_kernel(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(1, 1, size=shape)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    eigenvalues = np.clip(np.linalg.eigvalsh(unit @ unit.T / len(x)), 1e-300, None)
    assert vendi(x) == pytest.approx(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))
    assert 1 <= vendi(x) <= len(x)
    assert vendi(x[::-1] * 3) == pytest.approx(vendi(x))


def test_cosine_distance_by_hand_and_by_loop() -> None:
    assert mean_pairwise_cosine_distance(np.eye(3)) == pytest.approx(1)
    assert mean_pairwise_cosine_distance(np.ones((4, 2))) == pytest.approx(0, abs=1e-12)
    assert mean_pairwise_cosine_distance(np.array([[1, 0], [-2, 0]])) == pytest.approx(2)
    x = np.random.default_rng(1).normal(size=(9, 5))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    loop = np.mean([1 - unit[i] @ unit[j] for i in range(9) for j in range(i)])
    assert mean_pairwise_cosine_distance(x) == pytest.approx(loop)


@pytest.mark.parametrize(
    "embeddings", [np.ones(4), np.ones((0, 3)), np.ones((2, 0)), np.zeros((2, 3)), np.full((2, 2), np.nan)]
)
def test_what_is_no_embedding_is_refused(embeddings: Any) -> None:
    for measure in (vendi, mean_pairwise_cosine_distance):
        with pytest.raises(ValueError, match="embedding"):
            measure(embeddings)


def test_one_picture_has_no_pairs() -> None:
    with pytest.raises(ValueError, match="n >= 2"):
        mean_pairwise_cosine_distance(np.ones((1, 3)))


def test_entropy_by_hand() -> None:
    assert entropy_bits(["red"] * 5) == 0
    assert entropy_bits(["red", "blue"]) == pytest.approx(1)
    assert entropy_bits([("cup", "red"), ("cup", "blue"), ("box", "red"), ("box", "blue")]) == pytest.approx(2)
    assert entropy_bits(list("aaab")) == pytest.approx(2 - 0.75 * np.log2(3))
    with pytest.raises(ValueError, match="at least one"):
        entropy_bits([])
    with pytest.raises(ValueError, match="None"):
        entropy_bits(["red", None])
