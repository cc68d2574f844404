"""The statistics on drawn studies of known truth: false positives, coverage, and what the image-level test would do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from promptlab.stats.power import coverage, draw_study, false_positive_rate

DESIGN: dict[str, Any] = {"n_prompts": 400, "n_seeds": 50, "base_rate": 0.5, "spread": 0.1, "seed_correlation": 0.3}


def test_a_drawn_study_has_the_stated_truth() -> None:
    a, b = draw_study(effect=0.2, tau=0.1, rng=np.random.default_rng(0), **DESIGN)
    assert a.shape == b.shape == (400, 50)
    assert set(np.unique(a)) == {0.0, 1.0}
    assert (a - b).mean() == pytest.approx(0.2, abs=0.02)
    assert (a + b).mean() / 2 == pytest.approx(0.5, abs=0.02)
    d = (a - b).mean(axis=1)
    # Variance of the prompts' means: tau^2 and the noise of 50 seeds.
    noise = (a - b).var(axis=1, ddof=1).mean() / 50
    assert np.sqrt(d.var(ddof=1) - noise) == pytest.approx(0.1, abs=0.02)


def test_shared_seeds_correlate_as_stated() -> None:
    rest = {**DESIGN, "spread": 0.0}
    a, b = draw_study(effect=0.0, tau=0.0, rng=np.random.default_rng(1), **rest)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(0.3, abs=0.03)


def test_false_positives_are_five_in_a_hundred() -> None:
    result = false_positive_rate(simulations=1000, rng=np.random.default_rng(0))
    assert 0.03 <= result.paired <= 0.07
    assert 0.03 <= result.interval <= 0.07
    assert result.low <= 0.05 <= result.high
    assert result.image_level > 0.15


def test_the_image_level_test_gets_worse_with_seeds_and_ours_does_not() -> None:
    result = false_positive_rate(n_seeds=32, simulations=1000, rng=np.random.default_rng(1))
    assert 0.03 <= result.paired <= 0.07
    assert result.image_level > 0.40


def test_without_differences_between_prompts_both_are_right() -> None:
    result = false_positive_rate(tau=0.0, simulations=1000, rng=np.random.default_rng(2))
    assert result.paired <= 0.07
    assert 0.03 <= result.image_level <= 0.07


@pytest.mark.parametrize(
    "design",
    [
        {},
        {"n_prompts": 10},
        {"n_prompts": 60, "n_seeds": 4},
        {"base_rate": 0.2, "effect": 0.1, "tau": 0.05, "spread": 0.05},
    ],
)
def test_the_interval_holds_the_planted_effect(design: dict[str, Any]) -> None:
    result = coverage(simulations=1000, rng=np.random.default_rng(3), **design)
    assert result.coverage >= 0.93
    assert abs(result.bias) < 0.01


def test_power_grows_with_prompts() -> None:
    few, many = (coverage(n_prompts=n, simulations=300, rng=np.random.default_rng(4)).power for n in (8, 24))
    assert few < many


def test_the_same_generator_gives_the_same_rates() -> None:
    first, second = (false_positive_rate(simulations=20, rng=np.random.default_rng(5)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_prompts": 1}, "at least 2 prompts"),
        ({"n_seeds": 0}, "1 seed"),
        ({"seed_correlation": -0.1}, "seed_correlation"),
        ({"spread": -0.1}, "standard deviations"),
        ({"tau": 0.6}, "beyond 0 or 1"),
        ({"base_rate": 0.05}, "beyond 0 or 1"),
    ],
)
def test_impossible_studies_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_study(**{**DESIGN, "effect": 0.1, "tau": 0.1, **given}, rng=np.random.default_rng(0))
