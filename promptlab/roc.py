"""How sure the area under a ROC curve and Youden's J are.

    V_i      share of no-pictures that yes-picture i lies above (equal ones count half); W_j likewise for no-picture j
    AUC      mean of the V_i, which is the mean of the W_j
    var      var(V) / n_yes + var(W) / n_no; the interval is symmetric in the logit of the AUC
    J        Se + Sp - 1, with the hybrid interval that combines the Wilson intervals of its two parts

Where the truths are apart altogether (AUC 0 or 1) the variance is 0, and the interval is Wilson's for all of the
smaller truth's pictures being right: an upper bound on confidence, not none.

References:
    DeLong, DeLong and Clarke-Pearson 1988, Comparing the Areas under Two or More Correlated ROC Curves.
    Newcombe 1998, Interval Estimation for the Difference between Independent Proportions (method 10).
"""

from __future__ import annotations

import numpy as np
from scipy import special
from scipy import stats as scipy_stats

from promptlab.pairing import Values, numbers_of
from promptlab.stats import wilson

__all__ = ["auc_interval", "youden_interval"]


def auc_interval(scores: Values, truth: Values, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the AUC of `scores` (n,) against `truth` (n,) of 0 and 1, at least one of each."""
    x, so = numbers_of(scores, "scores"), numbers_of(truth, "truth") == 1
    yes, no = x[so], x[~so]
    if not len(yes) or not len(no):
        raise ValueError(f"truth has {len(yes)} yes and {len(no)} no: at least one of each is needed")
    ranks = scipy_stats.rankdata(x)
    v = (ranks[so] - scipy_stats.rankdata(yes)) / len(no)
    w = 1 - (ranks[~so] - scipy_stats.rankdata(no)) / len(yes)
    area = float(v.mean())
    fewer = min(len(yes), len(no))
    if area in (0.0, 1.0) or fewer < 2:
        return wilson(round(area * fewer), fewer, confidence=confidence)
    error = np.sqrt(v.var(ddof=1) / len(yes) + w.var(ddof=1) / len(no)) / (area * (1 - area))
    half = special.ndtri((1 + confidence) / 2) * error
    low, high = special.expit(special.logit(area) + np.array([-half, half]))
    return float(low), float(high)


def youden_interval(
    sensitivity: float,
    specificity: float,
    sensitivity_bounds: tuple[float, float],
    specificity_bounds: tuple[float, float],
) -> tuple[float, float]:
    """Interval of J from the intervals of its parts, in [-1, 1]."""
    j = sensitivity + specificity - 1
    below = np.hypot(sensitivity - sensitivity_bounds[0], specificity - specificity_bounds[0])
    above = np.hypot(sensitivity_bounds[1] - sensitivity, specificity_bounds[1] - specificity)
    return max(-1.0, float(j - below)), min(1.0, float(j + above))
