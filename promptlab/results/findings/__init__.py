"""Every analysis that a study's axes allow, in one table: what `burn`, `order`, `needle` and the others make of it.

    axis                              findings
    guidance_scale                    burn vector and burn point, and where the curve of chroma bends
    an order of two objects           primacy, colour by position, share of area, side
    any order, and a paraphrase       distance of pictures between orders, less that between paraphrases
    tokens, with a needle             recall before and beyond the limit: step, slope, area; equality of cut prompts
    ladder, with a control            slope per detail, less that of the filler
    num_inference_steps               steps from which on the loss of `correct` stays below a margin, and are enough
    two objects in a prompt           compounding: both right, against what independent objects would give
    any, traced                       attention, ablation and padding: the figures of the module `attention`
    one coloured object (miniature)   slope of "there, in its colour" on how often training showed the pair

A picture's several targets are averaged, and so are cells of one prompt that differ in other axes, unless `where` holds
those fixed; cells that are not there at all levels of the axis are left out. The modules named in `module` say what
each number is and where it is from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import PromptlabError
from promptlab.records import Level
from promptlab.results.findings import burn, needle, order, rarity, specificity, steps
from promptlab.results.findings.attention import attention_figures
from promptlab.results.queries import (
    StudyScores,
    balanced,
    claimed_pairs,
    kept_prompts,
    number_of,
    object_places,
    right_objects,
    study_axes,
    study_scores,
)
from promptlab.stats.curves import Finding
from promptlab.stats.paired import Effect

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["LIMIT", "MARGIN", "findings"]

LIMIT = 76
"""The first token that CLIP's 77 cut off: the last of them is the end mark."""
MARGIN = 0.03
COLUMNS = (
    *("finding", "module", "axis", "measure", "estimate", "low", "high", "p", "n_prompts", "n", "n_dropped"),
    *("method", "reason", "tier"),
)


def findings(store: Store, study: str, where: Mapping[str, Level] | None = None, seed: int = 0) -> pd.DataFrame:
    """One row a finding of `study`: see the module. `where` holds axes at a level.

    Columns: finding, module, axis, measure, estimate, low, high (95 %), p, n_prompts, n (pictures), n_dropped, method,
    reason, tier. What the data cannot give is NULL with a reason. Raises PromptlabError for a level that is not there.
    """
    import pandas as pd

    data = study_scores(store, study, where)
    tier = ", ".join(sorted(set(data.rows["tier"].dropna())))
    rng = np.random.default_rng(seed)
    makers = (_burn, _order, _needle, _ladder, _steps, _compounding, _rarity, _sensitivity, _attention)
    found = [row for make in makers for row in make(data, rng)]
    return pd.DataFrame([{"tier": tier, **row} for row in found], columns=list(COLUMNS))


def _row(name: str, module: str, axis: str, measure: str, found: Finding | Effect) -> dict[str, Any]:
    n = found.n_pairs if isinstance(found, Effect) else found.n
    return {
        **{"finding": name, "module": module, "axis": axis, "measure": measure, "estimate": found.estimate},
        **{"low": found.low, "high": found.high, "p": found.p, "n_prompts": found.n_groups, "n": n},
        **{"n_dropped": found.n_dropped, "method": found.method, "reason": found.reason},
    }


def _tried(name: str, module: str, axis: str, measure: str, ask: Callable[[], Finding | Effect]) -> dict[str, Any]:
    """A finding, or what its module says against the data, as the reason."""
    try:
        return _row(name, module, axis, measure, ask())
    except ValueError as error:
        return {"finding": name, "module": module, "axis": axis, "measure": measure, "reason": str(error)}


def _burn(data: StudyScores, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Against the lowest guidance of 1 or more: the threshold is what 99 of 100 pictures there stay below."""
    import pandas as pd

    axis, chroma = "guidance_scale", "exposure.p95_chroma"
    levels = sorted(n for level in data.axes.get(axis, ()) if (n := number_of(level)) is not None)
    curve = data.scores(chroma, axis)
    if len(levels) < 2 or curve.empty:
        return
    plain = next((w for w in levels if w >= 1), levels[0])
    names = ("colourfulness", "mean_chroma", "p95_chroma", "clipped_share", "rms_contrast", "mean_luma")
    several = [data.scores(f"exposure.{name}", axis).assign(measure=name) for name in names]
    keys = ["prompt_group", "seed", "level", "measure"]
    scores = pd.concat(several).groupby(keys, sort=False)["value"].mean().reset_index()
    if levels[-1] > plain:
        for name, effect in burn.burn_vector(scores, levels[-1], plain, rng=rng).items():
            label = f"change from w = {plain:g} to {levels[-1]:g}"
            yield _row(label, "burn", axis, f"exposure.{name}", effect)
    unburnt = curve.loc[np.isclose(curve["level"], plain), "value"]
    threshold = burn.threshold_of(unburnt.to_numpy())
    above = curve[curve["level"] >= plain]
    point = partial(burn.burn_point, above, threshold, rng=rng)
    yield _tried(f"w* at which it exceeds {threshold:.3g}", "burn", axis, chroma, point)
    yield _tried("w at which its curve bends", "burn", axis, chroma, partial(burn.bend, curve, rng=rng))


def _order(data: StudyScores, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    columns = {column.name: column for column in study_axes(data.store, data.study) if column.kind == "order"}
    for axis, levels in data.axes.items():
        names = columns[axis].names if axis in columns else ()
        if len(names) != 2 or len(levels) != 2 or not set(names) <= set(data.rows["target"]):
            continue
        places = object_places(data)
        binding = data.rows[data.rows["probe"] == "binding"]
        for name, measure in (("primacy", "noun"), ("colour by position", "colour")):
            scores = _mentioned(binding[binding["measure"] == measure], axis, names, "value")
            yield _tried(name, "order", axis, f"binding.{measure}", partial(order.primacy, scores, rng=rng))
        area, side = (_mentioned(places, axis, names, column) for column in ("area", "x"))
        shares = partial(order.area_share, area, rng=rng)
        yield _tried("first's share of area, less 1/2", "order", axis, "binding.noun", shares)
        yield _tried("first is left, less 1/2", "order", axis, "binding.noun", partial(order.side, side, rng=rng))


def _mentioned(rows: pd.DataFrame, axis: str, names: tuple[str, ...], column: str) -> pd.DataFrame:
    """prompt_group, order, seed, mention (1 or 2) and value, of the objects `names` that the order arranges."""
    rows = balanced(rows[rows["objects"] == 2], axis)
    orders = {", ".join(named): named for named in permutations(names)}
    levels = [levels.get(axis) or "" for levels in rows["levels"]]
    arranged = [orders.get(level, ()) for level in levels]
    places = [named.index(t) + 1 if t in named else 0 for named, t in zip(arranged, rows["target"], strict=True)]
    found = rows[["prompt_group", "seed"]].assign(order=levels, mention=places, value=rows[column].astype(float))
    keys = ["prompt_group", "order", "seed", "mention"]
    return found[found["mention"] > 0].groupby(keys)["value"].mean().reset_index()


def _brought(data: StudyScores, part: str) -> Iterator[tuple[str, str]]:
    """Columns that are this part of an axis, each with the axis' own column, where scores have both."""
    columns = sorted((column.name, column.axis) for column in study_axes(data.store, data.study) if column.part == part)
    return ((name, axis) for name, axis in columns if name in data.axes and axis in data.axes)


def _needle(data: StudyScores, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    measure = "binding.noun"
    for axis, length in _brought(data, "at"):
        longest = max((n for level in data.axes[length] if (n := number_of(level)) is not None), default=None)
        there = data.level(length).map(number_of) == longest
        part = StudyScores(data.store, data.study, data.rows[there], data.axes, data.where)
        scores = part.scores(measure, axis)
        if scores.empty:
            continue
        try:
            found = needle.recall(scores, LIMIT, rng=rng)
        except ValueError as error:
            yield {"finding": "recall", "module": "needle", "axis": axis, "measure": measure, "reason": str(error)}
            continue
        for name, one in (("step at the limit", found.step), ("slope", found.slope), ("area", found.area)):
            label = {"slope": "slope per 10 tokens, inside", "area": "mean recall, inside"}.get(name, name)
            yield _row(f"recall: {label}", "needle", axis, measure, one)
        same = needle.truncation_equality(kept_prompts(data))
        share = None if same.equal is None else same.n_equal / same.n_pairs
        yield {
            **{
                "finding": "pictures alike up to the limit are equal",
                "module": "needle",
                "axis": axis,
                "n": same.n_pairs,
            },
            **{"measure": "image.pixels", "estimate": share, "method": "exact", "reason": same.reason},
        }


def _ladder(data: StudyScores, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for arm, axis in _brought(data, "arm"):
        for measure in ("diversity.seed_distance", "diversity.scene_entropy", "exposure.colourfulness"):
            scores = data.scores(measure, axis)
            if scores.empty:
                continue
            sides = dict(zip(data.rows["cell_id"], data.level(arm), strict=True))
            of = scores["cell_id"].map(sides)
            own, filler = scores[of != "filler"], scores[of == "filler"]
            ask = partial(specificity.slope, own, filler if len(filler) else None, rng=rng)
            yield _tried("slope per detail, less filler's", "specificity", axis, measure, ask)


def _steps(data: StudyScores, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    axis, measure = "num_inference_steps", "binding.correct"
    scores = data.scores(measure, axis)
    if scores["level"].nunique() < 2:
        return
    found = steps.convergence(scores, MARGIN, rng=rng)
    name = f"steps from which on the loss to {found.reference:g} is below {MARGIN:g}"
    yield _row(name, "convergence", axis, measure, found.knee)
    reason = None if found.enough is not None else "no number of steps is shown to be enough by so many prompts"
    yield {
        **{"finding": "steps shown to be enough", "module": "convergence", "axis": axis, "measure": measure},
        **{"estimate": found.enough, "n_prompts": found.knee.n_groups, "n": found.knee.n, "reason": reason},
        "method": "90 % interval below the margin",
    }


def _compounding(data: StudyScores, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    scores = right_objects(data, 2)
    if scores.empty:
        return
    if scores.duplicated(["prompt_group", "seed", "part"]).any():
        reason = "a prompt has several cells: hold the other axes at a level, where={axis: level}"
        yield {"finding": "compounding", "module": "specificity", "measure": "binding.colour", "reason": reason}
        return
    yield _tried("compounding", "specificity", "", "binding.colour", partial(specificity.compounding, scores, rng=rng))


def _rarity(data: StudyScores, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    from promptlab.resources import shipped_folder

    scores = right_objects(data, 1)
    if scores.empty or set(data.rows["tier"]) != {"T1"}:
        return
    counts = rarity.pair_counts(shipped_folder() / "pair_counts.csv")
    claims = claimed_pairs(data)
    scores = scores[scores["prompt_id"].isin(claims)]
    pairs = [claims[key] for key in scores["prompt_id"]]
    scores = scores.assign(prompt_group=[" ".join(pair) for pair in pairs], count=[counts.get(p, 0) for p in pairs])
    slope, gap = (partial(ask, scores, rng=rng) for ask in (rarity.rarity_slope, rarity.held_out_gap))
    yield _tried("log odds for ten times the examples", "rarity", "", "binding.colour", slope)
    yield _tried("never seen, less seen", "rarity", "", "binding.colour", gap)


def _sensitivity(data: StudyScores, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    name = "order sensitivity"
    for one in order.compared(data.store, data.study, data.where):
        said = {"finding": name, "module": "order", "axis": one.axis, "measure": one.measure, "reason": one.reason}
        if one.scores is not None:
            said = _tried(name, "order", one.axis, one.measure, partial(order.sensitivity, one.scores, rng=rng))
        yield {"tier": one.tier, **said}


def _attention(data: StudyScores, _: np.random.Generator) -> Iterator[dict[str, Any]]:
    try:
        figures = attention_figures(data.store, data.study, where=data.where)
    except PromptlabError:  # no picture was traced
        return
    for one in figures:
        found = {name: getattr(one.found, name) for name in ("estimate", "low", "high", "n", "n_dropped", "method")}
        named = {"finding": f"{one.says}; chance {one.chance:g}", "module": "attention_answer", "axis": ""}
        yield {**named, "measure": one.measure, **found, "n_prompts": one.found.n_groups, "reason": one.found.reason}
