"""What a traced study says of attention and of its prompts' parts: figures, each with its interval over prompts.

    mass       attention of nouns on their parsed objects, less the objects' share of the area; 0 is chance
    foretells  AUC of the attention contrast for "correct" against "swap or leak"; 1/2 is chance
    acts       change by a colour word on its own object less that on the other; 0 is chance
    colours    own objects that lose their colour without its word, less others that do; 0 is chance
    words      change without the words' own states, of that without all text; 0 is none (`end`, `padding` likewise)
    words_lost asked colours lost without them; 0 is none (`end_lost`, `padding_lost` likewise)

The AUC's interval resamples prompts with all their pictures (percentiles); samples with one outcome alone are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from promptlab.errors import PromptlabError
from promptlab.results.queries import at_levels
from promptlab.stats.calibration import auc
from promptlab.stats.paired import Interval, mean_interval

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["Figure", "attention_figures"]

RESAMPLES = 2000
_FORETELLS = "AUC of the attention contrast, correct against swap or leak"
_ACTS = "change by a colour word, own object less the other (Delta-E)"
_COLOURS = "colour lost without its word, own object less the other (share)"
_SCORES = """
SELECT prompt_group, image, levels, probe, measure, target, value FROM scored
WHERE study = ? AND status = 'ok' AND probe IN ('attention', 'ablation', 'padding')
ORDER BY prompt_group, image, target
"""
_OUTCOMES = """
SELECT a.prompt_group, a.levels, a.value, o.outcome FROM scored AS a JOIN outcomes AS o USING (study, cell_id, seed)
WHERE study = ? AND a.measure = 'attention_contrast' AND a.status = 'ok' AND o.probe = 'binding'
    AND a.value IS NOT NULL AND o.outcome IN ('correct', 'swap', 'leak') ORDER BY a.image
"""


@dataclass(frozen=True)
class Figure:
    """One of them: what it says, the measure it is of, the number that is chance, and the number found."""

    name: str
    says: str
    measure: str
    chance: float
    found: Interval


def attention_figures(
    store: Store, study: str, seed: int = 0, where: Mapping[str, str] | None = None
) -> tuple[Figure, ...]:
    """The figures of those probes that scored the study, of its cells at the levels of `where` (as text).

    Attention and ablation have two figures each, padding two for each part; of a probe that did not score, none is
    here. Raises PromptlabError where no picture was traced.
    """
    rows = at_levels(store.query(_SCORES, [study]), where)

    def mean(measure: str, part: str = "") -> Interval:
        own = rows[(rows["measure"] == measure) & rows["target"].str.startswith(part)]
        pictures = own.groupby(["prompt_group", "image"])["value"].mean().reset_index()
        values = [None if v != v else float(v) for v in pictures["value"].tolist()]
        return mean_interval(values, pictures["prompt_group"].tolist(), rng=np.random.default_rng(seed))

    contrast = at_levels(store.query(_OUTCOMES, [study]), where)
    told = _auc_interval(
        contrast["value"].to_numpy(float),
        (contrast["outcome"] == "correct").to_numpy(bool),
        contrast["prompt_group"].tolist(),
        seed,
    )
    mass, change, loss = (mean(name) for name in ("attention_mass", "ablation_contrast", "ablation_loss_contrast"))
    figures = [
        Figure("mass", "attention of a noun on its object, less its area", "attention.attention_mass", 0.0, mass),
        Figure("foretells", _FORETELLS, "attention.attention_contrast", 0.5, told),
        Figure("acts", _ACTS, "ablation.ablation_contrast", 0.0, change),
        Figure("colours", _COLOURS, "ablation.ablation_loss_contrast", 0.0, loss),
    ]
    for part, name in (("words", "words"), ("end", "end mark"), ("padding", "padding")):
        share, lost = mean("part_share", part), mean("part_loss", f"{part} > ")
        says = f"change without the {name}, of that without any text"
        figures.append(Figure(part, says, "padding.part_share", 0.0, share))
        says = f"asked colours lost without the {name} (share)"
        figures.append(Figure(f"{part}_lost", says, "padding.part_loss", 0.0, lost))
    scored = set(rows["probe"])
    if not scored:
        raise PromptlabError(
            f"no picture of {study!r} was traced: add the probes attention and ablation to it, and promptlab run it"
        )
    return tuple(figure for figure in figures if figure.measure.split(".")[0] in scored)


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
