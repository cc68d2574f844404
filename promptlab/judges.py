"""Judges side by side: what each says of the same pictures, and how far they agree.

    verdict    does this picture show what was asked? 1 or 0: `correct` of a judge that tells outcomes (scene parser,
               detector, questions, people), VQAScore above 1/2 of one that only says how likely "Yes" is
    outcome    which of `records.OUTCOMES`, of the former
    observed   share of pictures of which two judges say the same
    alpha      Krippendorff's, over pictures that both judged; prompts are resampled

Two judges of one family err alike; agreement of two families is the evidence that photographs allow, where no truth is
known. It is not accuracy: both may be wrong, and a rate on which they differ is as uncertain as they are far apart.

References:
    `promptlab.agreement`. Report at least two families of judge: no metric is best everywhere (arXiv 2509.21227).
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.agreement import krippendorff_alpha
from promptlab.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["agreements", "judges"]

_VERDICTS = """
SELECT split_part(probe, '-', 1) AS judge, image, prompt_id, prompt_group, tier, any_value(label) AS outcome,
    any_value(CASE WHEN measure = 'correct' THEN value WHEN value IS NOT NULL THEN (value > 0.5)::DOUBLE END) AS verdict
FROM scored
WHERE study = ? AND status = 'ok' AND measure IN ('correct', 'vqascore') AND target = ''
GROUP BY ALL
"""


def judges(store: Store, study: str, seed: int = 0) -> pd.DataFrame:
    """One row a judge: what share of the pictures shows what was asked.

    Columns: judge, share, low, high (over prompts), n, n_prompts, not_measured, tier, and sensitivity, specificity,
    youden: of its passport, from drawn pictures (NULL without one).
    """
    import pandas as pd

    rows = store.query(_VERDICTS, [study])
    passes = store.query(
        "SELECT split_part(probe, '-', 1) AS judge, any_value(sensitivity) AS sensitivity, "
        "any_value(specificity) AS specificity, any_value(youden) AS youden "
        "FROM passport WHERE family = 'binding' GROUP BY ALL"
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
