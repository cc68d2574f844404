"""What the results read from the published database: a study's axes, its scores, its images. It concludes nothing.

`study_scores` and what follows give scores as `promptlab.results.findings` takes them: one row an image, with its
prompt family, seed and level. The folder `sql` holds the statements of this package, one in each file.

Where several probes give the same measure, `preferred_probe` says which of them is used: the one that the caller names,
else `binding`, which reads the miniature's images, else `human`, what raters said, else the first by name. Of its
versions the views show the one that the study used last (table `outdated`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
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
    "sql",
    "study_axes",
    "study_scores",
]

READ = ("binding", "exposure", "diversity")
"""The shipped probes whose scores findings read. Those of all probes from outside are read too."""
_AXES = "SELECT * EXCLUDE (study) FROM axis WHERE study = ? ORDER BY position"


@cache
def sql(name: str) -> str:
    """The statement in `sql/<name>.sql`; its comment says what a row is."""
    return resources.files("promptlab.results").joinpath("sql", f"{name}.sql").read_text("utf-8")


@dataclass(frozen=True)
class StudyScores:
    """A study's scores, one row a score, its axes with their levels as text, and what kind of axis each is."""

    store: Store
    study: str
    rows: pd.DataFrame
    axes: dict[str, list[str]]
    where: dict[str, str]
    columns: tuple[AxisColumn, ...]

    def level(self, axis: str) -> pd.Series[Any]:
        """The level of each row, as text, None where it has none."""
        return self.rows["levels"].map(lambda levels: levels.get(axis))

    def scores(self, measure: str, axis: str) -> pd.DataFrame:
        """prompt_group, cell_id, seed, level (a number), value of probe.measure: a row an image, `balanced`."""
        probe, name = measure.split(".")
        part = self.rows[(self.rows["probe"] == probe) & (self.rows["measure"] == name)]
        part = part.assign(level=self.level(axis)[part.index].map(number_of)).dropna(subset=["level"])
        part = balanced(part, axis)
        keys = ["prompt_group", "cell_id", "seed", "level"]
        return part.groupby(keys, sort=False)["value"].mean().reset_index()

    def parts(self, part: str) -> list[tuple[str, str]]:
        """Columns that are this part of an axis, each with the axis' own column, where scores have both."""
        columns = sorted((column.name, column.axis) for column in self.columns if column.part == part)
        return [(name, axis) for name, axis in columns if name in self.axes and axis in self.axes]


def study_axes(store: Store, study: str) -> tuple[AxisColumn, ...]:
    """The columns of levels of `study` in the order of its axes; none where it never said what its axes are."""
    rows: list[dict[str, Any]] = store.query(_AXES, [study]).to_dict("records")  # type: ignore[assignment]
    return tuple(AxisColumn(**{**row, "names": tuple(row["names"])}) for row in rows)


def study_scores(store: Store, study: str, where: Mapping[str, Level] | None = None) -> StudyScores:
    """The scores of `study` at the levels that `where` names. Raises PromptlabError for an unknown level."""
    outside = [one.name for one in registry("probe").values() if one.source != "promptlab"]
    rows = store.query(sql("scores"), [study, [*READ, *outside]])
    rows["levels"] = rows["levels"].map(lambda levels: dict(levels or {}))
    fixed = {axis: level_text(level) for axis, level in (where or {}).items()}
    names = {name for levels in rows["levels"] for name in levels}
    for axis, level in fixed.items():
        present = {levels[axis] for levels in rows["levels"] if axis in levels}
        if level not in present:
            known = sorted(present if axis in names else names)
            what = f"no level {level!r} of {axis!r}" if axis in names else f"no axis {axis!r}"
            hint = nearest(level if axis in names else axis, known)
            raise PromptlabError(f"{study} has {what}: it has {', '.join(known) or 'none'}{hint}")
    rows = at_levels(rows, fixed)
    axes = {name: list(dict.fromkeys(lv[name] for lv in rows["levels"] if name in lv)) for name in sorted(names)}
    return StudyScores(store, study, rows, axes, fixed, study_axes(store, study))


def balanced(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Of rows with `levels`, those whose combination of prompt family and other axes has the most levels of `axis`.

    Else a level would be compared with another that covers other cells too.
    """
    rest = [
        (group, tuple(sorted((name, level) for name, level in levels.items() if name != axis)))
        for group, levels in zip(rows["prompt_group"], rows["levels"], strict=True)
    ]
    present: dict[Hashable, set[str]] = {}
    for key, levels in zip(rest, rows["levels"], strict=True):
        present.setdefault(key, set()).add(levels.get(axis))
    most = max(map(len, present.values()), default=0)
    return rows[np.array([len(present[key]) == most for key in rest], dtype=bool)]


def number_of(level: str | None) -> float | None:
    """The number that a level's text is, or None."""
    try:
        return None if level is None else float(level)
    except ValueError:
        return None


def object_places(data: StudyScores) -> pd.DataFrame:
    """Share of the canvas (`area`) and twice the centre (`x`, pixels) of each object as the parser found it."""
    places = data.store.query(sql("object_places"), [data.study])
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
    rows = data.store.query(sql("claimed_colours"))
    return {key: (noun, colour) for key, noun, colour in rows[::-1].itertuples(index=False)}


def kept_prompts(data: StudyScores) -> pd.DataFrame:
    """Images by what the encoder reads of their prompts: kept, seed, pixels; of models whose tokenizer is here."""
    from promptlab.checkpoints.files import tokenizer_of
    from promptlab.study.tokens import open_tokens

    rows = data.store.query(sql("image_pixels"), [data.study])
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
    """Each object of prompts with so many: is it present, in its colour? prompt_group, cell_id, seed, part, value."""
    rows = data.rows[
        (data.rows["objects"] == objects) & (data.rows["probe"] == "binding") & (data.rows["target"] != "")
    ]
    keys = ["prompt_group", "cell_id", "seed", "target", "prompt_id"]
    wide = rows.groupby([*keys, "measure"])["value"].first().unstack("measure")
    if not {"noun", "colour"} <= set(wide.columns):
        return wide.reset_index().iloc[:0].assign(part=None, value=None)
    # an object that is absent has no colour, and is wrong
    wide["value"] = wide["noun"].where(wide["noun"] != 1, wide["colour"])
    return wide.reset_index().rename(columns={"target": "part"}).dropna(subset=["noun"])


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
        sql("measure_probes"),
        [study, measure],
    )
    chosen = preferred_probe(rows["probe"], requested)
    return [str(probe_id) for probe_id in rows["probe_id"][rows["probe"] == chosen]]
