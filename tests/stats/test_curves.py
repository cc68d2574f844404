"""Curves over a level on planted data: the known answer comes out, its interval covers it, and nulls stay null."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from promptlab.results.findings import burn, needle, specificity, steps
from promptlab.stats.paired import curves_of, mean_finding


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def frame(means: np.ndarray, levels: list[float], seeds: int = 4, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Rows of prompts with the mean curves `means` (n, levels), and noise beside."""
    draw = rng(seed)
    rows = [
        {"prompt_group": f"p{j}", "seed": s, "level": level, "value": means[j, k] + noise * draw.normal()}
        for j in range(len(means))
        for k, level in enumerate(levels)
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


# Tables and means.


def test_curves_average_within_prompts_and_fill_nothing_in() -> None:
    rows = [("a", 1, 2.0), ("a", 1, 4.0), ("a", 2, None), ("b", 1, 0.0), ("b", 2, 1.0), ("b", 2, float("nan"))]
    curves = curves_of(pd.DataFrame(rows, columns=["prompt_group", "level", "value"]))
    assert curves.groups == ("a", "b") and curves.levels.tolist() == [1, 2]
    assert np.isnan(curves.means[0, 1]) and curves.means[0, 0] == 3 and curves.means[1].tolist() == [0, 1]
    assert (curves.n, curves.n_dropped) == (4, 2)
    assert curves.complete().groups == ("b",)
    with pytest.raises(ValueError, match="no level is 5: the table has 1, 2"):
        curves.at(5)


def test_tables_say_what_they_lack() -> None:
    with pytest.raises(ValueError, match=r"no column 'value'.*did you mean 'valu'"):
        curves_of(pd.DataFrame({"prompt_group": [], "level": [], "valu": []}))
    with pytest.raises(ValueError, match="level holds"):
        curves_of(pd.DataFrame({"prompt_group": ["a"], "level": ["high"], "value": [1.0]}))


def test_means_of_too_few_prompts_have_no_interval() -> None:
    nothing, one = mean_finding(np.array([np.nan]), rng=rng(), n=0), mean_finding(np.array([2.0]), rng=rng(), n=3)
    assert nothing.estimate is None and nothing.reason == "no prompt was measured"
    assert one.estimate == 2 and one.low is None and one.p is None and one.reason and "one prompt" in one.reason


# P5, burn.

GUIDANCE = [1.0, 3, 5, 7, 9, 12, 15]


def test_the_burn_point_is_where_the_curve_crosses() -> None:
    means = np.tile(np.array([20.0, 24, 30, 40, 60, 80, 90]), (12, 1))
    found = burn.burn_point(frame(means, GUIDANCE), 50.0, rng=rng())
    assert found.estimate == pytest.approx(8.0) and found.low == found.high == pytest.approx(8.0)
    assert found.p is not None and found.p < 0.001 and found.n_groups == 12 and found.n == 12 * 7 * 4


def test_the_burn_point_lies_beyond_or_before_the_levels() -> None:
    means = np.tile(np.linspace(20, 40, 7), (8, 1))
    beyond = burn.burn_point(frame(means, GUIDANCE), 50.0, rng=rng())
    assert beyond.estimate is None and beyond.high is None and beyond.reason and "up to 15" in beyond.reason
    before = burn.burn_point(frame(means, GUIDANCE), 10.0, rng=rng())
    assert before.estimate == 1 and before.reason and "1 or less" in before.reason


def test_an_uncertain_burn_point_has_an_open_end() -> None:
    draw = rng(3)
    means = np.linspace(20, 50, 7) + draw.normal(0, 10, (10, 1))
    found = burn.burn_point(frame(means, GUIDANCE), float(means.mean(axis=0)[-1] - 0.5), rng=rng())
    assert found.estimate is not None and found.low is not None and found.low < found.estimate
    assert found.high is None and found.reason and found.reason.startswith("the upper bound")


def planted_slopes(draw: np.random.Generator, n: int = 24) -> np.ndarray:
    """Curves 20 + 3 w, each prompt with its own height: the mean crosses 44 at w = 8."""
    return 20 + 3 * np.array(GUIDANCE) + draw.normal(0, 5, (n, 1))


def test_intervals_of_the_burn_point_cover_it() -> None:
    held = 0
    for k in range(100):
        found = burn.burn_point(frame(planted_slopes(rng(k)), GUIDANCE, 1, 3.0, k), 44.0, rng=rng(k))
        held += found.low is not None and found.high is not None and found.low <= 8 <= found.high
    assert held >= 88  # 95 expected; a percentile interval of 24 prompts is a little narrow


def test_the_burn_vector_is_paired() -> None:
    base = frame(np.arange(10.0)[:, None] + np.array([0.0, 2.0]), [1, 9], 3)
    both = pd.concat([base.assign(measure="p95_chroma"), base.assign(measure="clipped_share", value=0.1)])
    found = burn.burn_vector(both, 9, 1, rng=rng())
    assert found["p95_chroma"].estimate == pytest.approx(2) and found["p95_chroma"].n_pairs == 30
    assert found["clipped_share"].estimate == 0 and found["clipped_share"].p == 1
    with pytest.raises(ValueError, match="no pair of levels 9 and 5: it has 1, 9"):
        burn.burn_vector(both, 9, 5, rng=rng())


def test_the_bend_of_a_bent_line() -> None:
    levels = [float(w) for w in range(1, 21)]
    means = np.maximum(np.array(levels) - 8, 0) * 2 + rng(1).normal(0, 1, (20, 1))
    found = burn.bend(frame(means, levels, 2, 0.5), rng=rng())
    assert found.estimate == pytest.approx(8, abs=0.3) and found.low is not None and found.high is not None
    assert found.low <= 8 <= found.high
    assert found.detail["slope_before"] == pytest.approx(0, abs=0.1)
    assert found.detail["slope_after"] == pytest.approx(2, abs=0.1)


def test_thresholds() -> None:
    assert burn.threshold_of([*range(101), None]) == pytest.approx(99)
    with pytest.raises(ValueError, match="no value"):
        burn.threshold_of([None])


# P9, needle.


def test_recall_steps_down_at_the_limit() -> None:
    levels = [5.0, 35, 65, 80, 120]
    means = np.tile([1.0, 1, 1, 0, 0], (10, 1))
    found = needle.recall(frame(means, levels), 76, rng=rng())
    assert [i.estimate for i in found.recall] == [1, 1, 1, 0, 0]
    assert found.step.estimate == 1 and found.slope.estimate == pytest.approx(0) and found.area.estimate == 1


def test_the_slope_of_recall_is_per_ten_tokens_inside_the_window() -> None:
    levels = [0.0, 10, 20, 30, 90]
    means = 0.9 - 0.1 * np.arange(5) + np.linspace(-0.05, 0.05, 8)[:, None]
    means[:, 4] = 0
    found = needle.recall(frame(means, levels), 76, rng=rng())
    assert found.slope.estimate == pytest.approx(-0.1) and found.area.estimate == pytest.approx(0.75)
    assert found.step.estimate == pytest.approx(0.6) and found.step.low is not None and found.step.high is not None
    assert found.step.low <= 0.6 <= found.step.high


def test_recall_without_a_far_side_has_no_step() -> None:
    found = needle.recall(frame(np.ones((4, 2)), [5, 10]), 76, rng=rng())
    assert found.step.estimate is None and found.step.reason and found.slope.estimate == 0


def test_truncated_prompts_give_equal_pictures() -> None:
    rows = [("red cup ,", 0, "aa"), ("red cup ,", 0, "aa"), ("red cup ,", 1, "bb"), ("blue", 0, None), ("blue", 0, "c")]
    table = pd.DataFrame(rows, columns=["kept", "seed", "pixels"])
    assert needle.truncation_equality(table) == needle.Equality(True, 1, 1)
    unlike = pd.concat([table, pd.DataFrame([("red cup ,", 1, "xx")], columns=table.columns)])
    found = needle.truncation_equality(unlike)
    assert found.equal is False and (found.n_pairs, found.n_equal) == (2, 1) and "seed 1" in found.differing[0]
    assert needle.truncation_equality(table[3:]).equal is None


# P10, specificity.


def test_slopes_and_their_control() -> None:
    own = 4 - 0.5 * np.arange(6) + rng(1).normal(0, 1, (12, 1))
    filler = 4 - 0.1 * np.arange(6) + rng(2).normal(0, 1, (12, 1))
    levels = [float(d) for d in range(6)]
    assert specificity.slope(frame(own, levels), rng=rng()).estimate == pytest.approx(-0.5)
    found = specificity.slope(frame(own, levels), frame(filler, levels), rng=rng())
    assert found.estimate == pytest.approx(-0.4) and found.n_groups == 12 and found.p is not None and found.p < 0.01
    with pytest.raises(ValueError, match="control has levels"):
        specificity.slope(frame(own, levels), frame(filler[:, :5], levels[:5]), rng=rng())


# P15, steps.

STEPS = [1.0, 5, 10, 20, 200]


def test_the_knee_and_what_is_enough() -> None:
    accuracy = np.array([0.1, 0.6, 0.79, 0.8, 0.8]) + rng(1).normal(0, 0.05, (30, 1))
    found = steps.convergence(frame(accuracy, STEPS, 4, 0.02), 0.03, rng=rng())
    assert found.knee.estimate == 10 and found.enough == 10 and found.reference == 200
    assert [row.non_inferior for row in found.losses] == [False, False, True, True]
    assert found.losses[0].estimate == pytest.approx(0.7, abs=0.02)


def test_noise_is_no_evidence_of_convergence() -> None:
    flat = np.full((6, 5), 0.5)
    found = steps.convergence(frame(flat, STEPS, 2, 0.5), 0.03, rng=rng())
    assert found.enough is None
    sure = steps.convergence(frame(flat, STEPS), 0.03, rng=rng())
    assert sure.enough == 1 and sure.knee.estimate == 1


def test_distances_to_the_reference() -> None:
    far = np.tile([0.9, 0.3, 0.12, 0.04, 0.0], (8, 1))
    found = steps.convergence(frame(far, STEPS), 0.1, rng=rng(), distance=True)
    assert found.knee.estimate == 20 and found.enough == 20 and len(found.losses) == 5
    never = steps.convergence(frame(far[:, :2], STEPS[:2]), 0.1, rng=rng(), distance=True)
    assert never.knee.estimate is None and never.knee.reason and "even at 5 steps" in never.knee.reason
    with pytest.raises(ValueError, match="margin is 0"):
        steps.convergence(frame(far, STEPS), 0, rng=rng())
