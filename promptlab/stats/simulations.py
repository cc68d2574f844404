"""The statistics tested on studies whose truth is known, because it was drawn.

A simulated study has n prompts, m seeds and two arms of yes-or-no outcomes:

    q_j      mean rate of prompt j, uniform with mean `base_rate` and standard deviation `spread`
    delta_j  true effect in prompt j, uniform with mean `effect` and standard deviation `tau`
    a, b     outcomes at rates q_j + delta_j / 2 and q_j - delta_j / 2
    rho      `seed_correlation`: at one seed, with chance rho both arms look at the same uniform number, else at their
             own; two arms of equal rate then correlate by exactly rho

With `effect` 0 every finding is false (an A/A study). With tau > 0 beside it, prompts differ in which arm they favour
but not on average: then the image-level test, which takes n x m pairs for as many facts, finds far too much.

References:
    Ours; the need is argued in Adding Error Bars to Evals, Miller 2024 (arXiv 2411.00640): clustered questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from promptlab.stats.mixed import mixed_effect
from promptlab.stats.paired import paired_effect, wilson
from promptlab.stats.resampling import Floats

__all__ = ["Coverage", "FalsePositives", "coverage", "draw_study", "false_positive_rate"]


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
    own_a, own_b, shared = rng.random((3, n_prompts, n_seeds))
    same = rng.random((n_prompts, n_seeds)) < seed_correlation
    a = np.where(same, shared, own_a) < rate + delta / 2
    b = np.where(same, shared, own_b) < rate - delta / 2
    return a.astype(np.float64), b.astype(np.float64)


def _image_level_p(a: Floats, b: Floats) -> float:
    d = (a - b).ravel()
    spread = d.std(ddof=1)
    return 1.0 if spread == 0 else float(2 * special.ndtr(-abs(d.mean()) / spread * np.sqrt(len(d))))


def false_positive_rate(
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


def coverage(
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
