"""Rarity: do combinations that training saw seldom come out right less often?

    c        how often training saw a combination (a pair of noun and colour)
    x        log10 c, for c >= 1; combinations never seen have no x and are compared with seen ones instead
    slope    b in logit P(right) = a + b x: each tenfold of c multiplies the odds by e^b

Each combination is a prompt, the unit of inference: its images share one x, so counting images would invent facts.
Where all are right, all wrong, or the seen ones split exactly at one x, no slope is finite: None with a reason.

References:
    Udandarao et al. 2024, No "Zero-Shot" Without Exponential Data (arXiv 2404.04125): log-linear in frequency.
    Okawa et al. 2023 (arXiv 2310.09336): combinations held out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from promptlab.errors import PromptlabError
from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow
from promptlab.results.queries import StudyScores, claimed_pairs, right_objects
from promptlab.stats.paired import Finding, need
from promptlab.stats.resampling import Floats, bootstrap_counts, numbers_of, positions_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["applies", "find", "held_out_gap", "logistic_slopes", "pair_counts", "rarity_slope"]


def applies(axes: Sequence[AxisColumn]) -> bool:
    """Always: prompts and the model decide. `find` gives nothing but for one object of the miniature."""
    return True


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    """The slope on how often training showed a pair, and the gap of pairs that it never showed."""
    from promptlab.resources import shipped_folder

    scores = right_objects(data, 1)
    if scores.empty or set(data.rows["tier"]) != {"T1"}:
        return
    counts = pair_counts(shipped_folder() / "pair_counts.csv")
    claims = claimed_pairs(data)
    scores = scores[scores["prompt_id"].isin(claims)]
    pairs = [claims[key] for key in scores["prompt_id"]]
    scores = scores.assign(prompt_group=[" ".join(pair) for pair in pairs], count=[counts.get(p, 0) for p in pairs])
    slope, gap = (partial(measure, scores, rng=rng) for measure in (rarity_slope, held_out_gap))
    yield FindingRow("log odds for ten times the examples", "", "binding.colour", slope)
    yield FindingRow("never seen, less seen", "", "binding.colour", gap)


def pair_counts(file: str | Path) -> dict[tuple[str, str], int]:
    """How often training saw each (noun, colour), from a CSV with the columns noun, colour, things, held_out."""
    path = Path(file)
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return {(row["noun"], row["colour"]): int(row["things"]) for row in rows}
    except OSError as error:
        raise PromptlabError(
            f"{path} cannot be read ({error.strerror}): counts come with a trained miniature"
        ) from error
    except (KeyError, ValueError) as error:
        raise PromptlabError(f"{path} is no table of counts (columns noun, colour, things): {error}") from error


def rarity_slope(
    scores: pd.DataFrame, *, rng: np.random.Generator, resamples: int = 2000, confidence: float = 0.95
) -> Finding:
    """The slope b, from columns prompt_group (one combination each), seed, count and value (1 or 0).

    `p` is that of "count has nothing to do with it", by dealing the counts anew to the combinations. Combinations with
    count 0 are left out (see `held_out_gap`); `detail` says how many, and the intercept.
    """
    x, right, shown, dropped, unseen = _combinations(scores)
    n = len(x)
    detail: dict[str, float] = {"never_seen": unseen}
    blank = Finding(None, None, None, None, n, int(shown.sum()), dropped, confidence=confidence, detail=detail)
    if n < 3 or np.ptp(x) == 0:
        reason = f"{n} combinations of {len(np.unique(x))} different counts: a slope needs at least 3 and 2"
        return replace(blank, reason=reason)
    intercepts, found = logistic_slopes(x, right[None], shown[None])
    estimate = float(found[0])
    if not np.isfinite(estimate):
        reason = "right and wrong split exactly, or all are alike: no slope is finite"
        return replace(blank, reason=reason)
    drawn = bootstrap_counts(n, resamples, rng)
    samples = np.concatenate([logistic_slopes(x, c * right, c * shown)[1] for c in drawn])
    known, tail = samples[np.isfinite(samples)], (1 - confidence) / 2
    lost = len(samples) - len(known)
    note = f"{lost} of {len(samples)} resamples had no slope" if lost else None
    low: float | None = None
    high: float | None = None
    if len(known) >= 0.95 * len(samples):
        low, high = (float(bound) for bound in np.quantile(known, [tail, 1 - tail]))
    order = _orders(n, 999, rng)
    dealt = logistic_slopes(x, right[order], shown[order])[1]
    # A dealing that splits exactly has no finite slope: it counts as larger than any.
    as_large = int((~(np.abs(dealt) < abs(estimate) - 1e-9)).sum())
    detail |= {"intercept": float(intercepts[0]), "odds_per_tenfold": float(np.exp(estimate))}
    method = "logistic, percentile over combinations; counts dealt anew"
    p = (as_large + 1) / (len(dealt) + 1)
    return replace(blank, estimate=estimate, low=low, high=high, p=p, method=method, reason=note)


def held_out_gap(scores: pd.DataFrame, *, rng: np.random.Generator, resamples: int = 4000) -> Finding:
    """Rate of combinations never seen (count 0) minus that of seen ones, a bootstrap over combinations of each kind.

    `p` deals anew which combinations are the unseen ones. Give comparable ones: of the same nouns and colours.
    """
    need(scores, "prompt_group", "count", "value")
    count, right, shown, dropped = _sums(scores)
    rates = right / shown
    unseen, seen = rates[count == 0], rates[count > 0]
    detail: dict[str, float] = {"n_unseen": len(unseen), "n_seen": len(seen)}
    blank = Finding(None, None, None, None, len(rates), int(shown.sum()), dropped, detail=detail)
    if len(unseen) < 2 or len(seen) < 2:
        reason = f"{len(unseen)} unseen and {len(seen)} seen combinations: at least 2 of each are needed"
        return replace(blank, reason=reason)
    gap = float(unseen.mean() - seen.mean())
    drawn = [
        np.concatenate([c @ part / len(part) for c in bootstrap_counts(len(part), resamples, rng)])
        for part in (unseen, seen)
    ]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    dealt = np.array(
        [rates[o][: len(unseen)].mean() - rates[o][len(unseen) :].mean() for o in _orders(len(rates), 999, rng)]
    )
    p = (int((np.abs(dealt) >= abs(gap) - 1e-12).sum()) + 1) / 1000
    detail |= {"unseen": float(unseen.mean()), "seen": float(seen.mean())}
    method = "percentile over combinations; kinds dealt anew"
    return replace(blank, estimate=gap, low=float(low), high=float(high), p=p, method=method)


def _orders(n: int, times: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permuted(np.broadcast_to(np.arange(n), (times, n)), axis=1)


def _sums(scores: pd.DataFrame) -> tuple[Floats, Floats, Floats, int]:
    """Count, images right and images measured of each combination, (n,), and rows that were not measured."""
    value, count = numbers_of(list(scores["value"]), "value"), numbers_of(list(scores["count"]), "count")
    kept = ~np.isnan(value)
    if not np.isin(value[kept], (0, 1)).all():
        raise ValueError("value holds other than 1, 0 and None: an image is right, wrong or not measured")
    if np.isnan(count).any() or (count < 0).any():
        raise ValueError("count holds what is no number of at least 0: every combination needs its count")
    names, index = positions_of(list(scores["prompt_group"]))
    first = np.full(len(names), np.nan)
    first[index] = count
    if (first[index] != count).any():
        raise ValueError("a prompt_group has two counts: one combination is allowed in each")
    shown: Floats = np.bincount(index[kept], minlength=len(names)).astype(np.float64)
    right: Floats = np.bincount(index[kept], weights=value[kept], minlength=len(names)).astype(np.float64)
    some = shown > 0
    return first[some], right[some], shown[some], int((~kept).sum())


def _combinations(scores: pd.DataFrame) -> tuple[Floats, Floats, Floats, int, int]:
    need(scores, "prompt_group", "count", "value")
    count, right, shown, dropped = _sums(scores)
    seen = count >= 1
    if ((count > 0) & (count < 1)).any():
        raise ValueError("count holds a share between 0 and 1: whole counts are allowed")
    return np.log10(count[seen]), right[seen], shown[seen], dropped, int((~seen).sum())


def logistic_slopes(x: Floats, right: Floats, shown: Floats, steps: int = 50) -> tuple[Floats, Floats]:
    """Intercepts and slopes (rows,) of logistic fits by Newton's method; NaN where there is no finite one.

    `x` is (n,), `right` and `shown` (rows, n): successes and trials, each row one fit.
    """
    centre, spread = float(x.mean()), float(x.std()) or 1.0
    z = (x - centre) / spread
    a, b = np.zeros(len(right)), np.zeros(len(right))
    step_a = step_b = np.full(len(right), np.inf)
    for _ in range(steps):
        p = special.expit(a[:, None] + b[:, None] * z)
        weight, off = shown * p * (1 - p), right - shown * p
        s0, s1, s2 = weight.sum(axis=1), (weight * z).sum(axis=1), (weight * z * z).sum(axis=1)
        g0, g1 = off.sum(axis=1), (off * z).sum(axis=1)
        det = s0 * s2 - s1 * s1
        safe = np.where(det > 1e-12, det, np.nan)
        with np.errstate(invalid="ignore"):
            step_a, step_b = (s2 * g0 - s1 * g1) / safe, (s0 * g1 - s1 * g0) / safe
            # Short steps where Newton would overshoot: separated data then run off slowly and are known by their size.
            a, b = a + np.clip(step_a, -2, 2), b + np.clip(step_b, -2, 2)
        if np.nan_to_num(np.abs([step_a, step_b])).max() < 1e-10:
            break
    good = (np.abs(step_a) < 1e-6) & (np.abs(step_b) < 1e-6) & (np.abs(b) < 30)
    slope = np.where(good, b / spread, np.nan)
    return np.where(good, a - slope * centre, np.nan), slope
