"""What the contrasts of a study came to: paired differences per prompt at shared seeds, Holm over the confirmatory.

A contrast compares two levels of one axis. Images pair when they agree in everything else: the other axes, the seed,
and the prompt family (`Cell.group`), which is the unit of inference. Pairs in which one image was not measured are
dropped and counted.

`mixed` gives the same contrasts by the mixed model (`promptlab.stats.mixed`), with what the bootstrap over prompts says
of them.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import PromptlabError
from promptlab.records import ContrastEffect
from promptlab.results.queries import sql
from promptlab.stats.mixed import mixed_effect
from promptlab.store.database import level_text
from promptlab.study.study import Contrast, Study

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["Pairs", "contrast_effects", "contrast_pairs", "contrasts_of", "mixed"]


@dataclass(frozen=True)
class Pairs:
    """Images that differ in the contrast's axis alone: (n,) each. None in an arm is what was not measured.

    `probe_id` is the id of the probe whose scores they are, None where there are none. `elsewhere` is what scores of
    the measure are about ('' is the whole image) where none is about the contrast's target.
    """

    probe_id: str | None
    a: tuple[float | None, ...]
    b: tuple[float | None, ...]
    groups: tuple[str, ...]
    seeds: tuple[int, ...]
    elsewhere: tuple[str, ...] = ()


def contrast_pairs(store: Store, study: str, contrast: Contrast) -> Pairs:
    """The pairs of a contrast of `study` (by name), from the published database."""
    scores = store.query(sql("contrast_scores"), [study, contrast.measure.split(".", 1)[1], contrast.probe])
    arms = [level_text(level) for level in contrast.levels]
    where = {axis: level_text(level) for axis, level in contrast.where.items()}
    sides: dict[tuple[str, int, Hashable], list[list[float]]] = {}
    probe_id: str | None = None
    elsewhere: set[str] = set()
    rows: list[dict[str, Any]] = scores.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        levels: dict[str, Any] = dict(row["levels"] or {})
        if any(levels.get(axis) != level for axis, level in where.items()) or levels.get(contrast.axis) not in arms:
            continue
        if contrast.target is not None and row["target"] != contrast.target:
            elsewhere.add(str(row["target"]))
            continue
        probe_id = row["probe_id"]
        rest = tuple(sorted((a, v) for a, v in levels.items() if a != contrast.axis))
        key = (row["prompt_group"], row["seed"], rest)
        value = float("nan") if row["value"] is None else float(row["value"])
        # several targets of one image (its objects, say) are averaged
        sides.setdefault(key, [[], []])[arms.index(levels[contrast.axis])].append(value)
    pairs = {key: side for key, side in sides.items() if side[0] and side[1]}
    a, b = (tuple(_mean(side[i]) for side in pairs.values()) for i in (0, 1))
    return Pairs(
        probe_id,
        a,
        b,
        tuple(key[0] for key in pairs),
        tuple(key[1] for key in pairs),
        () if sides else tuple(sorted(elsewhere)),
    )


def contrast_effects(store: Store, study: Study, seed: int = 0, resamples: int = 10_000) -> tuple[ContrastEffect, ...]:
    """Effects of all contrasts of `study`, from the published database. Random numbers are drawn from `seed`."""
    effects = []
    for contrast in study.contrasts:
        pairs = contrast_pairs(store, study.name, contrast)
        effects.append(_effect(study, contrast, pairs, np.random.default_rng(seed), resamples))
    return _adjusted(study, effects)


def _effect(study: Study, contrast: Contrast, pairs: Pairs, rng: np.random.Generator, resamples: int) -> ContrastEffect:
    from promptlab.stats.hypotheses import tost
    from promptlab.stats.paired import paired_effect

    measure = contrast.measure.split(".", 1)[1]
    target = contrast.target or ""
    blank = ContrastEffect(study.name, contrast.name, contrast.probe, pairs.probe_id, measure, target)
    if not pairs.groups:
        return replace(blank, reason=_why_none(contrast, measure, pairs.elsewhere))
    effect = paired_effect(pairs.a, pairs.b, pairs.groups, rng=rng, resamples=resamples)
    found = replace(blank, **asdict(effect))
    if contrast.margin is not None and effect.estimate is not None:
        same = tost(pairs.a, pairs.b, pairs.groups, margin=contrast.margin)
        found = replace(found, detail={"equivalence": asdict(same)})
    return found


def _why_none(contrast: Contrast, measure: str, elsewhere: tuple[str, ...]) -> str:
    if not elsewhere:
        return "no pair of pictures was measured at both levels"
    about = ", ".join(name or "the whole picture" for name in elsewhere)
    advice = "; leave out the target" if elsewhere == ("",) else ""
    return f"no score of {measure} at these levels is about {contrast.target}: it is about {about}{advice}"


def _mean(values: list[float]) -> float | None:
    known = [v for v in values if v == v]
    return sum(known) / len(known) if known else None


def _adjusted(study: Study, effects: list[ContrastEffect]) -> tuple[ContrastEffect, ...]:
    from promptlab.stats.hypotheses import holm

    confirmatory = {c.name for c in study.contrasts if c.family == "confirmatory"}
    tested = [i for i, e in enumerate(effects) if e.contrast in confirmatory and e.p is not None]
    for i, p in zip(tested, holm([effects[i].p for i in tested]) if tested else [], strict=True):  # type: ignore[misc]
        effects[i] = replace(effects[i], p_adjusted=float(p))
    return tuple(effects)


def contrasts_of(store: Store, study: str) -> tuple[Contrast, ...]:
    """The contrasts of a study as its last run saw it, their levels as text.

    Raises PromptlabError where the database does not know what the study declares.
    """
    known = store.query("SELECT question FROM study WHERE name = ? AND question IS NOT NULL", [study])
    if not len(known):
        raise PromptlabError(f"{study} was run without a study file, so the database does not know its contrasts")
    rows: list[dict[str, Any]] = store.query(sql("contrasts"), [study]).to_dict("records")  # type: ignore[assignment]
    return tuple(
        Contrast(
            name=row["name"],
            measure=f"{row['probe']}.{row['measure']}",
            axis=row["axis"],
            levels=(row["level_a"], row["level_b"]),
            where=dict(row["conditions"]),
            target=row["target"] or None,
        )
        for row in rows
    )


def mixed(store: Store, study: str) -> pd.DataFrame:
    """One row for each contrast of `study`: the paired difference by the mixed model, and what varies it.

    Columns: contrast, measure, target, and those of `promptlab.stats.mixed.Mixed`: n_prompts, n_seeds, n_pairs,
    n_dropped, estimate, low, high, p, df, prompt_share, seed_share, residual_share, residual_sd, method, reason; then
    over_prompts, over_prompts_low, over_prompts_high, what `tables.effects` says; tier.
    """
    import pandas as pd

    from promptlab.results.tables import effects

    by_contrast = effects(store, study).drop_duplicates("contrast").set_index("contrast")
    rows = []
    for contrast in contrasts_of(store, study):
        pairs = contrast_pairs(store, study, contrast)
        found = mixed_effect(pairs.a, pairs.b, pairs.groups, pairs.seeds)
        row: dict[str, Any] = {"contrast": contrast.name, "measure": contrast.measure, "target": contrast.target or ""}
        row |= {name: value for name, value in asdict(found).items() if name != "confidence"}
        known = contrast.name in by_contrast.index
        for name, column in (("", "estimate"), ("_low", "low"), ("_high", "high")):
            row[f"over_prompts{name}"] = by_contrast.loc[contrast.name, column] if known else None
        rows.append({**row, "tier": by_contrast.loc[contrast.name, "tier"] if known else None})
    return pd.DataFrame(rows)
