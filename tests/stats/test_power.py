"""The smallest detectable difference: the published table, the derivation, and studies drawn at that very effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from promptlab.stats.power import draw_study, power_of, smallest_detectable, standard_error

DESIGNS = [(10, 4), (20, 8), (50, 4), (50, 8), (50, 16), (100, 8), (300, 16)]


@pytest.mark.parametrize(
    ("options", "table"),
    [
        ({"tau": 0.1}, [0.277, 0.145, 0.124, 0.092, 0.071, 0.065, 0.029]),
        ({"tau": 0.2}, [0.316, 0.181, 0.141, 0.115, 0.099, 0.081, 0.040]),
        (
            {"base_rate": None, "seed_correlation": 0.5, "tau": 0.3},
            [0.517, 0.290, 0.231, 0.184, 0.155, 0.130, 0.063],
        ),
    ],
)
def test_the_large_sample_table(options: dict[str, Any], table: list[float]) -> None:
    found = [smallest_detectable(n, m, large_sample=True, **options) for n, m in DESIGNS]
    np.testing.assert_allclose(np.array(found, dtype=float), table, atol=6e-4)


def test_by_hand() -> None:
    # 50 x 8, rates at .5, rho .3, tau .1: se^2 = (.01 + 2 (.25)(.7)/8) / 50 = .001075.
    error = standard_error(50, 8, base_rate=0.5, seed_correlation=0.3, tau=0.1)
    assert error**2 == pytest.approx(0.001075)
    assert smallest_detectable(50, 8, large_sample=True) == pytest.approx(2.80159 * error, rel=1e-5)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 24, 100, 1000])
def test_small_studies_pay_for_the_t_distribution(n: int) -> None:
    options: dict[str, Any] = {"base_rate": None, "seed_correlation": 0.5, "tau": 0.3}
    exact = smallest_detectable(n, 8, **options)
    hopeful = smallest_detectable(n, 8, large_sample=True, **options)
    assert exact is not None and hopeful is not None and exact > hopeful
    error = standard_error(n, 8, **options)
    assert power_of(exact, error, n) == pytest.approx(0.8, abs=1e-6)
    if n == 10:
        assert exact / hopeful == pytest.approx(1.124, abs=0.005)
    if n == 1000:
        assert exact / hopeful == pytest.approx(1, abs=0.002)


def test_prompts_buy_more_than_seeds_once_effects_vary() -> None:
    base, seeds, prompts = (smallest_detectable(n, m, tau=0.2) for n, m in [(50, 8), (50, 16), (100, 8)])
    assert base is not None and seeds is not None and prompts is not None
    assert prompts < seeds < base


def test_power_at_no_effect_is_alpha() -> None:
    assert power_of(0.0, 1.0, 12, alpha=0.05) == pytest.approx(0.05)


@pytest.mark.parametrize(("n", "m"), [(5, 4), (10, 4), (24, 8)])
def test_drawn_continuous_studies_find_it_with_the_promised_power(n: int, m: int) -> None:
    effect = smallest_detectable(n, m, base_rate=None, seed_correlation=0.5, tau=0.3)
    assert effect is not None
    rng = np.random.default_rng(3)
    # Each arm is unit-variance noise, half of it from the shared seed: the shared half cancels in the difference.
    own = rng.normal(size=(8000, n, m, 2)) * np.sqrt(0.5)
    d = effect + 0.3 * rng.normal(size=(8000, n)) + (own[..., 0] - own[..., 1]).mean(axis=2)
    p = scipy_stats.ttest_1samp(d, 0.0, axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("n", "m", "tau"), [(10, 4, 0.1), (24, 8, 0.1), (24, 8, 0.2), (100, 8, 0.1)])
def test_drawn_rates_come_close(n: int, m: int, tau: float) -> None:
    effect = smallest_detectable(n, m, tau=tau)
    assert effect is not None
    rng = np.random.default_rng(3)
    options: dict[str, Any] = {"n_prompts": n, "n_seeds": m, "base_rate": 0.5, "spread": 0.0, "tau": tau}
    draws = [draw_study(effect=effect, seed_correlation=0.3, rng=rng, **options) for _ in range(3000)]
    d = np.array([(a - b).mean(axis=1) for a, b in draws])
    p = scipy_stats.ttest_1samp(d, 0.0, axis=1).pvalue
    # Arms of unequal rate correlate less than rho, so rates fall a little short of .80 (module docstring).
    assert 0.74 <= (p < 0.05).mean() <= 0.82


def test_nothing_to_find_and_nothing_findable() -> None:
    assert smallest_detectable(10, 4, seed_correlation=1.0, tau=0.0) == 0.0
    assert smallest_detectable(2, 1, tau=0.3) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_prompts": 1}, "at least 2 prompts"),
        ({"n_seeds": 0}, "1 seed"),
        ({"base_rate": 0.0}, "base_rate"),
        ({"base_rate": 1.5}, "base_rate"),
        ({"seed_correlation": 1.1}, "seed_correlation"),
        ({"tau": -0.1}, "tau"),
        ({"tau": float("nan")}, "tau"),
        ({"alpha": 0.0}, "alpha"),
        ({"power": 1.0}, "power"),
        ({"power": 0.01}, "power"),
    ],
)
def test_impossible_designs_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smallest_detectable(**{"n_prompts": 20, "n_seeds": 8, **given})
