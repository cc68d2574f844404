"""Tables: tidy DataFrames from the published database. The only thing that command line, dashboard and notebooks see.

Every table has one row a group, an `n` of images, an `n_prompts`, and intervals over prompts (95 %, bootstrap). An
image that is not ok, or not measured, is in no mean; `completeness` says how many those are.

`judges` and `agreements` put judges side by side: what each says of the same images, and how far they agree.

    verdict    does this image show what was asked? 1 or 0: `correct` of a judge that tells outcomes (scene parser,
               detector, questions, people), VQAScore above 1/2 of one that only says how likely "Yes" is
    outcome    which of `records.OUTCOMES`, of the former
    observed   share of images of which two judges say the same
    alpha      Krippendorff's, over images that both judged; prompts are resampled

Two judges of one sort err alike; agreement of two sorts is the evidence that photographs allow, where no truth is
known. It is not accuracy: both may be wrong, and a rate on which they differ is as uncertain as they are far apart.

References:
    `promptlab.stats.agreement`. Report at least two sorts of judge: no metric is best everywhere (arXiv 2509.21227).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.records import OUTCOMES
from promptlab.results.leakage import leakage, leakages, leaked_pictures
from promptlab.results.queries import preferred_probe_ids
from promptlab.results.ranking import ranking
from promptlab.stats.agreement import krippendorff_alpha
from promptlab.stats.paired import interval_of_rates, interval_of_totals, mean_interval

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


def studies(store: Store) -> pd.DataFrame:
    """One row a study: name, cells, planned, ok, failed, missing, last run's status."""
    return store.query(
        """
        SELECT c.study, count(*) AS cells, sum(planned)::BIGINT AS planned, sum(ok)::BIGINT AS ok,
            sum(failed)::BIGINT AS failed, sum(missing)::BIGINT AS missing,
            (SELECT status FROM run WHERE run.study = c.study ORDER BY started DESC LIMIT 1) AS last_run
        FROM completeness c GROUP BY c.study ORDER BY c.study
        """
    )


def completeness(store: Store, study: str) -> pd.DataFrame:
    """One row a status of the study's planned pictures: status, reason, n."""
    return store.query(
        """
        SELECT coalesce(image.status, 'missing') AS status, image.reason, count(*) AS n
        FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
        LEFT JOIN image ON image.id = cell_image.image
        WHERE cell.current AND cell.study = ?
        GROUP BY ALL ORDER BY n DESC
        """,
        [study],
    )


def outcome_shares(
    store: Store, study: str, by: str | None = None, seed: int = 0, probe: str | None = None
) -> pd.DataFrame:
    """Shares of the outcomes of binding in two-object prompts, one row a level of axis `by` (all together if None).

    `probe` says whose word counts, such as "binding" or "human": the first of these two that has any, if None.

    Columns: level, outcome, share, low, high (over all pictures measured), n, n_prompts, tier, and corrected,
    corrected_low, corrected_high, reason: the share behind what the probe said, by its passport's confusion matrix
    (NULL without a passport, or where it is too weak: then `reason` says so). The row `accuracy` is correct given that
    both objects are present; its n is the pictures where they are.
    """
    import pandas as pd

    probes = preferred_probe_ids(store, study, "correct", probe)
    rows = store.query(_OUTCOMES, {"study": study, "by": by, "probes": probes})
    known = _confusion(store, probes)
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for level in dict.fromkeys(rows["level"]) if by else [None]:
        part = rows if level is None else rows[rows["level"] == level]
        behind = _corrected(part, known, rng)
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
            out.append({**row, "tier": part["tier"].iloc[0] if len(part) else None, **behind.get(outcome, {})})
    return pd.DataFrame(out)


_OUTCOMES = """
SELECT cell.prompt_group, told.label AS outcome, level.level, min(cell.tier) AS tier,
    sum(told.scores)::BIGINT AS n, min(cell.position) AS first
FROM cell_score told
JOIN cell ON cell.study = told.study AND cell.id = told.cell_id
LEFT JOIN level ON level.study = cell.study AND level.cell_id = cell.id AND level.axis = $by
WHERE told.study = $study AND told.measure = 'correct' AND told.label IS NOT NULL
    AND list_contains($probes::VARCHAR[], told.probe_id)
    AND cell.prompt_id IN (SELECT prompt_id FROM binding GROUP BY prompt_id HAVING count(*) = 2)
GROUP BY ALL ORDER BY first, outcome
"""


def _confusion(store: Store, probes: list[str]) -> dict[str, Any]:
    """What the passport says of a probe's outcomes: `classes` and `confusion`; empty without one."""
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

    Where several probes give the measure, `probe` says whose word counts, as in `outcome_shares`.
    """
    return curves(store, study, measure, by, seed, probe)[0]


_CURVES = """
SELECT told.measure, cell.prompt_group, min(cell.prompt) AS prompt, level.level, min(cell.tier) AS tier,
    fsum(told.total) AS total, sum(told.with_value)::BIGINT AS n, bool_and(told.rate) AS rate,
    min(level.level_position) AS place, min(cell.id) AS first
FROM cell_score told
JOIN cell ON cell.study = told.study AND cell.id = told.cell_id
JOIN level ON level.study = cell.study AND level.cell_id = cell.id AND level.axis = $by
WHERE told.study = $study AND told.with_value > 0
    AND (told.measure, told.probe_id) IN (SELECT unnest($measures::VARCHAR[]), unnest($probes::VARCHAR[]))
GROUP BY ALL ORDER BY place, first
"""


def curves(
    store: Store, study: str, measure: str, by: str, seed: int = 0, probe: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`cell_means`, and the same of each prompt family: prompt_group, prompt, level, mean, n, by level and family."""
    return many_curves(store, study, (measure,), by, seed, probe)[measure]


def many_curves(
    store: Store, study: str, measures: Sequence[str], by: str, seed: int = 0, probe: str | None = None
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """`curves` of several measures, for which the pictures are read once."""
    told = [(name, one) for name in measures for one in preferred_probe_ids(store, study, name, probe)]
    asked = {"study": study, "by": by, "measures": [name for name, _ in told], "probes": [one for _, one in told]}
    rows = store.query(_CURVES, asked)
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
        """
        SELECT * EXCLUDE (run),
            (SELECT string_agg(DISTINCT tier, ', ' ORDER BY tier) FROM cell WHERE cell.study = effect.study AND current)
            AS tier
        FROM effect WHERE study = ? ORDER BY contrast
        """,
        [study],
    )
    frame["q"] = np.nan
    exploring = frame["p"].notna() & frame["p_adjusted"].isna()
    if exploring.any():
        frame.loc[exploring, "q"] = benjamini_hochberg(frame.loc[exploring, "p"].tolist())
    return frame


def claims(store: Store) -> pd.DataFrame:
    """Claims about prompting with their verdicts, as view `verdict` of the database, in the order of their ids."""
    return store.query(
        """
        SELECT * FROM verdict
        ORDER BY regexp_extract(claim_id, '[0-9]+')::BIGINT, claim_id
        """
    )


def passports(store: Store) -> pd.DataFrame:
    """How far each probe can be trusted, as table `passport` of the database."""
    return store.query("SELECT * EXCLUDE (run) FROM passport ORDER BY probe_id, kind")


_VERDICTS = """
SELECT probe AS judge, image, prompt_id, prompt_group, tier, any_value(label) AS outcome,
    any_value(CASE WHEN measure = 'correct' THEN value WHEN value IS NOT NULL THEN (value > 0.5)::DOUBLE END) AS verdict
FROM scored
WHERE study = ? AND status = 'ok' AND measure IN ('correct', 'vqascore') AND target = ''
GROUP BY ALL ORDER BY image, prompt_id, judge
"""
"""In a fixed order, else the same random numbers would resample other prompts."""


def judges(store: Store, study: str, seed: int = 0) -> pd.DataFrame:
    """One row a judge: what share of the pictures shows what was asked.

    Columns: judge, share, low, high (over prompts), n, n_prompts, not_measured, tier, and sensitivity, specificity,
    youden: of its passport, from drawn pictures (NULL without one).
    """
    import pandas as pd

    rows = store.query(_VERDICTS, [study])
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
    """One row a pair of judges and question ("shows it?", and "outcome" where both tell outcomes).

    Columns: judge, other, question, observed, alpha, low, high, n, n_prompts, share, other_share (of "shows it?"), tier
    and reason (why there is no alpha).
    """
    import pandas as pd

    rows = store.query(_VERDICTS, [study])
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for one, other in combinations(sorted(set(rows["judge"])), 2):
        arms = [rows[rows["judge"] == name] for name in (one, other)]
        both = arms[0].merge(arms[1], on=["image", "prompt_id", "prompt_group", "tier"], suffixes=("", "_other"))
        for question, column in (("shows it?", "verdict"), ("outcome", "outcome")):
            told = both[both[column].notna() & both[f"{column}_other"].notna()]
            if question == "outcome" and any(arm["outcome"].isna().all() for arm in arms):
                continue
            pairs = list(zip(told[column], told[f"{column}_other"], strict=True))
            found = krippendorff_alpha(pairs, told["prompt_group"].tolist(), rng=rng)
            row = {"judge": one, "other": other, "question": question, "observed": found.observed}
            row |= {"alpha": found.alpha, "low": found.low, "high": found.high, "n": len(told)}
            row |= {"n_prompts": found.n_groups, "share": None, "other_share": None, "reason": found.reason}
            if question == "shows it?" and len(told):
                row |= {"share": float(told["verdict"].mean()), "other_share": float(told["verdict_other"].mean())}
            out.append({**row, "tier": told["tier"].iloc[0] if len(told) else None})
    columns = ["judge", "other", "question", "observed", "alpha", "low", "high", "n", "n_prompts"]
    return pd.DataFrame(out, columns=[*columns, "share", "other_share", "tier", "reason"])


def crossed_means(store: Store, study: str, measure: str, by: str, split: str, seed: int = 0) -> pd.DataFrame:
    """Mean of `measure` at each pair of levels of the axes `by` and `split` that the study holds.

    Columns: part (the level of `split`), level, mean, low, high (95 %, over prompts), n, n_prompts, tier. Where several
    probes give the measure, one counts, as in `outcome_shares`.
    """
    import pandas as pd

    rows = store.query(
        """
        SELECT prompt_group, levels[?] AS part, level, value, tier FROM scored_by_axis
        WHERE study = ? AND measure = ? AND axis = ? AND status = 'ok' AND value IS NOT NULL AND levels[?] IS NOT NULL
            AND list_contains(?::VARCHAR[], probe_id)
        ORDER BY level_position, cell_id, seed, probe_id, target
        """,
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
