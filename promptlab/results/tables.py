"""Tables: tidy DataFrames from the published database. The only thing that command line, dashboard and notebooks see.

Every table has one row a group, an `n` of images, an `n_prompts`, and intervals over prompts (95 %, bootstrap). An
image that is not ok, or not measured, is in no mean; `completeness` says how many those are.

`ranking` compares wordings. `judges` and `agreements` compare judges: what each finds in the same images, and how far
they agree.

    verdict    does this image show what the prompt says? 1 or 0: `correct` of a judge that gives outcomes (scene
               parser, detector, questions, people), VQAScore above 1/2 of one that only says how likely "Yes" is
    outcome    which of `records.OUTCOMES`, of the former
    observed   share of images of which two judges say the same
    alpha      Krippendorff's, over images that both judged; prompts are resampled

Two judges of one sort err alike; agreement of two sorts is the evidence that photographs allow, where no truth is
known. It is not accuracy: both may be wrong, and a rate on which they differ is as uncertain as they are far apart.

References:
    `promptlab.stats.calibration`. Report at least two sorts of judge: no metric is best everywhere (arXiv 2509.21227).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.records import OUTCOMES
from promptlab.results.leakage import leakage, leakages, leaked_pictures
from promptlab.results.queries import preferred_probe_ids, sql
from promptlab.stats.calibration import krippendorff_alpha
from promptlab.stats.paired import interval_of_rates, interval_of_totals, mean_interval, paired_effect

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = [
    "agreements",
    "cell_means",
    "claims",
    "completeness",
    "crossed_means",
    "curves",
    "effects",
    "judges",
    "leakage",
    "leakages",
    "leaked_pictures",
    "many_curves",
    "outcome_shares",
    "passports",
    "ranking",
    "studies",
]

RANKING = (
    *("level", "mean", "low", "high", "n", "n_prompts", "tier"),
    *("behind", "behind_low", "behind_high", "best_image"),
)


def studies(store: Store) -> pd.DataFrame:
    """One row a study: name, cells, planned, ok, failed, missing, last run's status."""
    return store.query(sql("studies"))


def completeness(store: Store, study: str) -> pd.DataFrame:
    """One row for each status of the study's planned images: status, reason, n."""
    return store.query(
        sql("completeness"),
        [study],
    )


def outcome_shares(
    store: Store, study: str, by: str | None = None, seed: int = 0, probe: str | None = None
) -> pd.DataFrame:
    """Shares of the outcomes of binding in two-object prompts, one row a level of axis `by` (all together if None).

    `probe` is the preferred probe, such as "binding" or "human"; by default the first of these two that has any.

    Columns: level, outcome, share, low, high (over all images measured), n, n_prompts, tier, and corrected,
    corrected_low, corrected_high, reason: the share after correction by the confusion matrix of the probe's
    passport
    (NULL without a passport, or where it is too weak: then `reason` says so). The row `accuracy` is correct given that
    both objects are present; its n is the images where they are.
    """
    import pandas as pd

    probes = preferred_probe_ids(store, study, "correct", probe)
    rows = store.query(sql("outcome_counts"), {"study": study, "by": by, "probes": probes})
    known = _confusion(store, probes)
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for level in dict.fromkeys(rows["level"]) if by else [None]:
        part = rows if level is None else rows[rows["level"] == level]
        corrected = _corrected(part, known, rng)
        for outcome in (*OUTCOMES, "accuracy"):
            pool = part
            if outcome == "accuracy":
                pool = part[part["outcome"].isin(["correct", "swap", "leak", "other"])]
            n = pool["n"].to_numpy()
            hits = np.where(pool["outcome"] == ("correct" if outcome == "accuracy" else outcome), n, 0)
            # prompts in the order of the plan: the same random numbers resample the same prompts
            prompt, names = pd.factorize(pool["prompt_group"])
            k, of = (np.bincount(prompt, some, len(names)).astype(np.float64) for some in (hits, n))
            interval = interval_of_rates(k, of, rng=rng)
            row = {"level": level, "outcome": outcome, "share": interval.estimate, "low": interval.low}
            row |= {"high": interval.high, "n": int(n.sum()), "n_prompts": len(names)}
            out.append({**row, "tier": part["tier"].iloc[0] if len(part) else None, **corrected.get(outcome, {})})
    return pd.DataFrame(out)


def _confusion(store: Store, probes: list[str]) -> dict[str, Any]:
    """What the passport measured of a probe's outcomes: `classes` and `confusion`; empty without one."""
    found = store.query(
        "SELECT detail FROM passport WHERE list_contains(?::VARCHAR[], probe_id) AND kind = 'binding'", [probes]
    )
    detail: dict[str, Any] = json.loads(found["detail"].iloc[0]) if len(found) else {}
    return detail if "confusion" in detail else {}


def _corrected(rows: pd.DataFrame, known: dict[str, Any], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """By outcome: corrected, corrected_low, corrected_high, reason."""
    from promptlab.stats.calibration import corrected_shares

    blank = {"corrected": None, "corrected_low": None, "corrected_high": None}
    if not len(rows):
        return {}
    if not known:
        return {outcome: {**blank, "reason": "no passport"} for outcome in OUTCOMES}
    times = rows["n"].to_numpy()
    shares = corrected_shares(
        np.repeat(rows["outcome"].to_numpy(), times).tolist(),
        np.repeat(rows["prompt_group"].to_numpy(), times).tolist(),
        np.array(known["confusion"]),
        known["classes"],
        rng=rng,
    )
    if shares.estimate is None or shares.low is None or shares.high is None:
        return {outcome: {**blank, "reason": shares.reason} for outcome in OUTCOMES}
    triples = zip(shares.classes, shares.estimate, shares.low, shares.high, strict=True)
    return {
        str(o): {"corrected": e, "corrected_low": lo, "corrected_high": hi, "reason": None} for o, e, lo, hi in triples
    }


def cell_means(
    store: Store, study: str, measure: str, by: str, seed: int = 0, probe: str | None = None
) -> pd.DataFrame:
    """Mean of `measure` at each level of axis `by`. Columns: level, mean, low, high, n, n_prompts, tier.

    Where several probes give the measure, `probe` names the preferred one, as in `outcome_shares`.
    """
    return curves(store, study, measure, by, seed, probe)[0]


def curves(
    store: Store, study: str, measure: str, by: str, seed: int = 0, probe: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`cell_means`, and the same of each prompt family: prompt_group, prompt, level, mean, n, by level and family."""
    return many_curves(store, study, (measure,), by, seed, probe)[measure]


def many_curves(
    store: Store, study: str, measures: Sequence[str], by: str, seed: int = 0, probe: str | None = None
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """`curves` of several measures, for which the images are read once."""
    pairs = [(name, one) for name in measures for one in preferred_probe_ids(store, study, name, probe)]
    names, probes = [name for name, _ in pairs], [one for _, one in pairs]
    rows = store.query(sql("curves"), {"study": study, "by": by, "measures": names, "probes": probes})
    return {name: _curves(rows[rows["measure"] == name], seed) for name in measures}


def _curves(rows: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    rng = np.random.default_rng(seed)
    out = []
    for level in dict.fromkeys(rows["level"]):
        part = rows[rows["level"] == level]
        interval = interval_of_totals(part["total"].tolist(), part["n"].tolist(), part["rate"].tolist(), rng=rng)
        row = {"level": level, "mean": interval.estimate, "low": interval.low, "high": interval.high}
        out.append({**row, "n": int(part["n"].sum()), "n_prompts": len(part), "tier": part["tier"].iloc[0]})
    each = rows.assign(mean=rows["total"] / rows["n"]).sort_values(["place", "prompt_group"], ignore_index=True)
    means = pd.DataFrame(out, columns=["level", "mean", "low", "high", "n", "n_prompts", "tier"])
    return means, each[["prompt_group", "prompt", "level", "mean", "n"]]


def effects(store: Store, study: str) -> pd.DataFrame:
    """The contrasts of a study, as table `effect` of the database; and tier, and q.

    `p_adjusted` is Holm's over the confirmatory contrasts, `q` Benjamini and Hochberg's over the others: of exploratory
    findings with q below 0.1, a tenth is expected to be false. Each is NULL for contrasts of the other kind.
    """
    from promptlab.stats.hypotheses import benjamini_hochberg

    frame = store.query(
        sql("effects"),
        [study],
    )
    frame["q"] = np.nan
    exploring = frame["p"].notna() & frame["p_adjusted"].isna()
    if exploring.any():
        frame.loc[exploring, "q"] = benjamini_hochberg(frame.loc[exploring, "p"].tolist())
    return frame


def claims(store: Store) -> pd.DataFrame:
    """Claims about prompting with their verdicts, as view `verdict` of the database, in the order of their ids."""
    return store.query(sql("claims"))


def passports(store: Store) -> pd.DataFrame:
    """How far each probe can be trusted, as table `passport` of the database."""
    return store.query("SELECT * EXCLUDE (run) FROM passport ORDER BY probe_id, kind")


def judges(store: Store, study: str, seed: int = 0) -> pd.DataFrame:
    """One row for each judge: the share of the images that show what the prompt says.

    Columns: judge, share, low, high (over prompts), n, n_prompts, not_measured, tier, and sensitivity, specificity,
    youden: of its passport, from drawn images (NULL without one).
    """
    import pandas as pd

    rows = store.query(sql("verdicts"), [study])
    passes = store.query(
        "SELECT probe AS judge, any_value(sensitivity) AS sensitivity, "
        "any_value(specificity) AS specificity, any_value(youden) AS youden "
        "FROM passport WHERE kind = 'binding' GROUP BY ALL"
    )
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for judge, part in rows.groupby("judge", sort=True):
        found = mean_interval(part["verdict"].tolist(), part["prompt_group"].tolist(), rng=rng, resamples=2000)
        row = {"judge": judge, "share": found.estimate, "low": found.low, "high": found.high, "n": found.n}
        row |= {"n_prompts": found.n_groups, "not_measured": found.n_dropped, "tier": part["tier"].iloc[0]}
        out.append(row)
    columns = ["judge", "share", "low", "high", "n", "n_prompts", "not_measured", "tier"]
    return pd.DataFrame(out, columns=columns).merge(passes, on="judge", how="left")


def agreements(store: Store, study: str, seed: int = 0) -> pd.DataFrame:
    """One row for each pair of judges and question ("shows it?", and "outcome" where both give outcomes).

    Columns: judge, other, question, observed, alpha, low, high, n, n_prompts, share, other_share (of "shows it?"), tier
    and reason (why there is no alpha).
    """
    import pandas as pd

    rows = store.query(sql("verdicts"), [study])
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for one, other in combinations(sorted(set(rows["judge"])), 2):
        arms = [rows[rows["judge"] == name] for name in (one, other)]
        both = arms[0].merge(arms[1], on=["image", "prompt_id", "prompt_group", "tier"], suffixes=("", "_other"))
        for question, column in (("shows it?", "verdict"), ("outcome", "outcome")):
            judged = both[both[column].notna() & both[f"{column}_other"].notna()]
            if question == "outcome" and any(arm["outcome"].isna().all() for arm in arms):
                continue
            pairs = list(zip(judged[column], judged[f"{column}_other"], strict=True))
            found = krippendorff_alpha(pairs, judged["prompt_group"].tolist(), rng=rng)
            row = {"judge": one, "other": other, "question": question, "observed": found.observed}
            row |= {"alpha": found.alpha, "low": found.low, "high": found.high, "n": len(judged)}
            row |= {"n_prompts": found.n_groups, "share": None, "other_share": None, "reason": found.reason}
            if question == "shows it?" and len(judged):
                row |= {"share": float(judged["verdict"].mean()), "other_share": float(judged["verdict_other"].mean())}
            out.append({**row, "tier": judged["tier"].iloc[0] if len(judged) else None})
    columns = ["judge", "other", "question", "observed", "alpha", "low", "high", "n", "n_prompts"]
    return pd.DataFrame(out, columns=[*columns, "share", "other_share", "tier", "reason"])


def crossed_means(store: Store, study: str, measure: str, by: str, split: str, seed: int = 0) -> pd.DataFrame:
    """Mean of `measure` at each pair of levels of the axes `by` and `split` that the study holds.

    Columns: part (the level of `split`), level, mean, low, high (95 %, over prompts), n, n_prompts, tier. Where several
    probes give the measure, one counts, as in `outcome_shares`.
    """
    import pandas as pd

    rows = store.query(
        sql("crossed_scores"),
        [split, study, measure, by, split, preferred_probe_ids(store, study, measure)],
    )
    rng = np.random.default_rng(seed)
    out = []
    for (part, level), some in rows.groupby(["part", "level"], sort=False):
        groups = some["prompt_group"].tolist()
        found = mean_interval(some["value"].tolist(), groups, rng=rng, resamples=2000)
        row = {"part": part, "level": level, "mean": found.estimate, "low": found.low, "high": found.high}
        out.append({**row, "n": len(some), "n_prompts": len(set(groups)), "tier": some["tier"].iloc[0]})
    return pd.DataFrame(out, columns=["part", "level", "mean", "low", "high", "n", "n_prompts", "tier"])


def ranking(
    store: Store,
    study: str,
    measure: str,
    axis: str | None = None,
    seed: int = 0,
    probe: str | None = None,
    group: str | None = None,
    most: int = 200,
) -> pd.DataFrame:
    """Wordings by a measure, the best first: levels of `axis`, or whole prompts if None; the `most` best.

    Where several probes give the measure, `probe` names the preferred one, as in `outcome_shares`. `group` keeps the
    images of one prompt family. Of a measure of which neither way is better the highest comes first.

    Of whole prompts the seeds are resampled, so an interval is about that prompt alone. Images are added up in the
    database, by prompt family (by seed, of whole prompts): a hundred thousand of them take as long as a hundred.

    Columns: level, mean, low, high, n, n_prompts, tier; behind, behind_low, behind_high (the best minus this level,
    over images that differ in nothing else: same prompt family, seed, other levels); best_image, the id of the image
    with the best value at this level (ties: the first of the plan).
    """
    import pandas as pd

    probes = preferred_probe_ids(store, study, measure, probe)
    with store.connect() as connection:
        connection.execute(sql("ranked_cells"), {"study": study, "axis": axis, "group": group})
        connection.execute(sql("ranked_scores"), {"study": study, "measure": measure, "probes": probes})
        rows = connection.execute(sql("ranking_totals"), {"measure": measure}).df()
        if not len(rows):
            return pd.DataFrame(columns=list(RANKING))
        sums = rows.groupby("level")[["total", "n"]].sum()
        lower = bool(rows["lower"].fillna(False).all())
        means = (sums["total"] / sums["n"]).sort_values(ascending=lower).head(most)
        best = str(means.index[0])
        levels = [str(name) for name in means.index]
        paired = connection.execute(sql("ranking_pairs"), {"best": best, "levels": levels}).df()
        images = dict(
            connection.execute(sql("ranking_images"), {"study": study, "levels": levels, "lower": lower}).fetchall()
        )
    rows = rows[rows["level"].isin(means.index)]
    parts, gaps = dict(list(rows.groupby("level"))), dict(list(paired.groupby("level")))
    rng = np.random.default_rng(seed)
    out = []
    for level in means.index:
        part = parts[level]
        interval = interval_of_totals(part["total"].tolist(), part["n"].tolist(), part["rate"].tolist(), rng=rng)
        row: dict[str, Any] = {"level": level, "mean": interval.estimate, "low": interval.low, "high": interval.high}
        row |= {"n": int(part["n"].sum()), "n_prompts": 1 if axis is None else len(part), "tier": part["tier"].iloc[0]}
        row["best_image"] = images[level]
        if level != best:
            both = gaps.get(level, paired.head(0))
            groups = both["unit"].tolist()
            gap = paired_effect(both["best"].tolist(), both["value"].tolist(), groups, rng=rng, resamples=2000)
            row |= {"behind": gap.estimate, "behind_low": gap.low, "behind_high": gap.high}
        out.append(row)
    return pd.DataFrame(out, columns=list(RANKING))
