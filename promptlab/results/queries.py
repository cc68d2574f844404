"""What the results read from the published database: a study's axes, its scores, its images. It concludes nothing.

`study_scores` and what follows give scores as `promptlab.results.findings` takes them: one row an image, with its
prompt family, seed and level. `PICTURES` and `SCORES` are the two questions behind `Results.images`.

Where several probes give the same measure, `preferred_probe` says which of them is used: the one that the caller names,
else `binding`, which reads the miniature's images, else `human`, what raters said, else the first by name. Of its
versions the views show the one that the study used last (table `outdated`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import PromptlabError, nearest
from promptlab.plugins import registry
from promptlab.records import AxisColumn, Level
from promptlab.store.database import level_text

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = [
    "PICTURES",
    "SCORES",
    "StudyScores",
    "at_levels",
    "balanced",
    "claimed_pairs",
    "kept_prompts",
    "number_of",
    "object_places",
    "preferred_probe",
    "preferred_probe_ids",
    "right_objects",
    "study_axes",
    "study_scores",
]

READ = ("binding", "exposure", "diversity")
"""The shipped probes whose scores findings read. Those of all probes from outside are read too."""
_AXES = "SELECT * EXCLUDE (study) FROM axis WHERE study = ? ORDER BY position"
_SCORES = """
SELECT scored.prompt_group, scored.cell_id, scored.seed, scored.levels, scored.probe,
    scored.measure, scored.target, scored.value, scored.tier, scored.prompt_id,
    (SELECT count(DISTINCT object) FROM binding WHERE binding.prompt_id = scored.prompt_id) AS objects
FROM scored WHERE study = ? AND status = 'ok' AND list_contains(?::VARCHAR[], probe)
ORDER BY cell_id, seed, probe_id, measure, target
"""
_PLACES = """
SELECT scored.prompt_group, scored.cell_id, scored.seed, scored.levels, scored.target,
    (SELECT count(DISTINCT object) FROM binding WHERE binding.prompt_id = scored.prompt_id) AS objects,
    (score.detail ->> '$.area')::DOUBLE AS area,
    (score.detail ->> '$.box[0]')::DOUBLE + (score.detail ->> '$.box[2]')::DOUBLE AS x
FROM scored JOIN score ON score.image = scored.image AND score.probe_id = scored.probe_id
    AND score.target = scored.target AND score.measure = scored.measure
    AND coalesce(score.prompt_id, scored.prompt_id) = scored.prompt_id
WHERE study = ? AND status = 'ok' AND scored.measure = 'noun' AND scored.probe = 'binding'
ORDER BY scored.cell_id, scored.seed, scored.target
"""
_NAMED = """
SELECT prompt_id, noun, attribute FROM binding WHERE attribute IS NOT NULL AND kind IN ('colour', 'color')
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


def study_axes(store: Store, study: str) -> tuple[AxisColumn, ...]:
    """The columns of levels of `study` in the order of its axes; none where it never said what its axes are."""
    rows: list[dict[str, Any]] = store.query(_AXES, [study]).to_dict("records")  # type: ignore[assignment]
    return tuple(AxisColumn(**{**row, "names": tuple(row["names"])}) for row in rows)


def study_scores(store: Store, study: str, where: Mapping[str, Level] | None = None) -> StudyScores:
    """The scores of `study` at the levels that `where` names. Raises PromptlabError for a level that is not there."""
    outside = [one.name for one in registry("probe").values() if one.source != "promptlab"]
    rows = store.query(_SCORES, [study, [*READ, *outside]])
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
    rows = at_levels(rows, fixed)
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
    return at_levels(places, data.where)


def at_levels(rows: pd.DataFrame, where: Mapping[str, str] | None) -> pd.DataFrame:
    """The rows with these levels, of rows with a column `levels`."""
    wanted = (where or {}).items()
    # as an array: an empty list of yes and no would choose columns
    keep = [all(dict(levels or {}).get(axis) == level for axis, level in wanted) for levels in rows["levels"]]
    return rows[np.array(keep, dtype=bool)]


def claimed_pairs(data: StudyScores) -> dict[str, tuple[str, str]]:
    """By prompt_id: the noun and colour that a prompt claims (the first, of several)."""
    rows = data.store.query(_NAMED)
    return {key: (noun, colour) for key, noun, colour in rows[::-1].itertuples(index=False)}


def kept_prompts(data: StudyScores) -> pd.DataFrame:
    """Pictures by what the encoder reads of their prompts: kept, seed, pixels; of models whose tokenizer is here."""
    from promptlab.checkpoints.files import tokenizer_of
    from promptlab.study.tokens import open_tokens

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


PICTURES = """
WITH wanted AS (SELECT unnest($axes::VARCHAR[]) AS axis, unnest($levels::VARCHAR[]) AS level), here AS (
    SELECT cell.*, cell_image.seed, cell_image.image, coalesce(image.status, 'missing') AS status, image.reason,
        image.file,
        (SELECT arg_max(label, probe_id) FROM score WHERE score.image = cell_image.image AND measure = 'correct'
            AND coalesce(score.prompt_id, cell.prompt_id) = cell.prompt_id
            AND list_contains($said_by::VARCHAR[], probe_id)) AS outcome,
        (SELECT avg(value) FROM score WHERE score.image = cell_image.image AND measure = $measure
            AND coalesce(score.prompt_id, cell.prompt_id) = cell.prompt_id
            AND list_contains($probes::VARCHAR[], probe_id)) AS sorter,
        (SELECT map_from_entries(list({'k': axis, 'v': level} ORDER BY axis)) FROM level
            WHERE level.study = cell.study AND level.cell_id = cell.id) AS levels
    FROM cell
    JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
    LEFT JOIN image ON image.id = cell_image.image
    WHERE cell.current AND cell.study = $study AND NOT EXISTS (
        SELECT 1 FROM wanted WHERE NOT EXISTS (
            SELECT 1 FROM level WHERE level.study = cell.study AND level.cell_id = cell.id
                AND level.axis = wanted.axis AND level.level = wanted.level))
)
SELECT image, file, status, reason, outcome, id AS cell_id, prompt_group, prompt, negative_prompt, levels, seed, model,
    tier, guidance_scale, num_inference_steps, height, width, scheduler
FROM here
WHERE ($status IS NULL OR status = $status) AND ($outcome IS NULL OR outcome = $outcome)
    AND ($seed IS NULL OR seed::VARCHAR = $seed) AND ($prompt_group IS NULL OR prompt_group = $prompt_group)
ORDER BY CASE WHEN $down THEN -sorter ELSE sorter END NULLS LAST, position, seed
LIMIT $most OFFSET $skip
"""

SCORES = """
SELECT cell_id, image, probe || '.' || measure AS measure, avg(value) AS value
FROM scored
WHERE study = $study AND status = 'ok' AND value IS NOT NULL AND list_contains($images::VARCHAR[], image)
    AND list_contains($cells::VARCHAR[], cell_id)
GROUP BY ALL
"""


FIRST = ("binding", "human")


def preferred_probe(names: Iterable[str], requested: str | None = None) -> str:
    """`requested`, or the one of `names` that is preferred; "" where there is none."""
    known = set(names)
    return requested or next((name for name in FIRST if name in known), min(known, default=""))


def preferred_probe_ids(store: Store, study: str, measure: str, requested: str | None = None) -> list[str]:
    """Ids of the preferred probe among those that gave `measure` to an image of the study.

    One, but for people, whose every file of ratings has its own; none where no probe gave it.
    """
    rows = store.query(
        """
        SELECT DISTINCT probe, probe_id FROM measured
        WHERE study = ? AND measure = ? AND with_value + with_label > 0 ORDER BY probe_id
        """,
        [study, measure],
    )
    chosen = preferred_probe(rows["probe"], requested)
    return [str(probe_id) for probe_id in rows["probe_id"][rows["probe"] == chosen]]
