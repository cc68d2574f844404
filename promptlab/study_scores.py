"""A study's scores as the analyses take them: one row a picture, with its prompt family, seed and level.

What is here reads the published database for `promptlab.study_findings`, and concludes nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import PromptlabError, nearest
from promptlab.publish import level_text
from promptlab.records import Level

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = [
    "StudyScores",
    "balanced",
    "claimed_pairs",
    "kept_prompts",
    "number_of",
    "object_places",
    "right_objects",
    "study_scores",
]

_SCORES = """
SELECT scored.prompt_group, scored.cell_id, scored.seed, scored.levels, split_part(scored.probe, '-', 1) AS probe,
    scored.measure, scored.target, scored.value, scored.tier, scored.prompt_id,
    (SELECT count(DISTINCT object) FROM binding WHERE binding.prompt_id = scored.prompt_id) AS objects
FROM scored WHERE study = ? AND status = 'ok' AND split_part(probe, '-', 1) IN ('binding', 'exposure', 'diversity')
ORDER BY cell_id, seed, probe, measure, target
"""
_PLACES = """
SELECT scored.prompt_group, scored.cell_id, scored.seed, scored.levels, scored.target,
    (SELECT count(DISTINCT object) FROM binding WHERE binding.prompt_id = scored.prompt_id) AS objects,
    (score.detail ->> '$.area')::DOUBLE AS area,
    (score.detail ->> '$.box[0]')::DOUBLE + (score.detail ->> '$.box[2]')::DOUBLE AS x
FROM scored JOIN score ON score.image = scored.image AND score.probe = scored.probe AND score.target = scored.target
    AND score.measure = scored.measure AND coalesce(score.prompt_id, scored.prompt_id) = scored.prompt_id
WHERE study = ? AND status = 'ok' AND scored.measure = 'noun' AND starts_with(scored.probe, 'binding-')
ORDER BY scored.cell_id, scored.seed, scored.target
"""
_NAMED = """
SELECT prompt_id, noun, attribute FROM binding WHERE attribute IS NOT NULL AND family IN ('colour', 'color')
ORDER BY prompt_id, position
"""
_PIXELS = """
SELECT cell.model, cell.prompt, cell_image.seed, image.pixels, cell.guidance_scale, cell.num_inference_steps,
    cell.height, cell.width, cell.scheduler, cell.negative_prompt
FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image
WHERE cell.study = ? AND cell.current AND image.status = 'ok' ORDER BY cell.position, cell_image.seed
"""


@dataclass(frozen=True)
class StudyScores:
    """A study's scores, one row a score, and its axes with their levels as text."""

    store: Store
    study: str
    rows: pd.DataFrame
    axes: dict[str, list[str]]
    where: dict[str, str]

    def level(self, axis: str) -> pd.Series[Any]:
        """The level of each row, as text, None where it has none."""
        return self.rows["levels"].map(lambda levels: levels.get(axis))

    def scores(self, measure: str, axis: str) -> pd.DataFrame:
        """prompt_group, cell_id, seed, level (a number), value of probe.measure: a row a picture, `balanced`."""
        probe, name = measure.split(".")
        part = self.rows[(self.rows["probe"] == probe) & (self.rows["measure"] == name)]
        part = part.assign(level=self.level(axis)[part.index].map(number_of)).dropna(subset=["level"])
        part = balanced(part, axis)
        keys = ["prompt_group", "cell_id", "seed", "level"]
        return part.groupby(keys, sort=False)["value"].mean().reset_index()


def study_scores(store: Store, study: str, where: Mapping[str, Level] | None = None) -> StudyScores:
    """The scores of `study` at the levels that `where` names. Raises PromptlabError for a level that is not there."""
    rows = store.query(_SCORES, [study])
    rows["levels"] = rows["levels"].map(lambda levels: dict(levels or {}))
    fixed = {axis: level_text(level) for axis, level in (where or {}).items()}
    names = {name for levels in rows["levels"] for name in levels}
    for axis, level in fixed.items():
        there = {levels[axis] for levels in rows["levels"] if axis in levels}
        if level not in there:
            known = sorted(there if axis in names else names)
            what = f"no level {level!r} of {axis!r}" if axis in names else f"no axis {axis!r}"
            hint = nearest(level if axis in names else axis, known)
            raise PromptlabError(f"{study} has {what}: it has {', '.join(known) or 'none'}{hint}")
    rows = _at(rows, fixed)
    axes = {name: list(dict.fromkeys(lv[name] for lv in rows["levels"] if name in lv)) for name in sorted(names)}
    return StudyScores(store, study, rows, axes, fixed)


def balanced(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Of rows with `levels`, those whose combination of prompt family and other axes is there at most levels of `axis`.

    Else a level would be compared with another that was asked of other cells too.
    """
    rest = [
        (group, tuple(sorted((name, level) for name, level in levels.items() if name != axis)))
        for group, levels in zip(rows["prompt_group"], rows["levels"], strict=True)
    ]
    there: dict[Hashable, set[str]] = {}
    for key, levels in zip(rest, rows["levels"], strict=True):
        there.setdefault(key, set()).add(levels.get(axis))
    most = max(map(len, there.values()), default=0)
    return rows[np.array([len(there[key]) == most for key in rest], dtype=bool)]


def number_of(level: str | None) -> float | None:
    """The number that a level's text is, or None."""
    try:
        return None if level is None else float(level)
    except ValueError:
        return None


def object_places(data: StudyScores) -> pd.DataFrame:
    """Share of the canvas (`area`) and twice the centre (`x`, pixels) of each object as the parser found it."""
    places = data.store.query(_PLACES, [data.study])
    places["levels"] = places["levels"].map(lambda levels: dict(levels or {}))
    return _at(places, data.where)


def _at(rows: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    # as an array: an empty list of yes and no would choose columns
    keep = [all(levels.get(axis) == level for axis, level in where.items()) for levels in rows["levels"]]
    return rows[np.array(keep, dtype=bool)]


def claimed_pairs(data: StudyScores) -> dict[str, tuple[str, str]]:
    """By prompt_id: the noun and colour that a prompt claims (the first, of several)."""
    rows = data.store.query(_NAMED)
    return {key: (noun, colour) for key, noun, colour in rows[::-1].itertuples(index=False)}


def kept_prompts(data: StudyScores) -> pd.DataFrame:
    """Pictures by what the encoder reads of their prompts: kept, seed, pixels; of models whose tokenizer is here."""
    from promptlab.readings import tokenizer_of
    from promptlab.tokens import open_tokens

    rows = data.store.query(_PIXELS, [data.study])
    folders = {model: tokenizer_of(model) for model in set(rows["model"])}
    tokens = {model: open_tokens(folder) for model, folder in folders.items() if folder is not None}
    rows = rows[rows["model"].isin(tokens)]
    settings = rows.drop(columns=["prompt", "seed", "pixels"]).astype(str).to_numpy().tolist()
    kept = [
        f"{rest} {tokens[model].ids(prompt)}"
        for model, prompt, rest in zip(rows["model"], rows["prompt"], settings, strict=True)
    ]
    return rows.assign(kept=kept)[["kept", "seed", "pixels"]]


def right_objects(data: StudyScores, objects: int) -> pd.DataFrame:
    """Each object of prompts with so many: is it there, in its colour? prompt_group, cell_id, seed, part, value."""
    rows = data.rows[
        (data.rows["objects"] == objects) & (data.rows["probe"] == "binding") & (data.rows["target"] != "")
    ]
    keys = ["prompt_group", "cell_id", "seed", "target", "prompt_id"]
    wide = rows.groupby([*keys, "measure"])["value"].first().unstack("measure")
    if not {"noun", "colour"} <= set(wide.columns):
        return wide.reset_index().iloc[:0].assign(part=None, value=None)
    # an object that is not there has no colour, and is wrong
    wide["value"] = wide["noun"].where(wide["noun"] != 1, wide["colour"])
    return wide.reset_index().rename(columns={"target": "part"}).dropna(subset=["noun"])
