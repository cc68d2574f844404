"""What a traced study says of attention: four figures, each with its interval over prompts.

    mass       attention of nouns on their parsed objects, less the objects' share of the area; 0 is chance
    foretells  AUC of the attention contrast for "correct" against "swap or leak"; 1/2 is chance
    acts       change by a colour word on its own object less that on the other; 0 is chance
    colours    own objects that lose their colour without its word, less others that do; 0 is chance

The AUC's interval resamples prompts with all their pictures (percentiles); samples with one outcome alone are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from promptlab.calibration import auc
from promptlab.errors import PromptlabError
from promptlab.stats import Interval, mean_interval

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["Figure", "attention_figures"]

RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """One of the four: what it says, the number that is chance, and the number found."""

    name: str
    says: str
    chance: float
    found: Interval


def attention_figures(store: Store, study: str, seed: int = 0) -> tuple[Figure, ...]:
    """The figures of a study. Raises PromptlabError where none of its pictures was traced."""

    def mean(measure: str) -> Interval:
        rows = store.query(
            "SELECT prompt_group, avg(value) AS value FROM scored WHERE study = ? AND measure = ? AND status = 'ok' "
            "GROUP BY prompt_group, image ORDER BY prompt_group, image",
            [study, measure],
        )
        values = [None if v is None or v != v else float(v) for v in rows["value"].tolist()]
        return mean_interval(values, rows["prompt_group"].tolist(), rng=np.random.default_rng(seed))

    contrast = store.query(
        "SELECT a.prompt_group, a.value, o.outcome FROM scored AS a JOIN outcomes AS o USING (study, cell_id, seed) "
        "WHERE study = ? AND a.measure = 'attention_contrast' AND a.status = 'ok' AND o.probe LIKE 'binding-%' "
        "AND a.value IS NOT NULL AND o.outcome IN ('correct', 'swap', 'leak') ORDER BY a.image",
        [study],
    )
    figures = (
        Figure("mass", "attention of a noun on its object, less its area", 0.0, mean("attention_mass")),
        Figure(
            "foretells",
            "AUC of the attention contrast, correct against swap or leak",
            0.5,
            _auc_interval(
                contrast["value"].to_numpy(float),
                (contrast["outcome"] == "correct").to_numpy(bool),
                contrast["prompt_group"].tolist(),
                seed,
            ),
        ),
        Figure("acts", "change by a colour word, own object less the other (Delta-E)", 0.0, mean("ablation_contrast")),
        Figure(
            "colours",
            "colour lost without its word, own object less the other (share)",
            0.0,
            mean("ablation_loss_contrast"),
        ),
    )
    if not any(figure.found.n or figure.found.n_dropped for figure in figures):
        raise PromptlabError(
            f"no picture of {study!r} was traced: add the probes attention and ablation to it, and promptlab run it"
        )
    return figures


def _auc_interval(values: np.ndarray, right: np.ndarray, groups: list[str], seed: int) -> Interval:
    n, n_groups = len(values), len(set(groups))
    if not right.any() or right.all():
        why = f"{int(right.sum())} correct and {int((~right).sum())} swapped or leaked: at least one of each is needed"
        return Interval(None, None, None, n_groups, n, 0, "none", reason=why)
    rng = np.random.default_rng(seed)
    index = np.unique(groups, return_inverse=True)[1]
    members = [np.flatnonzero(index == g) for g in range(n_groups)]
    samples = []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([members[g] for g in rng.integers(0, n_groups, n_groups)])
        if right[chosen].any() and not right[chosen].all():
            samples.append(auc(values[chosen].tolist(), right[chosen].tolist()))
    low, high = np.quantile(samples, [0.025, 0.975])
    kept = f"{len(samples)} of {RESAMPLES} samples held both outcomes" if len(samples) < RESAMPLES else None
    estimate = auc(values.tolist(), right.tolist())
    return Interval(estimate, float(low), float(high), n_groups, n, 0, "percentile over prompts", reason=kept)
