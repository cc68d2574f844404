"""What a design can find before it is run, and what the statistics find where the truth is known because it was drawn.

By formula:

    n        prompts                          m    seeds for each prompt
    sigma^2  variance of one image's value    rho  correlation of the two arms at one shared seed, within a prompt
    tau      standard deviation over prompts of the true effect
    delta    the true mean effect             se   standard error of its estimate

One pair's difference varies by 2 sigma^2 (1 - rho) around its prompt's effect, the mean over m seeds by a m-th of that,
and the prompts' effects themselves vary by tau^2. The mean over n prompts therefore has

    se^2 = (tau^2 + 2 sigma^2 (1 - rho) / m) / n

More seeds shrink only the second part: once tau is large, only more prompts help. A yes-or-no value at base rate q has
sigma^2 = q (1 - q). The smallest detectable difference solves P(|t| > t_crit) = power, where t is noncentral with n - 1
degrees of freedom and noncentrality delta / se. With `large_sample`, the normal stands in: delta = (z_{1-alpha/2} +
z_power) se, which is too hopeful by about 12 % at 10 prompts and 2 % at 50.

Prompts of unequal rates vary less than q (1 - q) within, so a common q errs on the safe side. Against that, arms of
unequal rate cannot correlate as well as equal ones: a shared seed worth rho = .3 without an effect is worth .16 at an
effect of .3. For rates, a promised power of .80 thus comes out at .75 to .79 (`tests/stats/test_power.py` draws it).

By simulation: a drawn study has n prompts, m seeds and two arms of yes-or-no outcomes.

    q_j      mean rate of prompt j, uniform with mean `base_rate` and standard deviation `spread`
    delta_j  true effect in prompt j, uniform with mean `effect` and standard deviation `tau`
    a, b     outcomes at rates q_j + delta_j / 2 and q_j - delta_j / 2
    rho      `seed_correlation`: at one seed, with chance rho both arms look at the same uniform number, else each at
             another; two arms of equal rate then correlate by exactly rho

With `effect` 0 every finding is false (an A/A study). With tau > 0 beside it, prompts differ in which arm they favour
but not on average. The image-level test, which takes n x m pairs for as many facts, then finds far too much.

References:
    Statistical Power Analysis for the Behavioral Sciences, Cohen 1988, ch. 2. The cluster form is derived here.
    Adding Error Bars to Evals, Miller 2024 (arXiv 2411.00640): the need for clustered questions. Simulations: ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special
from scipy import stats as scipy_stats

from promptlab.stats.mixed import mixed_effect
from promptlab.stats.paired import paired_effect, wilson
from promptlab.stats.resampling import Floats

__all__ = [
    "Coverage",
    "FalsePositives",
    "coverage",
    "draw_study",
    "false_positive_rate",
    "power_of",
    "smallest_detectable",
    "standard_error",
]


def standard_error(
    n_prompts: int, n_seeds: int, *, base_rate: float | None, seed_correlation: float, tau: float
) -> float:
    """se of the paired difference; `base_rate` None means a continuous value, in units of its own sigma (sigma = 1)."""
    if n_prompts < 2 or n_seeds < 1:
        raise ValueError(f"{n_prompts} prompts x {n_seeds} seeds: at least 2 prompts and 1 seed are needed")
    if base_rate is not None and not 0 < base_rate < 1:
        raise ValueError(
            f"base_rate is {base_rate}: a rate between 0 and 1, or None for a continuous value, is allowed"
        )
    if not -1 <= seed_correlation <= 1:
        raise ValueError(f"seed_correlation is {seed_correlation}: a correlation in [-1, 1] is allowed")
    if not (np.isfinite(tau) and tau >= 0):
        raise ValueError(f"tau is {tau}: a standard deviation of at least 0 is allowed")
    variance = 1.0 if base_rate is None else base_rate * (1 - base_rate)
    return float(np.sqrt((tau**2 + 2 * variance * (1 - seed_correlation) / n_seeds) / n_prompts))


def power_of(effect: float, error: float, n_prompts: int, *, alpha: float = 0.05) -> float:
    """Chance that a two-sided paired t-test over `n_prompts` finds a true mean `effect` whose estimate has `error`."""
    critical = scipy_stats.t.isf(alpha / 2, n_prompts - 1)
    centre = abs(effect) / error
    above = scipy_stats.nct.sf(critical, n_prompts - 1, centre)
    below = scipy_stats.nct.cdf(-critical, n_prompts - 1, centre)
    # Far out in the other tail scipy's nct.cdf returns NaN where the chance is 0 to many digits.
    return float(above + np.nan_to_num(below))


def smallest_detectable(
    n_prompts: int,
    n_seeds: int,
    *,
    base_rate: float | None = 0.5,
    seed_correlation: float = 0.3,
    tau: float = 0.1,
    power: float = 0.8,
    alpha: float = 0.05,
    large_sample: bool = False,
) -> float | None:
    """Smallest true paired difference that the design finds with chance `power` at two-sided level `alpha`.

    In the unit of the value: a difference of rates, or of standard deviations where `base_rate` is None. None if no
    difference of rates up to 1 would be found.
    """
    if not 0 < alpha < power < 1:
        raise ValueError(f"alpha is {alpha} and power {power}: 0 < alpha < power < 1 is allowed")
    error = standard_error(n_prompts, n_seeds, base_rate=base_rate, seed_correlation=seed_correlation, tau=tau)
    if error == 0:
        return 0.0
    if large_sample:
        ratio = float(special.ndtri(1 - alpha / 2) + special.ndtri(power))
    else:
        most = 2.0 * float(scipy_stats.t.isf(alpha / 2, n_prompts - 1) + scipy_stats.t.ppf(power, n_prompts - 1)) + 2.0
        ratio = float(optimize.brentq(lambda c: power_of(c, 1.0, n_prompts, alpha=alpha) - power, 0.0, most))
    smallest = ratio * error
    return smallest if base_rate is None or smallest <= 1 else None


@dataclass(frozen=True)
class FalsePositives:
    """Shares of A/A studies in which a difference was found; `low`, `high` is Wilson's interval of `paired`.

    Attributes:
        paired: sign-flip p below alpha (the prompt is the unit).
        interval: the 1 - alpha bootstrap interval over prompts leaves out 0.
        image_level: a paired z-test over all pictures, prompts ignored, has p below alpha.
        mixed: the mixed model of `promptlab.stats.mixed` has p below alpha.
    """

    paired: float
    low: float
    high: float
    interval: float
    image_level: float
    mixed: float
    simulations: int


@dataclass(frozen=True)
class Coverage:
    """Share of studies whose interval holds the planted effect, with Wilson's interval; power; bias; mean width."""

    coverage: float
    low: float
    high: float
    power: float
    bias: float
    width: float
    simulations: int


def draw_study(
    *,
    n_prompts: int,
    n_seeds: int,
    base_rate: float,
    spread: float,
    effect: float,
    tau: float,
    seed_correlation: float,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Outcomes of both arms, each (n_prompts, n_seeds) of 0.0 and 1.0, at rates that need no clipping."""
    if n_prompts < 2 or n_seeds < 1:
        raise ValueError(f"{n_prompts} prompts x {n_seeds} seeds: at least 2 prompts and 1 seed are needed")
    if not 0 <= seed_correlation <= 1:
        raise ValueError(f"seed_correlation is {seed_correlation}: a share in [0, 1] is allowed")
    if spread < 0 or tau < 0:
        raise ValueError(f"spread is {spread} and tau {tau}: standard deviations of at least 0 are allowed")
    reach = np.sqrt(3) * spread + (abs(effect) + np.sqrt(3) * tau) / 2
    if not reach <= base_rate <= 1 - reach:
        raise ValueError(f"rates reach {base_rate} +- {reach:.3f}, beyond 0 or 1: lower spread, effect or tau")
    rate = base_rate + spread * np.sqrt(3) * rng.uniform(-1, 1, size=(n_prompts, 1))
    delta = effect + tau * np.sqrt(3) * rng.uniform(-1, 1, size=(n_prompts, 1))
    unshared_a, unshared_b, shared = rng.random((3, n_prompts, n_seeds))
    same = rng.random((n_prompts, n_seeds)) < seed_correlation
    a = np.where(same, shared, unshared_a) < rate + delta / 2
    b = np.where(same, shared, unshared_b) < rate - delta / 2
    return a.astype(np.float64), b.astype(np.float64)


def _image_level_p(a: Floats, b: Floats) -> float:
    d = (a - b).ravel()
    spread = d.std(ddof=1)
    return 1.0 if spread == 0 else float(2 * special.ndtr(-abs(d.mean()) / spread * np.sqrt(len(d))))


def false_positive_rate(  # noqa: PLR0913 (a simulated design)
    *,
    n_prompts: int = 24,
    n_seeds: int = 8,
    base_rate: float = 0.5,
    spread: float = 0.15,
    tau: float = 0.25,
    seed_correlation: float = 0.3,
    alpha: float = 0.05,
    simulations: int = 1000,
    resamples: int = 999,
    rng: np.random.Generator,
) -> FalsePositives:
    """A/A studies: how often something is found where nothing is. Good machinery answers `alpha`."""
    groups, seeds = np.repeat(np.arange(n_prompts), n_seeds), np.tile(np.arange(n_seeds), n_prompts)
    found = np.zeros(4, dtype=np.int64)
    for _ in range(simulations):
        a, b = draw_study(
            n_prompts=n_prompts,
            n_seeds=n_seeds,
            base_rate=base_rate,
            spread=spread,
            effect=0.0,
            tau=tau,
            seed_correlation=seed_correlation,
            rng=rng,
        )
        result = paired_effect(a.ravel(), b.ravel(), groups, rng=rng, resamples=resamples, confidence=1 - alpha)
        if result.p is None or result.low is None or result.high is None:
            raise AssertionError(f"a complete study gave no interval: {result.reason}")
        model = mixed_effect(a.ravel(), b.ravel(), groups, seeds).p
        by_model = model is not None and model < alpha
        found += (result.p < alpha, not result.low <= 0 <= result.high, _image_level_p(a, b) < alpha, by_model)
    low, high = wilson(int(found[0]), simulations)
    paired, interval, image_level, mixed = (float(share) for share in found / simulations)
    return FalsePositives(paired, low, high, interval, image_level, mixed, simulations)


def coverage(  # noqa: PLR0913 (a simulated design)
    *,
    n_prompts: int = 24,
    n_seeds: int = 8,
    base_rate: float = 0.5,
    spread: float = 0.1,
    effect: float = 0.2,
    tau: float = 0.15,
    seed_correlation: float = 0.3,
    alpha: float = 0.05,
    simulations: int = 1000,
    resamples: int = 999,
    rng: np.random.Generator,
) -> Coverage:
    """Studies with a planted `effect`: how often the 1 - alpha interval holds it, and how often it is found."""
    groups = np.repeat(np.arange(n_prompts), n_seeds)
    held = found = 0
    error = width = 0.0
    for _ in range(simulations):
        a, b = draw_study(
            n_prompts=n_prompts,
            n_seeds=n_seeds,
            base_rate=base_rate,
            spread=spread,
            effect=effect,
            tau=tau,
            seed_correlation=seed_correlation,
            rng=rng,
        )
        result = paired_effect(a.ravel(), b.ravel(), groups, rng=rng, resamples=resamples, confidence=1 - alpha)
        if result.p is None or result.low is None or result.high is None or result.estimate is None:
            raise AssertionError(f"a complete study gave no interval: {result.reason}")
        held += result.low <= effect <= result.high
        found += result.p < alpha
        error += result.estimate - effect
        width += result.high - result.low
    low, high = wilson(held, simulations)
    total = simulations
    return Coverage(held / total, low, high, found / total, error / total, width / total, total)
