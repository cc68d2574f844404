"""The contrasts of a study by the mixed model, beside what the bootstrap over prompts says of them.

The engine `reml` is `promptlab.mixed`; `statsmodels` fits the same model with MixedLM (extra `stats`): another's code
for the same likelihood, but with normal quantiles in place of t, and where a variance is near 0 it often does not
converge, which its `reason` says.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab import yaml_strict
from promptlab.effects import Pairs, contrast_pairs
from promptlab.errors import PromptlabError, nearest
from promptlab.mixed import Mixed, mixed_effect
from promptlab.study import Contrast

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["ENGINES", "contrasts_of", "fit_statsmodels", "mixed"]

ENGINES = ("reml", "statsmodels")


def contrasts_of(store: Store, study: str) -> tuple[Contrast, ...]:
    """The contrasts of a study as its last run saw it. Raises PromptlabError where that run had no file."""
    text = store.query("SELECT text FROM study WHERE name = ?", [study])["text"].tolist()
    if not text or not text[0]:
        raise PromptlabError(f"{study} was run without a study file, so the database does not know its contrasts")
    data = yaml_strict.parse(text[0], f"{study}.yaml").data
    return tuple(Contrast.model_validate(one) for one in data.get("contrasts") or ())


def mixed(store: Store, study: str, engine: str = "reml") -> pd.DataFrame:
    """One row a contrast of `study`: the paired difference by the mixed model, and what varies it.

    Columns: contrast, measure, target, and those of `promptlab.mixed.Mixed`: n_prompts, n_seeds, n_pairs, n_dropped,
    estimate, low, high, p, df, prompt_share, seed_share, residual_share, residual_sd, method, reason; then
    over_prompts, over_prompts_low, over_prompts_high, what `tables.effects` says; tier.

    Raises PromptlabError for an unknown engine, and for `statsmodels` where it is not installed.
    """
    import pandas as pd

    from promptlab.tables import effects

    if engine not in ENGINES:
        raise PromptlabError(
            f"no engine is called {engine!r}: choose from {', '.join(ENGINES)}{nearest(engine, ENGINES)}"
        )
    beside = effects(store, study).drop_duplicates("contrast").set_index("contrast")
    rows = []
    for contrast in contrasts_of(store, study):
        pairs = contrast_pairs(store, study, contrast)
        found = mixed_effect(pairs.a, pairs.b, pairs.groups, pairs.seeds)
        if engine == "statsmodels":
            found = fit_statsmodels(pairs, found)
        row: dict[str, Any] = {"contrast": contrast.name, "measure": contrast.measure, "target": contrast.target or ""}
        row |= {name: value for name, value in asdict(found).items() if name != "confidence"}
        known = contrast.name in beside.index
        for name, column in (("", "estimate"), ("_low", "low"), ("_high", "high")):
            row[f"over_prompts{name}"] = beside.loc[contrast.name, column] if known else None
        rows.append({**row, "tier": beside.loc[contrast.name, "tier"] if known else None})
    return pd.DataFrame(rows)


def fit_statsmodels(pairs: Pairs, ours: Mixed) -> Mixed:
    """The same pairs by MixedLM, whose factors are those that `ours` could tell apart.

    Raises PromptlabError where statsmodels is not installed.
    """
    try:
        from statsmodels.regression.mixed_linear_model import MixedLM
        from statsmodels.tools.sm_exceptions import ConvergenceWarning
    except ImportError:
        raise PromptlabError(
            "statsmodels is not installed here: pip install 'promptlab-t2i[stats]'; the engine reml does without"
        ) from None
    import pandas as pd

    factors = {"prompts": ours.prompt_share, "seeds": ours.seed_share}
    told = {name: f"0 + C({name})" for name, share in factors.items() if share is not None}
    if ours.low is None or not told:
        return replace(ours, method="none" if ours.low is None else ours.method)
    frame = pd.DataFrame(
        {"a": pairs.a, "b": pairs.b, "prompts": pairs.groups, "seeds": pairs.seeds, "all": 1}, dtype=None
    )
    frame["d"] = frame["a"].astype(float) - frame["b"].astype(float)
    frame = frame.dropna(subset=["d"])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit = MixedLM.from_formula("d ~ 1", frame, groups="all", vc_formula=told).fit(reml=True)
    unsure = any(issubclass(one.category, ConvergenceWarning) for one in heard) or not fit.converged
    low, high = (float(bound) for bound in np.asarray(fit.conf_int(1 - ours.confidence))[0])
    variances = dict(zip(fit.model.exog_vc.names, map(float, fit.vcomp), strict=True))
    total = sum(variances.values()) + float(fit.scale)
    return replace(
        ours,
        estimate=float(fit.fe_params.iloc[0]),
        low=low,
        high=high,
        p=float(fit.pvalues.iloc[0]),
        df=None,
        prompt_share=variances["prompts"] / total if "prompts" in variances else None,
        seed_share=variances["seeds"] / total if "seeds" in variances else None,
        residual_share=float(fit.scale) / total,
        residual_sd=float(np.sqrt(fit.scale)),
        method="statsmodels MixedLM, REML, normal",
        reason="; ".join(filter(None, (ours.reason, "it did not converge well" if unsure else None))) or None,
    )
