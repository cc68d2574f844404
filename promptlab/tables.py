"""Tables: tidy DataFrames from the published database. The only thing that command line, dashboard and notebooks see.

Every table has one row a group, an `n` of pictures, an `n_prompts`, and intervals over prompts (95 %, bootstrap). A
picture that is not ok, or not measured, is in no mean; `completeness` says how many those are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.crossed import crossed_means
from promptlab.leakage import leakage
from promptlab.one_probe import rows_of_one_probe
from promptlab.records import OUTCOMES
from promptlab.stats import mean_interval, paired_effect

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = [
    "cell_means",
    "claims",
    "completeness",
    "crossed_means",
    "effects",
    "leakage",
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

    rows = store.query(
        """
        SELECT o.prompt_group, o.seed, o.outcome, o.probe, o.tier, o.levels[?] AS level, c.position
        FROM outcomes o JOIN cell c ON c.study = o.study AND c.id = o.cell_id
        WHERE o.study = ? AND o.measure = 'correct' AND o.outcome IS NOT NULL
            AND (SELECT count(*) FROM binding WHERE binding.prompt_id = o.prompt_id) = 2
        ORDER BY c.position
        """,
        [by or "", study],
    )
    rows = rows_of_one_probe(rows, probe)
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for level in dict.fromkeys(rows["level"]) if by else [None]:
        part = rows if level is None else rows[rows["level"] == level]
        behind = _corrected(store, part, rng)
        for outcome in (*OUTCOMES, "accuracy"):
            pool = part
            if outcome == "accuracy":
                pool = part[part["outcome"].isin(["correct", "swap", "leak", "other"])]
            hit = pool["outcome"] == ("correct" if outcome == "accuracy" else outcome)
            groups = pool["prompt_group"].tolist()
            interval = mean_interval(hit.astype(float).tolist(), groups, rng=rng, resamples=2000)
            row = {"level": level, "outcome": outcome, "share": interval.estimate, "low": interval.low}
            row |= {"high": interval.high, "n": len(pool), "n_prompts": len(set(groups))}
            out.append({**row, "tier": part["tier"].iloc[0] if len(part) else None, **behind.get(outcome, {})})
    return pd.DataFrame(out)


def _corrected(store: Store, rows: pd.DataFrame, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """By outcome: corrected, corrected_low, corrected_high, reason."""
    from promptlab.calibration import corrected_shares

    blank = {"corrected": None, "corrected_low": None, "corrected_high": None}
    if not len(rows):
        return {}
    found = store.query(
        "SELECT detail FROM passport WHERE probe = ? AND family = 'binding'", [str(rows["probe"].iloc[0])]
    )
    detail = json.loads(found["detail"].iloc[0]) if len(found) else {}
    if "confusion" not in detail:
        return {outcome: {**blank, "reason": "no passport"} for outcome in OUTCOMES}
    shares = corrected_shares(
        rows["outcome"].tolist(),
        rows["prompt_group"].tolist(),
        np.array(detail["confusion"]),
        detail["classes"],
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
    import pandas as pd

    rows = store.query(
        """
        SELECT prompt_group, probe, levels[?] AS level, value, tier, level_position
        FROM scored_by_axis WHERE study = ? AND measure = ? AND axis = ? AND status = 'ok' AND value IS NOT NULL
        ORDER BY level_position, cell_id, seed, probe, target
        """,
        [by, study, measure, by],
    )
    rows = rows_of_one_probe(rows, probe)
    rng = np.random.default_rng(seed)
    out = []
    for level in dict.fromkeys(rows["level"]):
        part = rows[rows["level"] == level]
        groups = part["prompt_group"].tolist()
        interval = mean_interval(part["value"].tolist(), groups, rng=rng, resamples=2000)
        row = {"level": level, "mean": interval.estimate, "low": interval.low, "high": interval.high}
        out.append({**row, "n": len(part), "n_prompts": len(set(groups)), "tier": part["tier"].iloc[0]})
    return pd.DataFrame(out, columns=["level", "mean", "low", "high", "n", "n_prompts", "tier"])


def ranking(
    store: Store,
    study: str,
    measure: str,
    axis: str | None = None,
    seed: int = 0,
    probe: str | None = None,
    group: str | None = None,
) -> pd.DataFrame:
    """Wordings by a measure, the best first: levels of `axis`, or whole prompts (the 200 best) if None.

    Where several probes give the measure, `probe` says whose word counts, as in `outcome_shares`. `group` is a prompt
    family: of its pictures alone; None takes all.

    Columns: level, mean, low, high, n, n_prompts, tier, and behind, behind_low, behind_high: how far it is behind the
    best, over pictures that differ in nothing else (same prompt family, seed and other levels). Of whole prompts the
    seeds are resampled, so an interval speaks of that prompt alone.
    """
    import pandas as pd

    rows = store.query(
        """
        SELECT prompt_group, probe, prompt, seed, value, tier, levels[?] AS level, higher_is_better,
            concat_ws('|', seed, target, list_filter(map_entries(levels), lambda e: e.key <> ?)::VARCHAR) AS pair,
            concat_ws('|', seed, target, guidance_scale, num_inference_steps, model, negative_prompt) AS setting
        FROM scored WHERE study = ? AND measure = ? AND status = 'ok' AND value IS NOT NULL
            AND prompt_group = coalesce(?, prompt_group)
        ORDER BY cell_id, seed, probe, target
        """,
        [axis or "", axis or "", study, measure, group],
    )
    columns = ["level", "mean", "low", "high", "n", "n_prompts", "tier", "behind", "behind_low", "behind_high"]
    if axis is None:
        rows["level"], rows["prompt_group"], rows["pair"] = rows["prompt"], rows["seed"], rows["setting"]
    rows = rows_of_one_probe(rows[rows["level"].notna()], probe)
    if not len(rows):
        return pd.DataFrame(columns=columns)
    ascending = bool((rows["higher_is_better"] == False).all())  # noqa: E712 - NULL is no False
    means = rows.groupby("level")["value"].mean().sort_values(ascending=ascending).head(200)
    best = rows[rows["level"] == means.index[0]]
    rng = np.random.default_rng(seed)
    out = []
    for level in means.index:
        part = rows[rows["level"] == level]
        interval = mean_interval(part["value"].tolist(), part["prompt_group"].tolist(), rng=rng, resamples=2000)
        row = {"level": level, "mean": interval.estimate, "low": interval.low, "high": interval.high, "n": len(part)}
        row |= {
            "n_prompts": part["prompt"].nunique() if axis is None else interval.n_groups,
            "tier": part["tier"].iloc[0],
        }
        if level != means.index[0]:
            a, b = (arm.groupby(["prompt_group", "pair"])["value"].mean() for arm in (best, part))
            both = a.rename("value_best").to_frame().join(b, how="inner").reset_index()
            values = both["value_best"].tolist(), both["value"].tolist()
            gap = paired_effect(*values, both["prompt_group"].tolist(), both["pair"].tolist(), rng=rng, resamples=2000)
            row |= {"behind": gap.estimate, "behind_low": gap.low, "behind_high": gap.high}
        out.append(row)
    return pd.DataFrame(out, columns=columns)


def effects(store: Store, study: str) -> pd.DataFrame:
    """The contrasts of a study, as table `effect` of the database; and tier, and q.

    `p_adjusted` is Holm's over the confirmatory contrasts, `q` Benjamini and Hochberg's over the others: of exploratory
    findings with q below 0.1, a tenth is expected to be false. Each is NULL for contrasts of the other kind.
    """
    from promptlab.hypotheses import benjamini_hochberg

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
    return store.query("SELECT * EXCLUDE (run) FROM passport ORDER BY probe, family")
