"""Passports and corrected rates: by hand, on drawn truth, and where nothing may be corrected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from promptlab.stats.calibration import (
    auc,
    corrected_rate,
    corrected_shares,
    invert_confusion,
    rogan_gladen,
    sensitivity_specificity,
    smallest_youden,
    youden,
)
from promptlab.stats.paired import wilson

CONFUSION = np.array([[0.85, 0.10, 0.05], [0.10, 0.80, 0.10], [0.02, 0.08, 0.90]])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_sensitivity_and_specificity_by_hand() -> None:
    said, truth = [1, 1, 0, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0]
    accuracy = sensitivity_specificity(said, truth)
    assert accuracy.n == 7
    assert (accuracy.true_positives, accuracy.false_negatives) == (2, 1)
    assert (accuracy.true_negatives, accuracy.false_positives) == (3, 1)
    assert accuracy.youden == pytest.approx(2 / 3 + 3 / 4 - 1) == pytest.approx(youden(2 / 3, 3 / 4))
    assert (accuracy.sensitivity_low, accuracy.sensitivity_high) == wilson(2, 3)
    assert (accuracy.specificity_low, accuracy.specificity_high) == wilson(3, 4)


def test_auc_equals_counting_pairs() -> None:
    scores, truth = rng(1).integers(0, 6, size=60), rng(2).integers(0, 2, size=60)
    yes, no = scores[truth == 1], scores[truth == 0]
    slow = ((yes[:, None] > no) + 0.5 * (yes[:, None] == no)).mean()
    assert auc(scores, truth) == pytest.approx(slow)
    assert auc([1, 2, 3], [0, 1, 1]) == 1.0
    assert auc([5, 5, 5], [0, 1, 1]) == 0.5


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1, 0], [1, 1], "at least one of each"),
        ([1, 0], [1], "equal lengths"),
        ([1, None], [1, 0], "."),
        ([1, 0], [1, 2], "other than 0 and 1"),
        ([], [], "at least one of each"),
    ],
)
def test_what_calibrates_nothing_is_refused(scores: Any, truth: Any, message: str) -> None:
    for function in (auc, sensitivity_specificity):
        with pytest.raises(ValueError, match=message):
            function(scores, truth)


def test_rogan_gladen_by_hand() -> None:
    assert rogan_gladen(0.9 * 0.3 + 0.2 * 0.7, 0.9, 0.8) == pytest.approx(0.3)
    assert rogan_gladen(0.05, 0.9, 0.8) == 0.0
    assert rogan_gladen(0.95, 0.9, 0.8) == 1.0
    assert rogan_gladen(0.5, 0.75, 0.74) is None
    assert rogan_gladen(0.5, 0.75, 0.75) == pytest.approx(0.5)
    for bad in ((1.2, 0.9, 0.9), (0.5, 1.1, 0.9), (0.5, 0.9, float("nan"))):
        with pytest.raises(ValueError, match="share in"):
            rogan_gladen(*bad)


def test_inversion_finds_the_truth_and_agrees_with_rogan_gladen() -> None:
    truth = np.array([0.6, 0.3, 0.1])
    found = invert_confusion(CONFUSION.T @ truth, CONFUSION)
    assert found is not None
    np.testing.assert_allclose(found, truth, atol=1e-9)
    for q in (0.05, 0.4, 0.97):
        two = invert_confusion(np.array([q, 1 - q]), np.array([[0.9, 0.1], [0.2, 0.8]]))
        assert two is not None and two[0] == pytest.approx(rogan_gladen(q, 0.9, 0.8), abs=1e-9)


def test_inversion_outside_the_reachable_shares_is_the_constrained_optimum() -> None:
    for seed in range(20):
        said = rng(seed).dirichlet(np.full(3, 0.3))
        found = invert_confusion(said, CONFUSION)
        assert found is not None and found.sum() == pytest.approx(1) and (found >= 0).all()
        twin = optimize.minimize(
            lambda p, q=said: ((CONFUSION.T @ p - q) ** 2).sum(),
            np.full(3, 1 / 3),
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(found, twin.x, atol=1e-4)


def test_youden_of_many_outcomes() -> None:
    assert smallest_youden(CONFUSION) == pytest.approx(0.70)
    assert smallest_youden(np.array([[0.9, 0.1], [0.2, 0.8]])) == pytest.approx(youden(0.9, 0.8))
    assert invert_confusion(np.array([0.5, 0.5]), np.array([[0.7, 0.3], [0.3, 0.7]])) is None


@pytest.mark.parametrize(
    ("said", "confusion"),
    [
        ([0.5, 0.5], CONFUSION),
        ([0.5, 0.5, 0.5], CONFUSION),
        ([0.5, 0.5], [[0.9, 0.2], [0.2, 0.8]]),
        ([0.5, 0.5], [[0.9, 0.1]]),
        ([1.0], [[1.0]]),
        ([0.5, 0.5], [[1.1, -0.1], [0.2, 0.8]]),
        ([0.5, float("nan")], [[0.9, 0.1], [0.2, 0.8]]),
    ],
)
def test_inversion_refuses(said: Any, confusion: Any) -> None:
    with pytest.raises(ValueError, match=r"observed needs|confusion"):
        invert_confusion(np.array(said), np.array(confusion))


def test_corrected_rate_covers_the_truth() -> None:
    generator = rng(5)
    groups = np.repeat(np.arange(40), 8)
    held, raw = 0, []
    for _ in range(150):
        rates = generator.beta(8, 2, size=40)
        so = generator.random((40, 8)) < rates[:, None]
        said = np.where(so, generator.random((40, 8)) < 0.9, generator.random((40, 8)) < 0.15).ravel()
        known = np.repeat([True, False], 200)
        answer = np.where(known, generator.random(400) < 0.9, generator.random(400) < 0.15)
        interval = corrected_rate(said, groups, sensitivity_specificity(answer, known), rng=generator, resamples=300)
        assert interval.low is not None and interval.high is not None
        held += interval.low <= 0.8 <= interval.high
        raw.append(said.mean())
    assert held / 150 >= 0.90
    # What it corrects: the probe itself says .9 x .8 + .15 x .2 = .75.
    assert np.mean(raw) == pytest.approx(0.75, abs=0.01)


def test_corrected_shares_on_drawn_labels() -> None:
    names = ("correct", "swap", "neglect")
    generator = rng(6)
    truth = np.array([0.5, 0.2, 0.3])
    said = generator.choice(3, p=CONFUSION.T @ truth, size=60 * 20)
    calibration = np.array([generator.multinomial(1000, row) for row in CONFUSION])
    labels: list[str | None] = [names[i] for i in said]
    labels[3] = None
    groups = np.repeat(np.arange(60), 20)
    shares = corrected_shares(labels, groups, calibration, names, rng=generator, resamples=500)
    assert shares.estimate is not None and shares.low is not None and shares.high is not None
    assert sum(shares.estimate) == pytest.approx(1)
    assert (shares.n_groups, shares.n, shares.n_dropped) == (60, 1199, 1)
    for low, share, high in zip(shares.low, truth, shares.high, strict=True):
        assert low <= share <= high
        assert high - low < 0.15


def test_a_perfect_calibration_keeps_some_doubt() -> None:
    perfect = sensitivity_specificity([1] * 20 + [0] * 20, [1] * 20 + [0] * 20)
    interval = corrected_rate([1, 1, 1, 1, 1, 1], list("aabbcc"), perfect, rng=rng())
    assert interval.estimate == 1.0
    assert interval.low is not None and interval.high is not None and interval.low <= interval.high


def test_what_was_never_said_may_still_be_so() -> None:
    """With 0 of 12 prompts the interval reaches as far as Wilson's does, for a sharp probe."""
    names, groups = ("a", "b", "c"), np.repeat(np.arange(12), 2)
    highs = []
    for right in (9_980, 800):
        wrong = (10_000 - right) // 2 if right > 1000 else (1000 - right) // 2
        counts = np.full((3, 3), wrong) + (right - wrong) * np.eye(3, dtype=int)
        shares = corrected_shares(["a", "b"] * 12, groups, counts, names, rng=rng(), resamples=200)
        assert shares.low is not None and shares.high is not None and shares.estimate is not None
        assert shares.low[2] == 0.0 and shares.estimate[2] == pytest.approx(0, abs=0.01)
        highs.append(shares.high[2])
    assert highs[0] == pytest.approx(wilson(0, 12)[1], abs=0.01) and highs[1] >= highs[0] - 0.05
    always = corrected_shares(["a"] * 24, groups, np.eye(3, dtype=int) * 10_000, names, rng=rng(), resamples=200)
    assert always.low is not None and always.high is not None
    assert always.low[0] == pytest.approx(1 - wilson(0, 12)[1], abs=0.01) and always.high[0] == pytest.approx(1)


def test_never_said_covers_the_truth() -> None:
    """A rare outcome, seldom said at all: the interval holds its true share at least as often as it claims."""
    generator, held = rng(8), 0
    counts = np.array([[970, 20, 10], [20, 970, 10], [10, 10, 980]])
    truth = np.array([0.60, 0.37, 0.03])
    confusion = counts / counts.sum(1, keepdims=True)
    for _ in range(120):
        said = generator.choice(3, p=confusion.T @ truth, size=24 * 2)
        labels = [("a", "b", "c")[i] for i in said]
        shares = corrected_shares(
            labels, np.repeat(np.arange(24), 2), counts, ("a", "b", "c"), rng=generator, resamples=200
        )
        assert shares.low is not None and shares.high is not None
        held += shares.low[2] <= truth[2] <= shares.high[2]
    assert held / 120 >= 0.93


def test_a_weak_probe_corrects_nothing() -> None:
    weak = sensitivity_specificity([1, 1, 0, 0, 1, 0], [1, 1, 1, 0, 0, 0])
    interval = corrected_rate([1, 0, 1], ["x", "y", "z"], weak, rng=rng())
    assert (interval.estimate, interval.low, interval.high) == (None, None, None)
    assert interval.reason is not None and "0.33" in interval.reason
    good = sensitivity_specificity([1, 1, 0, 0], [1, 1, 0, 0])
    assert corrected_rate([None], ["x"], good, rng=rng()).reason == "no label was measured"
    one = corrected_rate([1, 0], ["x", "x"], good, rng=rng())
    assert one.estimate == pytest.approx(0.5) and one.low is None and one.reason is not None


@pytest.mark.parametrize(
    ("labels", "groups", "calibration", "message"),
    [
        (["a", "z"], ["x", "y"], [[9, 1], [1, 9]], "none of"),
        (["a", "b"], ["x"], [[9, 1], [1, 9]], "needs its prompt"),
        (["a", "b"], ["x", "y"], [[9, 1]], "counts are allowed"),
        (["a", "b"], ["x", "y"], [[0.9, 0.1], [0.1, 0.9]], "counts are allowed"),
        (["a", "b"], ["x", "y"], [[9, 1], [0, 0]], "truly 'b'"),
    ],
)
def test_corrected_shares_refuses(labels: Any, groups: Any, calibration: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrected_shares(labels, groups, np.array(calibration), ("a", "b"), rng=rng())


def test_many_rounds_at_once_are_those_one_by_one() -> None:
    from promptlab.stats.calibration import _each_simplex_least_squares, _simplex_least_squares

    rng = np.random.default_rng(5)
    confusions = rng.dirichlet(np.ones(4), size=(60, 4)) * 0.4 + np.eye(4) * 0.6
    confusions[0] = 0.25  # tells nothing, and has no inverse
    said = rng.dirichlet(np.full(4, 0.4), size=60)  # some of which no shares at all can have made
    slow = [_simplex_least_squares(c, q) for c, q in zip(confusions[1:], said[1:], strict=True)]
    assert sum(float(one.min()) == 0 for one in slow) > 5
    quick = _each_simplex_least_squares(confusions[1:], said[1:])
    assert quick == pytest.approx(np.array(slow), abs=1e-9)
    assert np.isfinite(_each_simplex_least_squares(confusions, said)).all()
