"""What a design can find, before it is run.

    n        prompts                          m    seeds for each prompt
    sigma^2  variance of one picture's value  rho  correlation of the two arms at one shared seed, within a prompt
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
effect of .3. For rates, a promised power of .80 thus comes out at .75 to .79 (`tests/test_power.py` draws it).

References:
    Statistical Power Analysis for the Behavioral Sciences, Cohen 1988, ch. 2. The cluster form is derived here.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special
from scipy import stats as scipy_stats

__all__ = ["power_of", "smallest_detectable", "standard_error"]


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
