"""The mixed model: the same paired differences with prompts and seeds both taken as drawn from many.

    d_jsk = b + u_j + v_s + e_jsk     difference of prompt j at seed s (k: other levels), u, v, e independent, mean 0
    shares                            var(u), var(v), var(e) over their sum: what prompt, seed and the rest make differ
    se, df                            standard error of b, and Satterthwaite's degrees of freedom of its square

It is the cross-check of `promptlab.stats.paired`, which resamples prompts alone and speaks of the given seeds. Here the
interval b +- t(df) se speaks of other seeds too, at the price of normal effects. Differences of yes-or-no measures are
thus taken for numbers (a linear model of risk differences). Variances are fitted by restricted maximum likelihood
(REML), exactly, for any crossing of prompts and seeds; a variance may come out as 0. The tests fit the same model with
MixedLM of statsmodels, which has normal quantiles in place of t and often does not converge where a variance is near 0.

With one seed, one pair in each prompt, or one prompt in each seed, that variance cannot be told from the rest: its
share is None, and the rest holds it.

References:
    Patterson and Thompson 1971 (REML). Satterthwaite 1946; Fai and Cornelius 1996 (its degrees of freedom).
    Barr et al. 2013, Random Effects Structure for Confirmatory Hypothesis Testing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, optimize
from scipy import stats as scipy_stats

from promptlab.stats.resampling import Floats, Groups, Values, numbers_of, positions_of

__all__ = ["Mixed", "mixed_effect"]

FINEST = 1e-8
"""Ratios of variances, times pairs in a level, that count as 0."""
FEW = 4
"""Degrees of freedom below which the interval is named with its reason."""
MOST = 18.0
"""Log of the largest ratio that is tried."""


@dataclass(frozen=True)
class Mixed:
    """A paired difference by the mixed model. None where the data cannot give a number; `reason` says why.

    `low`, `high` is the interval, `p` two-sided, of b = 0. The shares are of the variance of a single difference,
    `residual_sd` is in the measure's unit. `n_dropped` pairs lacked an arm.
    """

    n_prompts: int
    n_seeds: int
    n_pairs: int
    n_dropped: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    df: float | None = None
    prompt_share: float | None = None
    seed_share: float | None = None
    residual_share: float | None = None
    residual_sd: float | None = None
    confidence: float = 0.95
    method: str = "REML, Satterthwaite"
    reason: str | None = None


def mixed_effect(
    values_a: Values, values_b: Values, prompts: Groups, seeds: Groups, *, confidence: float = 0.95
) -> Mixed:
    """The difference a - b of pairs (n,), each with its prompt and seed. Raises ValueError for unequal lengths.

    A value that is None or NaN was not measured: its pair is dropped and counted.
    """
    a, b = numbers_of(values_a, "values_a"), numbers_of(values_b, "values_b")
    if not len(a) == len(b) == len(prompts) == len(seeds):
        raise ValueError(
            f"pairs need equal lengths: {len(a)} values_a, {len(b)} values_b, {len(prompts)} prompts, "
            f"{len(seeds)} seeds"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: a share between 0 and 1, such as 0.95, is allowed")
    kept = ~(np.isnan(a) | np.isnan(b))
    d = (a - b)[kept]
    sides = [np.unique(positions_of(labels)[1][kept], return_inverse=True)[1] for labels in (prompts, seeds)]
    counts = [int(side.max()) + 1 if len(side) else 0 for side in sides]
    blank = Mixed(counts[0], counts[1], len(d), int((~kept).sum()), confidence=confidence)
    if not len(d):
        return replace(blank, method="none", reason="no pair was measured in both arms")
    blank = replace(blank, estimate=float(d.mean()), method="none")
    if counts[0] < 2:
        return replace(blank, reason="one prompt: an interval over prompts needs at least 2")
    if np.ptp(d) <= 1e-12 * max(1.0, float(np.abs(d).max())):
        return replace(blank, reason="every pair shows the same difference: there is no variance to share out")
    told = [1 < count < len(d) for count in counts]
    if told[0] and told[1] and np.array_equal(sides[0], sides[1]):
        told[1] = False  # each prompt has a seed of its own: the two are one
    fitted = _fit(d, [side for side, tell in zip(sides, told, strict=True) if tell])
    total = fitted.variances.sum()
    shares: list[float | None] = [None, None]
    for place, variance in zip(np.flatnonzero(told), fitted.variances[:-1], strict=True):
        shares[place] = float(variance / total)
    reach = float(scipy_stats.t.ppf((1 + confidence) / 2, fitted.df)) * fitted.se
    few = f"df {fitted.df:.1f}: so few prompts or seeds say little of others, and the interval is as wide"
    hidden = [name for name, tell in zip(("prompt", "seed"), told, strict=True) if not tell]
    return replace(
        blank,
        estimate=fitted.estimate,
        low=fitted.estimate - reach,
        high=fitted.estimate + reach,
        p=float(2 * scipy_stats.t.sf(abs(fitted.estimate) / fitted.se, fitted.df)),
        df=fitted.df,
        prompt_share=shares[0],
        seed_share=shares[1],
        residual_share=float(fitted.variances[-1] / total),
        residual_sd=float(np.sqrt(fitted.variances[-1])),
        method="REML, Satterthwaite",
        reason=f"{' and '.join(hidden)} cannot be told from the rest in this design"
        if hidden
        else few
        if fitted.df < FEW
        else None,
    )


@dataclass(frozen=True)
class _Fit:
    """`variances` of the factors, in order, and of the residual."""

    estimate: float
    se: float
    df: float
    variances: Floats


class _Likelihood:
    """REML of d (n,) given ratios of the factors' variances to the residual's, in numbers of levels, not of pairs.

    V / residual variance = I + Z L Z', Z the factors' indicators; all products are those of Z with itself, 1 and d.
    """

    def __init__(self, d: Floats, factors: list[np.ndarray]) -> None:
        sizes = [int(side.max()) + 1 for side in factors]
        self.which = np.repeat(np.arange(len(sizes)), sizes)
        z = np.zeros((len(d), sum(sizes)))
        for side, start in zip(factors, np.cumsum([0, *sizes]), strict=False):
            z[np.arange(len(d)), start + side] = 1.0
        self.n, self.zz = len(d), z.T @ z
        # the mean is put back in the end: less is lost to rounding
        self.mean = float(d.mean())
        right = np.stack([np.ones(len(d)), d - self.mean], axis=1)
        self.zr, self.rr = z.T @ right, right.T @ right

    def products(self, ratios: Floats) -> tuple[Floats, float, Floats, Floats]:
        """(1, d)' W (1, d), log det of V / residual variance, Z' W Z and Z' W (1, d), where W is its inverse."""
        root = np.sqrt(ratios)[self.which]
        inner = np.eye(len(root)) + root[:, None] * self.zz * root
        factor = linalg.cholesky(inner, lower=True, check_finite=False)
        sides = root[:, None] * np.column_stack([self.zr, self.zz])
        half = linalg.solve_triangular(factor, sides, lower=True, check_finite=False)
        right, zz = half[:, :2], half[:, 2:]
        log_det = 2 * float(np.log(np.diag(factor)).sum())
        return self.rr - right.T @ right, log_det, self.zz - zz.T @ zz, self.zr - zz.T @ right

    def deviance(self, ratios: Floats) -> tuple[float, Floats]:
        """-2 log of the restricted likelihood, but for a constant, and its slope in each ratio."""
        both, log_det, zwz, zw = self.products(ratios)
        mean = both[0, 1] / both[0, 0]
        rest = both[1, 1] - both[0, 1] * mean
        value = float((self.n - 1) * np.log(rest) + log_det + np.log(both[0, 0]))
        each = np.diag(zwz) - zw[:, 0] ** 2 / both[0, 0] - (self.n - 1) * (zw[:, 1] - mean * zw[:, 0]) ** 2 / rest
        slope: Floats = np.bincount(self.which, weights=each, minlength=len(ratios)).astype(np.float64)
        return value, slope


def _fit(d: Floats, factors: list[np.ndarray]) -> _Fit:
    model = _Likelihood(d, factors)
    ratios = np.zeros(len(factors))
    if factors:
        # scaled by pairs in a level, and by log(1 + x): of one size, and with a slope at 0, where many end
        sizes = np.array([len(d) / (side.max() + 1) for side in factors])

        def at(scaled: Floats) -> tuple[float, Floats]:
            value, slope = model.deviance(np.expm1(scaled) / sizes)
            return value, slope * np.exp(scaled) / sizes

        options = {"ftol": 1e-14, "gtol": 1e-9}
        bounds = [(0.0, MOST)] * len(factors)
        best = optimize.minimize(at, np.ones(len(factors)), method="L-BFGS-B", jac=True, bounds=bounds, options=options)
        ratios = np.where(best.x > FINEST, np.expm1(best.x) / sizes, 0.0)
    both, _, zwz, zw = model.products(ratios)
    estimate = float(both[0, 1] / both[0, 0])
    residual = float((both[1, 1] - both[0, 1] ** 2 / both[0, 0]) / (model.n - 1))
    variances = np.append(ratios, 1.0) * residual
    se = float(np.sqrt(residual / both[0, 0]))
    return _Fit(estimate + model.mean, se, _degrees(model, variances, both[0, 0], zwz, zw[:, 0]), variances)


def _degrees(model: _Likelihood, variances: Floats, weight: float, zwz: Floats, zw: Floats) -> float:
    """Satterthwaite's degrees of freedom of the squared error of b, by the expected information of the variances.

    With P = W - W 1 1' W / (1' W 1), information[i, j] = tr(P Z_i Z_i' P Z_j Z_j') / 2, and the residual's Z is the
    identity; that row follows from P V P = P. Variances that came out as 0 are taken as known.
    """
    residual = variances[-1]
    inside = (zwz - np.outer(zw, zw) / weight) / residual  # Z' P Z
    square = inside**2
    k = len(variances) - 1
    info = np.zeros((k + 1, k + 1))
    slope = np.zeros(k + 1)
    for i in range(k):
        own = model.which == i
        for j in range(k):
            info[i, j] = square[np.ix_(own, model.which == j)].sum()
        # d var(b) / d variance_i = |Z_i' W 1|^2 / (1' W 1)^2, in which the residual variance cancels
        slope[i] = (zw[own] ** 2).sum() / weight**2
    # P V P = P gives tr(Z_i' P P Z_i) and tr(P P) from products already made
    for i in range(k):
        own = model.which == i
        held = sum(variances[j] * info[i, j] for j in range(k))
        info[i, k] = info[k, i] = (np.trace(inside[np.ix_(own, own)]) - held) / residual
    traces = sum(variances[i] * np.trace(inside[np.ix_(model.which == i, model.which == i)]) for i in range(k))
    held = sum(variances[i] * info[i, k] for i in range(k))
    info[k, k] = ((model.n - 1 - traces) / residual - held) / residual
    error = residual / weight
    # var(b) is linear of degree 1 in the variances, so the residual's slope is what is left
    slope[k] = (error - (slope[:k] * variances[:k]).sum()) / residual
    free = np.append(variances[:-1] > 0, True)
    covariance = np.linalg.inv(info[np.ix_(free, free)] / 2)
    spread = float(slope[free] @ covariance @ slope[free])
    return float(np.clip(2 * error**2 / spread, 1.0, model.n - 1))
