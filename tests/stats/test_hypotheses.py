"""Multiplicity, equivalence, trend and effect sizes, against scipy and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from promptlab.stats.hypotheses import benjamini_hochberg, cliffs_delta, holm, odds_ratio, page_trend, tost


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9, 0.5]).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert holm([0.02]).tolist() == [0.02]


def test_holm_is_between_raw_and_bonferroni_and_keeps_the_order() -> None:
    p = rng().uniform(size=14) ** 3
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(1, 14 * p)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_benjamini_hochberg_equals_scipy() -> None:
    p = rng().uniform(size=40) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), scipy_stats.false_discovery_control(p))


@pytest.mark.parametrize("p", [[], [1.1], [-0.1], [float("nan")], [None, 0.2]])
def test_what_is_no_p_value_is_refused(p: Any) -> None:
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="p-value"):
            adjust(p)


def test_tost_equals_two_t_tests() -> None:
    a, b = rng(1).normal(0.5, 0.1, size=(2, 160))
    groups = np.repeat(np.arange(20), 8)
    d = (a - b).reshape(20, 8).mean(axis=1)
    result = tost(a, b, groups, margin=0.04)
    above = scipy_stats.ttest_1samp(d, -0.04, alternative="greater").pvalue
    below = scipy_stats.ttest_1samp(d, 0.04, alternative="less").pvalue
    assert result.p == pytest.approx(max(above, below))
    interval = scipy_stats.ttest_1samp(d, 0).confidence_interval(0.9)
    assert result.low == pytest.approx(interval.low)
    assert result.high == pytest.approx(interval.high)
    assert result.equivalent == (abs(interval.low) < 0.04 and abs(interval.high) < 0.04)


def test_tost_without_spread_or_data() -> None:
    same = [0.3, 0.5, 0.9]
    exact = tost(same, same, list("xyz"), margin=0.02)
    assert (exact.estimate, exact.p, exact.equivalent) == (0.0, 0.0, True)
    far = tost([1, 1, 1], [0, 0, 0], list("xyz"), margin=0.02)
    assert (far.p, far.equivalent) == (1.0, False)
    for values, reason in (([1.0], "one prompt"), ([None], "no pair")):
        none = tost(values, [0.0], ["x"], margin=0.1)
        assert (none.p, none.equivalent) == (None, None)
        assert none.reason is not None and reason in none.reason


@pytest.mark.parametrize("given", [{"margin": 0}, {"margin": -1}, {"margin": float("nan")}, {"alpha": 0.6}])
def test_tost_refuses(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        tost([1, 0], [0, 0], ["x", "y"], **{"margin": 0.1, **given})


def test_page_equals_scipy_without_ties() -> None:
    values = rng(3).normal(size=(8, 5)) + np.arange(5) * 0.25
    trend = page_trend(values, rng=rng(4), resamples=40_000)
    twin = scipy_stats.page_trend_test(values, method="exact")
    assert trend.statistic == twin.statistic
    assert trend.p == pytest.approx(twin.pvalue, abs=0.003)


def test_page_holds_its_level_under_ties_and_reads_the_direction() -> None:
    p = [page_trend(rng(s).integers(0, 2, size=(12, 5)), rng=rng(s), resamples=400).p for s in range(400)]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.08
    rising = np.tile(np.arange(6.0), (10, 1))
    up, down = page_trend(rising, rng=rng()), page_trend(rising[:, ::-1], rng=rng())
    assert up.correlation == pytest.approx(1)
    assert down.correlation == pytest.approx(-1)
    assert up.p == 1 / 10_001 and down.p == 1.0
    flat = page_trend(np.ones((4, 3)), rng=rng())
    assert (flat.p, flat.correlation) == (1.0, None)


@pytest.mark.parametrize("values", [np.ones((4, 2)), np.ones(5), np.ones((0, 4)), np.full((3, 3), np.nan)])
def test_page_refuses(values: Any) -> None:
    with pytest.raises(ValueError, match="values has"):
        page_trend(values, rng=rng())


def test_cliffs_delta_by_hand() -> None:
    assert cliffs_delta([3, 4], [1, 2]) == 1.0
    assert cliffs_delta([1, 2], [1, 2]) == 0.0
    assert cliffs_delta([1, 2, 3], [2]) == 0.0
    assert cliffs_delta([1, 3], [2, 4, 0]) == pytest.approx((1 - 2 + 2 - 1) / 6)
    a, b = rng(1).integers(0, 5, size=(2, 30))
    assert cliffs_delta(a, b) == pytest.approx(np.sign(a[:, None] - b).mean())
    for bad in ([], [None]):
        with pytest.raises(ValueError, match="at least one"):
            cliffs_delta(bad, [1.0])


def test_odds_ratio_by_hand() -> None:
    groups = np.repeat(np.arange(40), 4)
    a, b = np.tile([1, 1, 1, 0], 40), np.tile([1, 0, 0, 0], 40)
    same = odds_ratio(a, b, groups, rng=rng())
    assert all(value == pytest.approx(9) for value in (same.estimate, same.low, same.high))
    a = (rng(1).random(400) < 0.7).astype(int)
    b = (rng(2).random(400) < 0.4).astype(int)
    result = odds_ratio(a, b, np.arange(400), rng=rng(3))
    table = [[a.sum(), 400 - a.sum()], [b.sum(), 400 - b.sum()]]
    twin = scipy_stats.contingency.odds_ratio(table, kind="sample").confidence_interval(0.95)
    assert result.low is not None and result.high is not None
    assert (result.low, result.high) == pytest.approx((twin.low, twin.high), rel=0.08)


@pytest.mark.parametrize(
    ("a", "b", "groups", "estimate", "reason"),
    [
        ([1, 1], [0, 1], ["x", "y"], None, "0 or 1"),
        ([None], [1], ["x"], None, "no pair"),
        ([1, 0], [0, 1], ["x", "x"], 1.0, "one prompt"),
        ([1, 0], [0, 1], ["x", "y"], 1.0, "bound"),
    ],
)
def test_odds_that_do_not_exist_are_none(a: Any, b: Any, groups: Any, estimate: float | None, reason: str) -> None:
    result = odds_ratio(a, b, groups, rng=rng())
    assert result.estimate == estimate
    assert result.low is None and result.high is None
    assert result.reason is not None and reason in result.reason


def test_odds_of_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="yes against no"):
        odds_ratio([0.5], [1], ["x"], rng=rng())
