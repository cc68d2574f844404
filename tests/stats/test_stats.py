"""Estimates against scipy, slow twins and hand computation; and everything that must be refused or left None."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from promptlab.stats.paired import mean_interval, paired_effect, wilson
from promptlab.stats.resampling import bca, pair_prompts, sign_flip

NAN = float("nan")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scipy_bca(
    values: Any, weights: Any = None, *, seed: int, resamples: int = 10_000, expand: bool = True
) -> tuple[float, float]:
    """The same interval by scipy, from the same random numbers."""
    n, level = len(values), 0.95
    if expand:
        level = 1 - 2 * scipy_stats.norm.cdf(scipy_stats.t.ppf(0.025, n - 1) * np.sqrt(n / (n - 1)))

    def pooled(v: Any, w: Any, axis: int = -1) -> Any:
        return (v * w).sum(axis=axis) / w.sum(axis=axis)

    data = (values, np.ones(n) if weights is None else weights)
    found = scipy_stats.bootstrap(
        data, pooled, paired=True, n_resamples=resamples, confidence_level=level, method="BCa", rng=rng(seed)
    )
    return found.confidence_interval.low, found.confidence_interval.high


@pytest.mark.parametrize("expand", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("n", [3, 12, 24, 100])
def test_bca_is_scipys_to_the_last_digits(n: int, weighted: bool, expand: bool) -> None:
    for seed in range(5):
        values = rng(seed).gamma(1.5, size=n) - 1
        if n < 24:  # few draws often repeat the estimate: eighths add up without rounding, so both see that they do
            values = np.round(8 * values) / 8
        weights = rng(seed + 50).integers(1, 9, size=n).astype(float) if weighted else None
        low, high, method = bca(values, weights, rng=rng(10 + seed), expand=expand)
        assert method == "BCa over prompts" + (", expanded" if expand else "")
        assert (low, high) == pytest.approx(scipy_bca(values, weights, seed=10 + seed, expand=expand), abs=1e-9)


def test_bca_of_quarters_is_scipys_but_of_thirds_rounding_must_not_decide() -> None:
    """Resamples that equal the estimate count half, even where a sum of thirds is off in its last digit."""
    whole = rng(1).integers(0, 4, size=12)
    quarters = bca(whole / 4, rng=rng(2))[:2]
    thirds = bca(whole / 3, rng=rng(2))[:2]
    assert quarters == pytest.approx(scipy_bca(whole / 4, seed=2), abs=1e-9)
    assert thirds == pytest.approx([bound * 4 / 3 for bound in quarters], abs=1e-9)


def test_the_expanded_interval_is_as_wide_as_students() -> None:
    d = rng(5).normal(size=12)
    d = np.concatenate([d, -d])
    low, high, _ = bca(d, rng=rng(6), resamples=40_000)
    student = scipy_stats.t.interval(0.95, 23, loc=d.mean(), scale=d.std(ddof=1) / np.sqrt(24))
    assert (low, high) == pytest.approx(student, rel=0.03)


@pytest.mark.parametrize("n", [2, 3])
def test_tiny_studies_give_finite_intervals(n: int) -> None:
    low, high, method = bca(np.arange(n, dtype=float), rng=rng())
    assert 0 <= low < high <= n - 1
    assert "over prompts, expanded" in method


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_exact_sign_flips_equal_scipy_and_the_slow_twin(n: int) -> None:
    d = rng(n).normal(0.4, 1, size=n)
    p, exact = sign_flip(d, rng=rng())
    slow = [abs(np.dot(s, d)) >= abs(d.sum()) - 1e-12 for s in product([-1, 1], repeat=n)]
    twin = scipy_stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert exact
    assert p == pytest.approx(np.mean(slow)) == pytest.approx(twin.pvalue)


def test_drawn_sign_flips_come_close_to_scipy_and_are_never_zero() -> None:
    d = rng(1).normal(0.3, 1, size=40)
    p, exact = sign_flip(d, rng=rng(2), resamples=50_000)
    twin = scipy_stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=50_000, rng=rng(3))
    assert not exact
    assert p == pytest.approx(twin.pvalue, abs=0.01)
    assert sign_flip(np.ones(30), rng=rng(), resamples=999) == (1 / 1000, False)


def test_zeros_neither_help_nor_hurt() -> None:
    d = np.array([1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    padded = np.concatenate([d, np.zeros(500)])
    assert sign_flip(padded, rng=rng()) == sign_flip(d, rng=rng()) == (14 / 64, True)
    assert sign_flip(np.zeros(9), rng=rng()) == (1.0, True)


def test_paired_effect_by_hand() -> None:
    a = [1, 1, 0, 1, True, 1]
    b = [0, 1, 0, 0, False, 0]
    effect = paired_effect(a, b, ["x", "x", "y", "y", "z", "z"], [0, 1, 0, 1, 0, 1], rng=rng())
    # d = (.5, .5, 1); all three point one way: p = 2 / 8.
    assert effect.estimate == pytest.approx(2 / 3)
    assert effect.p == 0.25
    assert effect.dz == pytest.approx((2 / 3) / np.sqrt(1 / 12))
    assert effect.mean_a == pytest.approx(5 / 6)
    assert effect.mean_b == pytest.approx(1 / 6)
    assert (effect.n_groups, effect.n_pairs, effect.n_dropped) == (3, 6, 0)
    assert effect.low is not None and effect.high is not None and 0.5 <= effect.low <= effect.high <= 1
    assert effect.reason is not None and "0.25" in effect.reason


def test_each_prompt_weighs_the_same_and_order_does_not_matter() -> None:
    groups = ["many"] * 8 + ["few"]
    a, b = [1.0] * 8 + [0.0], [0.0] * 8 + [1.0]
    assert paired_effect(a, b, groups, rng=rng()).estimate == 0.0
    shuffle = rng(1).permutation(9)
    again = paired_effect([a[i] for i in shuffle], [b[i] for i in shuffle], [groups[i] for i in shuffle], rng=rng())
    assert again.estimate == 0.0


def test_exchanging_the_arms_turns_the_sign() -> None:
    a, b = rng(1).normal(size=(2, 200))
    groups = np.repeat(np.arange(25), 8)
    one, other = paired_effect(a, b, groups, rng=rng(2)), paired_effect(b, a, groups, rng=rng(2))
    assert one.estimate is not None and other.estimate is not None and one.low is not None and other.high is not None
    assert one.estimate == pytest.approx(-other.estimate)
    assert one.p == other.p
    assert one.low == pytest.approx(-other.high, abs=0.02)


def test_pairs_with_an_arm_unmeasured_are_dropped_and_counted() -> None:
    a = [1.0, None, 1.0, NAN, 0.0]
    b = [0.0, 0.0, NAN, None, 0.0]
    pairs = pair_prompts(a, b, ["x", "x", "y", "y", "z"])
    assert pairs.groups == ("x", "z")
    assert pairs.difference.tolist() == [1.0, 0.0]
    assert (pairs.n_pairs, pairs.n_dropped) == (2, 3)


def test_seed_correlation_is_within_prompts() -> None:
    a = np.array([0.0, 1, 2, 10, 11, 12])
    same = pair_prompts(a, a + 5, list("xxxyyy")).seed_correlation
    against = pair_prompts(a, [2.0, 1, 0, 12, 11, 10], list("xxxyyy")).seed_correlation
    assert same == pytest.approx(1)
    assert against == pytest.approx(-1)
    assert pair_prompts([1.0, 1.0], [0.0, 1.0], ["x", "x"]).seed_correlation is None


@pytest.mark.parametrize(
    ("a", "b", "groups", "estimate", "reason"),
    [
        ([], [], [], None, "no pair"),
        ([None, NAN], [1, 1], ["x", "y"], None, "no pair"),
        ([1, 0], [0, 0], ["x", "x"], 0.5, "one prompt"),
    ],
)
def test_too_little_data_gives_none_with_a_reason(
    a: list[Any], b: list[Any], groups: list[str], estimate: float | None, reason: str
) -> None:
    effect = paired_effect(a, b, groups, rng=rng())
    assert effect.estimate == estimate
    assert (effect.low, effect.high, effect.p, effect.dz) == (None, None, None, None)
    assert effect.reason is not None and reason in effect.reason


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.3, 2 / 2**8)])
def test_equal_differences_give_an_interval_of_no_width(shift: float, p: float) -> None:
    b = rng(1).uniform(size=8)
    effect = paired_effect(b + shift, b, list("abcdefgh"), rng=rng())
    assert effect.low == effect.high == effect.estimate == pytest.approx(shift)
    assert effect.p == pytest.approx(p)
    assert effect.dz is None
    assert effect.reason is not None and "same difference" in effect.reason


@pytest.mark.parametrize(
    ("a", "b", "groups", "seeds", "message"),
    [
        ([1, 0], [1], ["x", "y"], None, "equal lengths"),
        ([1, 0], [1, 0], ["x"], None, "equal lengths"),
        ([1, 0], [1, 0], ["x", "x"], [1], "equal lengths"),
        ([1, 0], [1, 0], ["x", "x"], [1, 1], "comes twice"),
        ([1, float("inf")], [1, 0], ["x", "x"], None, "infinite"),
        (["1", "0"], [1, 0], ["x", "x"], None, "a value is a number"),
        ([1, 0], [1, 0], ["x", None], None, "group is None"),
        ([1, 0], [1, 0], ["x", NAN], None, "group is None or NaN"),
        (np.zeros((2, 2)), np.zeros((2, 2)), ["x", "x"], None, "shape"),
    ],
)
def test_what_is_no_pairing_is_refused(a: Any, b: Any, groups: Any, seeds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_effect(a, b, groups, seeds, rng=rng())


@pytest.mark.parametrize("given", [{"confidence": 1.0}, {"confidence": 0}, {"resamples": 10}])
def test_bad_options_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        paired_effect([1, 0, 1], [0, 0, 1], ["x", "y", "z"], rng=rng(), **given)


def test_the_same_generator_gives_the_same_effect() -> None:
    a, b = rng(1).normal(size=(2, 120))
    groups = np.repeat(np.arange(30), 4)
    assert paired_effect(a, b, groups, rng=rng(7)) == paired_effect(a, b, groups, rng=rng(7))


def test_a_large_study_is_resampled_in_chunks() -> None:
    a, b = rng(1).normal(size=(2, 3000))
    effect = paired_effect(a, b, np.arange(3000), rng=rng(2), resamples=2000)
    error = (a - b).std(ddof=1) / np.sqrt(3000)
    assert effect.low is not None and effect.high is not None
    assert effect.high - effect.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_mean_interval_weighs_prompts_or_images() -> None:
    values, groups = [1] * 8 + [0, 0] + [1, 0], ["x"] * 8 + ["y"] * 2 + ["z"] * 2
    prompts = mean_interval(values, groups, rng=rng())
    images = mean_interval(values, groups, rng=rng(), weigh="images")
    assert prompts.estimate == pytest.approx(0.5)
    assert images.estimate == pytest.approx(9 / 12)
    assert (prompts.n_groups, prompts.n, prompts.n_dropped) == (3, 12, 0)


def test_mean_interval_is_wider_than_wilson_when_pictures_resemble_each_other() -> None:
    rates = rng(1).uniform(size=40)
    values = (rng(2).random((40, 16)) < rates[:, None]).astype(float).ravel()
    interval = mean_interval(values, np.repeat(np.arange(40), 16), rng=rng(3))
    naive = wilson(int(values.sum()), 640)
    assert interval.low is not None and interval.high is not None
    assert interval.high - interval.low > 1.5 * (naive[1] - naive[0])


@pytest.mark.parametrize(
    ("values", "groups", "bounds", "method", "n_dropped"),
    [
        ([1, 1, 0, 1], ["x"] * 4, wilson(3, 4), "Wilson over images", 0),
        ([1, 1, 1, 1, None], list("xxyyy"), wilson(2, 2), "Wilson over prompts", 1),
        ([0, 0, 0], list("xyz"), wilson(0, 3), "Wilson over prompts", 0),
        ([0.2, 0.4], ["x", "x"], (None, None), "none", 0),
        ([None, NAN], ["x", "y"], (None, None), "none", 2),
        ([0.5, 0.5], ["x", "y"], (0.5, 0.5), "degenerate", 0),
    ],
)
def test_mean_interval_where_resampling_sees_no_spread(
    values: list[Any], groups: list[str], bounds: tuple[Any, Any], method: str, n_dropped: int
) -> None:
    interval = mean_interval(values, groups, rng=rng())
    assert (interval.low, interval.high) == bounds
    assert (interval.method, interval.n_dropped) == (method, n_dropped)
    assert interval.reason is not None


def test_mean_interval_refuses() -> None:
    with pytest.raises(ValueError, match="weigh"):
        mean_interval([1, 0], ["x", "y"], rng=rng(), weigh="seeds")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs its prompt"):
        mean_interval([1, 0], ["x"], rng=rng())


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (71, 100), (1, 1)])
def test_wilson_inverts_the_score_test(k: int, n: int) -> None:
    """Each bound is the rate that lies z standard errors, its own, from the share seen; 0 and 1 where nothing is."""
    for confidence in (0.9, 0.95):
        z = scipy_stats.norm.ppf((1 + confidence) / 2)
        for bound, end in zip(wilson(k, n, confidence=confidence), (0.0, 1.0), strict=True):
            if k == n * end:
                assert bound == end
            else:
                assert abs(k / n - bound) == pytest.approx(z * np.sqrt(bound * (1 - bound) / n), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(k, n)
