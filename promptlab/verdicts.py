"""From an effect and what was written before the run to a verdict on a claim.

    expects    more, less: the difference d has this sign           same: d is within the margin          exactly: d = 0
    margin m   the smallest difference that would matter, in the measure's own unit, written before the run
    low, high  the 95 % interval of d; p: adjusted over the set of claims (Holm)

With the sign so turned that the claim expects d > 0:

    supported           low > 0, p < 0.05 and d >= m
    partly              low > 0, p < 0.05 and d < m: real, but smaller than would matter
    contradicted        else, high < m: a difference that would matter is excluded
    not testable here   else: the interval is too wide to tell, or nothing was measured

For *same*: supported where the whole interval is within the margin, whatever p; contradicted where 0 is outside the
interval and |d| >= m; partly where 0 is outside and |d| < m; else not testable here.

Where all n units show the same d, resampling gives an interval of no width, which would let ever so few units speak
for all. Up to q = 1 - 0.025^(1/n) of units may then differ (`alike`); they may differ by as much as the measure can.

Reference: The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial, Clopper and Pearson 1934.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["ALPHA", "VERDICTS", "Expects", "alike", "verdict"]

Expects = Literal["more", "less", "same", "exactly"]
VERDICTS = ("supported", "partly", "contradicted", "not testable here")
ALPHA = 0.05


def alike(difference: float, n: int, span: float) -> tuple[float, float]:
    """95 % interval of a mean difference that all `n` units show alike, of a measure that differs by at most `span`.

    Of the units that were not looked at a share q may differ, by anything from -span to span. Raises ValueError for
    n < 1, a span that is not positive, and a difference beyond it.
    """
    if n < 1 or not span > 0 or abs(difference) > span * (1 + 1e-9):
        raise ValueError(
            f"{n} units, difference {difference}, span {span}: n >= 1 and |difference| <= span are allowed"
        )
    q = 1 - (ALPHA / 2) ** (1 / n)
    return difference - q * (span + difference), difference + q * (span - difference)


def verdict(
    expects: Expects,
    margin: float,
    estimate: float | None,
    low: float | None,
    high: float | None,
    p: float | None,
) -> str:
    """One of VERDICTS, by the rule above. Raises ValueError for a margin that is not positive (0 for *exactly*)."""
    if margin < 0 or (margin == 0) != (expects == "exactly"):
        raise ValueError(f"margin {margin} for expects={expects!r}: a positive number, or 0 for exactly")
    if estimate is None:
        return "not testable here"
    if expects == "exactly":
        return "supported" if estimate == 0 else "contradicted"
    if low is None or high is None:
        return "not testable here"
    if expects == "same":
        if -margin < low and high < margin:
            return "supported"
        if low > 0 or high < 0:
            return "contradicted" if abs(estimate) >= margin else "partly"
        return "not testable here"
    if expects == "less":
        estimate, low, high = -estimate, -high, -low
    if low > 0 and p is not None and p < ALPHA:
        return "supported" if estimate >= margin else "partly"
    return "contradicted" if high < margin else "not testable here"
