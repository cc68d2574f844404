"""How far a probe can be trusted, and what the truth is likely to be behind what it says.

    Se, Sp   sensitivity P(says yes | is so), specificity P(says no | is not so), measured on images of known truth
    J        Youden's Se + Sp - 1: 1 perfect, 0 blind; its interval combines the Wilson intervals of the two parts
    q, p     share that the probe says; share that is so: q = Se p + (1 - Sp)(1 - p), hence p = (q + Sp - 1) / J
    C        confusion matrix, rows of truth: C[i, j] = P(says j | is i), so that the said shares are q = C^T p
    V_i      share of no-images that yes-image i lies above (equal ones count half); W_j likewise for no-image j
    AUC      area under the ROC curve, mean of the V_i, which is the mean of the W_j; its variance is
             var(V) / n_yes + var(W) / n_no, and its interval is symmetric in the logit

Dividing by J divides the noise by J too: below J = 0.5 nothing is corrected, the answer is None with a reason. With
more than two outcomes J is that of each outcome against its worst rival, C[i, i] - max over l != i of C[l, i], and the
smallest counts. Where the truths are apart altogether (AUC 0 or 1) the variance is 0. The interval is then Wilson's for
all of the smaller truth's images being right: an upper bound on confidence, not none.

References:
    Estimating Prevalence from the Results of a Screening Test, Rogan and Gladen 1978.
    Index for Rating Diagnostic Tests, Youden 1950.
    On a Test of Whether One of Two Random Variables Is Stochastically Larger, Mann and Whitney 1947 (AUC).
    Comparing the Areas under Two or More Correlated ROC Curves, DeLong, DeLong and Clarke-Pearson 1988.
    Interval Estimation for the Difference between Independent Proportions, Newcombe 1998 (method 10).
    Solving Least Squares Problems, Lawson and Hanson 1974 (NNLS).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from scipy import stats as scipy_stats

from promptlab.stats.paired import Interval, wilson
from promptlab.stats.resampling import Floats, Groups, Values, bootstrap_counts, numbers_of, positions_of

__all__ = [
    "MIN_YOUDEN",
    "Accuracy",
    "Shares",
    "auc",
    "auc_interval",
    "corrected_rate",
    "corrected_shares",
    "invert_confusion",
    "rogan_gladen",
    "sensitivity_specificity",
    "smallest_youden",
    "youden",
    "youden_interval",
]

MIN_YOUDEN = 0.5


@dataclass(frozen=True)
class Accuracy:
    """A yes-or-no probe against known truth, with Wilson intervals; the four counts are kept for later bootstraps."""

    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float

    @property
    def n(self) -> int:
        """Calibration pictures, of both truths."""
        return self.true_positives + self.false_negatives + self.true_negatives + self.false_positives

    @property
    def youden(self) -> float:
        """Youden's J, in [-1, 1]."""
        return self.sensitivity + self.specificity - 1


@dataclass(frozen=True)
class Shares:
    """Corrected shares of several outcomes, in the order of `classes`; None with a reason if the probe is too weak."""

    classes: tuple[Hashable, ...]
    estimate: tuple[float, ...] | None
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    youden: float
    n_groups: int
    n: int
    n_dropped: int
    reason: str | None = None


def _yes_no(values: Values, name: str) -> NDArray[np.bool_]:
    numbers = numbers_of(values, name)
    if not np.isin(numbers, (0.0, 1.0)).all():
        raise ValueError(f"{name} holds values other than 0 and 1: leave out what was not measured, and count it")
    yes: NDArray[np.bool_] = numbers == 1.0
    return yes


def _weak(j: float) -> str:
    return f"the probe tells too little: Youden's J is {j:.2f}, at least {MIN_YOUDEN} is needed to correct a rate"


def youden(sensitivity: float, specificity: float) -> float:
    """Youden's J = Se + Sp - 1, in [-1, 1]."""
    for name, value in (("sensitivity", sensitivity), ("specificity", specificity)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}: a share in [0, 1] is allowed")
    return sensitivity + specificity - 1


def sensitivity_specificity(said: Values, truth: Values, *, confidence: float = 0.95) -> Accuracy:
    """What a probe `said` (n,) against the `truth` (n,), both 0 or 1. Raises ValueError if one truth has no picture."""
    yes, so = _yes_no(said, "said"), _yes_no(truth, "truth")
    if len(yes) != len(so):
        raise ValueError(f"said and truth need equal lengths: {len(yes)} and {len(so)}")
    if so.all() or not so.any():
        raise ValueError(f"truth has {int(so.sum())} yes and {int((~so).sum())} no: at least one of each is needed")
    tp, fn = int((yes & so).sum()), int((~yes & so).sum())
    tn, fp = int((~yes & ~so).sum()), int((yes & ~so).sum())
    se, sp = wilson(tp, tp + fn, confidence=confidence), wilson(tn, tn + fp, confidence=confidence)
    return Accuracy(tp, fn, tn, fp, tp / (tp + fn), *se, tn / (tn + fp), *sp)


def auc(scores: Values, truth: Values) -> float:
    """P(score of a yes > score of a no) + half of P(equal): area under the ROC curve, in [0, 1]."""
    x, so = numbers_of(scores, "scores"), _yes_no(truth, "truth")
    if len(x) != len(so):
        raise ValueError(f"scores and truth need equal lengths: {len(x)} and {len(so)}")
    if np.isnan(x).any():
        raise ValueError("scores holds values that were not measured: leave them out, and count them")
    n_yes, n_no = int(so.sum()), int((~so).sum())
    if not n_yes or not n_no:
        raise ValueError(f"truth has {n_yes} yes and {n_no} no: at least one of each is needed")
    return float((scipy_stats.rankdata(x)[so].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))


def rogan_gladen(q: float, sensitivity: float, specificity: float) -> float | None:
    """The share that is so, given the share `q` that the probe says, clipped to [0, 1]; None below J = 0.5."""
    if not 0 <= q <= 1:
        raise ValueError(f"q is {q}: a share in [0, 1] is allowed")
    j = youden(sensitivity, specificity)
    return None if j < MIN_YOUDEN else float(np.clip((q + specificity - 1) / j, 0.0, 1.0))


def smallest_youden(confusion: Floats) -> float:
    """J of the outcome that is told apart worst: min over i of C[i, i] - max over l != i of C[l, i]."""
    c = _confusion(confusion)
    rivals = np.where(np.eye(len(c), dtype=bool), -np.inf, c).max(axis=0)
    return float((np.diag(c) - rivals).min())


def _confusion(confusion: NDArray[Any]) -> Floats:
    c = np.asarray(confusion, dtype=np.float64)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or len(c) < 2:
        raise ValueError(f"confusion has shape {c.shape}: (k, k) with k >= 2, rows of truth, is allowed")
    if not np.isfinite(c).all() or (c < 0).any() or not np.allclose(c.sum(axis=1), 1.0, atol=1e-6):
        raise ValueError("confusion needs rows of shares that sum to 1: P(said j | is i) in row i")
    return c


def _simplex_least_squares(confusion: Floats, said: Floats) -> Floats:
    # With sum(p) = 1, C^T p - q = (C^T - q 1^T) p. Non-negative least squares on that, with the row sum(x) = 1 below,
    # is exact and not a penalty: for x = s p the objective s^2 f(p) + (s - 1)^2 has minimum f / (1 + f), which rises
    # with f, so the best direction is the best p, whatever s.
    system = np.vstack([confusion.T - said[:, None], np.ones(len(said))])
    x, _ = optimize.nnls(system, np.append(np.zeros(len(said)), 1.0))
    shares: Floats = x / x.sum()
    return shares


def _each_simplex_least_squares(confusions: Floats, said: Floats) -> Floats:
    """The same for many (rounds, k, k) and (rounds, k): where C^T p = q has a solution p >= 0, that is it, at once."""
    shares: Floats
    try:
        solved = np.linalg.solve(confusions.transpose(0, 2, 1), said[:, :, None])[:, :, 0]
        shares = np.asarray(solved, dtype=np.float64)
    except np.linalg.LinAlgError:
        shares = np.full(said.shape, np.nan)
    for i in np.flatnonzero(~(shares >= 0).all(axis=1)):
        shares[i] = _simplex_least_squares(confusions[i], said[i])
    return shares


def invert_confusion(said: Floats, confusion: Floats) -> Floats | None:
    """Shares p (k,) that are so: argmin |C^T p - q|^2 with p >= 0 and sum(p) = 1; None if the smallest J is below 0.5.

    Arguments:
        said: q (k,), the shares that the probe says, summing to 1.
        confusion: C (k, k), rows of truth summing to 1.
    """
    c, q = _confusion(confusion), numbers_of(said, "said")
    if q.shape != (len(c),) or not (q >= 0).all() or not np.isclose(q.sum(), 1.0, atol=1e-6):
        raise ValueError(f"said needs {len(c)} shares in [0, 1] that sum to 1")
    return None if smallest_youden(c) < MIN_YOUDEN else _simplex_least_squares(c, q)


def corrected_shares(
    labels: Sequence[Hashable | None],
    groups: Groups,
    calibration: NDArray[Any],
    classes: Sequence[Hashable],
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Shares:
    """Shares of `classes` behind what a probe said, with percentile intervals over prompts and calibration together.

    Arguments:
        labels: (n,) what the probe said of each picture, one of `classes`; None (not measured) is dropped and counted.
        groups: (n,) the prompt of each picture; each prompt weighs the same.
        calibration: (k, k) counts on pictures of known truth: row i said as column j, in the order of `classes`.

    Each bootstrap round draws prompts with replacement and each row of the confusion matrix from its Dirichlet
    posterior under the prior 1/k (Perks): if its pictures were redrawn instead, an error never seen in calibration
    would stay impossible in every round. What the probe said of no picture, or of every one, is so in every round of
    prompts too; there the interval reaches to what Wilson's bound for 0 of n prompts is corrected to.
    """
    names = tuple(classes)
    k = len(names)
    counts = np.asarray(calibration, dtype=np.float64)
    if (
        counts.shape != (k, k)
        or not np.isfinite(counts).all()
        or (counts < 0).any()
        or (counts != counts.round()).any()
    ):
        raise ValueError(f"calibration has shape {counts.shape}: ({k}, {k}) counts are allowed, rows of truth")
    if (counts.sum(axis=1) == 0).any():
        raise ValueError(f"no calibration picture is truly {names[int(np.argmin(counts.sum(axis=1)))]!r}: add some")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: a share between 0 and 1, such as 0.95, is allowed")
    if len(labels) != len(groups):
        raise ValueError(f"every label needs its prompt: {len(labels)} labels, {len(groups)} groups")
    place = {name: i for i, name in enumerate(names)}
    unknown = next((label for label in labels if label is not None and label not in place), None)
    if unknown is not None:
        raise ValueError(f"label {unknown!r} is none of {list(names)}")
    kept = [i for i, label in enumerate(labels) if label is not None]
    prompts, index = positions_of([groups[i] for i in kept])
    n, n_dropped = len(prompts), len(labels) - len(kept)
    confusion = counts / counts.sum(axis=1, keepdims=True)
    j = smallest_youden(confusion)
    if n == 0 or j < MIN_YOUDEN:
        reason = "no label was measured" if n == 0 else _weak(j)
        return Shares(names, None, None, None, j, n, len(kept), n_dropped, reason)
    said = np.zeros((n, k))
    np.add.at(said, (index, np.array([place[labels[i]] for i in kept])), 1.0)
    said /= said.sum(axis=1, keepdims=True)
    estimate = tuple(map(float, _simplex_least_squares(confusion, said.mean(axis=0))))
    if n == 1:
        reason = "one prompt: an interval over prompts needs at least 2"
        return Shares(names, estimate, None, None, j, n, len(kept), n_dropped, reason)
    rows = [rng.dirichlet(row + 1 / k, size=resamples) for row in counts]
    drawn = np.concatenate([c @ said / n for c in bootstrap_counts(n, resamples, rng)])
    rounds = _each_simplex_least_squares(np.stack(rows, axis=1), drawn)
    tail = (1 - confidence) / 2
    low, high = np.quantile(rounds, [tail, 1 - tail], axis=0)
    _widen(low, high, said.mean(axis=0), confusion, wilson(0, n, confidence=confidence)[1])
    return Shares(names, estimate, tuple(map(float, low)), tuple(map(float, high)), j, n, len(kept), n_dropped)


def _widen(low: Floats, high: Floats, said: Floats, confusion: Floats, unseen: float) -> None:
    """Widen, in place, the bounds of outcomes said never or always, by the share `unseen` that chance may hide."""
    own = np.eye(len(said))
    for i in np.flatnonzero(said == 0):
        high[i] = max(high[i], _simplex_least_squares(confusion, (1 - unseen) * said + unseen * own[i])[i])
    for i in np.flatnonzero(said == 1):
        rest = (1 - own[i]) / (len(said) - 1)
        low[i] = min(low[i], _simplex_least_squares(confusion, (1 - unseen) * said + unseen * rest)[i])


def corrected_rate(
    said: Values,
    groups: Groups,
    accuracy: Accuracy,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """The rate (Rogan and Gladen) behind what a yes-or-no probe `said`: 0, 1 or None (n,); see `corrected_shares`."""
    values = numbers_of(said, "said")
    kept = ~np.isnan(values)
    _yes_no(values[kept], "said")
    calibration = np.array(
        [
            [accuracy.true_positives, accuracy.false_negatives],
            [accuracy.false_positives, accuracy.true_negatives],
        ]
    )
    labels = [bool(value) if known else None for value, known in zip(values, kept, strict=True)]
    shares = corrected_shares(
        labels, groups, calibration, (True, False), rng=rng, resamples=resamples, confidence=confidence
    )
    estimate, low, high = (None if part is None else part[0] for part in (shares.estimate, shares.low, shares.high))
    method = "none" if low is None else "Rogan-Gladen, percentile over prompts and calibration"
    return Interval(estimate, low, high, shares.n_groups, shares.n, shares.n_dropped, method, confidence, shares.reason)


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
