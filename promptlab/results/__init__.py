"""Analysis as a library: a study's results as tidy DataFrames, for notebooks and pages.

    import promptlab
    found = promptlab.load("attribute_binding")
    found.effects()                                   # the contrasts of the study
    found.curve("binding.correct", "guidance_scale")  # mean at each level, with interval
    found.leakage()                                   # where each colour went
    found.pictures({"guidance_scale": 5, "outcome": "swap"}, order="clip_contrast.margin", limit=20)

    promptlab.load("attribute_binding", demo=True)    # where it was not run: the demo that ships

Measures are named as in studies, probe.measure, or by the measure alone. Intervals are 95 %, over prompt families;
every frame of means says n and tier. Nothing here changes the store, and values are bound, never written into SQL. The
tables themselves are in `promptlab.results.tables`; this page adds the study, names that are checked, and pictures.

The finished demo study and the dashboard that ship: in a clone, or inside the installed package.

The demo holds journals and pictures; the database is built where there is room to write.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from promptlab.errors import PromptlabError, nearest
from promptlab.records import Level
from promptlab.resources import demo_folder
from promptlab.results import tables
from promptlab.results.queries import PICTURES, SCORES, preferred_probe_ids
from promptlab.store import Store
from promptlab.store.database import level_text
from promptlab.store.pictures import path_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Results", "load", "open_demo"]

MOST = 5000
"""Rows of one page of pictures."""
OWN = ("outcome", "prompt_group", "seed", "status")
"""What pictures can be filtered by, beside axes."""


def load(study: str | None = None, home: Path | str | None = None, *, demo: bool = False) -> Results:
    """The results of `study` (by name) in `home`; without a study, only what needs none.

    With `demo`: where no picture of it was made yet (without a study: nothing was run), the demo that ships, at a home
    of its own that goes with this process; `Results.demo` says so.

    Raises StoreError where nothing was run, PromptlabError for a study that is not there.
    """
    store = Store(home)
    if demo and not _made(store, study):
        return Results(_demo(), "demo", demo=True)
    known = tables.studies(store)["study"].tolist()
    if study is not None and study not in known:
        there = f"there are {', '.join(known)}" if known else "there is none; `promptlab run STUDY` makes one"
        raise PromptlabError(f"no study called {study!r} was run: {there}{nearest(study, known)}")
    return Results(store, study)


def _made(store: Store, study: str | None) -> bool:
    if not store.home.database.is_file():
        return False
    there = tables.studies(store)
    return bool((there["ok"][there["study"] == study] if study is not None else there["ok"]).sum())


@cache
def _demo() -> Store:
    folder = Path(tempfile.mkdtemp(prefix="promptlab-demo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = open_demo(folder)
    if store is None:
        raise PromptlabError("this copy came without the demo: `promptlab run STUDY` makes results to load")
    return store


@dataclass(frozen=True)
class Results:
    """Results of a study, as frames. Made by `load`. `demo`: they are the demo's, in place of what was asked for."""

    store: Store
    study: str | None = None
    demo: bool = False

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
        """Any question to the database (schema.sql, views.sql say what is in it), values as bound `parameters`."""
        return self.store.query(query, parameters)

    def studies(self) -> pd.DataFrame:
        """All studies: study, cells, planned, ok, failed, missing, last_run."""
        return tables.studies(self.store)

    def passports(self) -> pd.DataFrame:
        """How far each probe can be trusted, whatever the study: table `passport`."""
        return tables.passports(self.store)

    def axes(self) -> dict[str, list[str]]:
        """Levels of each axis, as text, in order."""
        rows = self.store.query(
            """
            SELECT axis, level FROM level JOIN cell ON cell.study = level.study AND cell.id = level.cell_id
            WHERE cell.study = ? AND cell.current GROUP BY axis, level ORDER BY axis, min(level_position)
            """,
            [self._name()],
        )
        return {str(axis): part["level"].tolist() for axis, part in rows.groupby("axis")}

    def measures(self) -> pd.DataFrame:
        """What was measured: measure (probe.measure), n (scores that have a value), description, unit, bounds."""
        return self.store.query(
            """
            SELECT split_part(probe, '-', 1) || '.' || measured.measure AS measure, sum(with_value)::BIGINT AS n,
                any_value(description) AS description, any_value(unit) AS unit, any_value(lower) AS lower,
                any_value(upper) AS upper, any_value(higher_is_better) AS higher_is_better
            FROM measured LEFT JOIN measure ON measure.name = measured.measure
            WHERE study = ? GROUP BY 1 ORDER BY 1
            """,
            [self._name()],
        )

    def completeness(self) -> pd.DataFrame:
        """Planned pictures by status: status, reason, n."""
        return tables.completeness(self.store, self._name())

    def effects(self) -> pd.DataFrame:
        """The study's contrasts: estimate, low, high, p, p_adjusted (Holm), q, n_groups, tier: see `tables.effects`."""
        return tables.effects(self.store, self._name())

    def mixed(self) -> pd.DataFrame:
        """The contrasts by a mixed model, and what prompt, seed and the rest vary: see `results.contrasts`."""
        from promptlab.results.contrasts import mixed

        return mixed(self.store, self._name())

    def findings(self, where: Mapping[str, Level] | None = None) -> pd.DataFrame:
        """Every analysis that the study's axes allow, at the levels of `where`: see `promptlab.results.findings`."""
        from promptlab.results.findings import findings

        return findings(self.store, self._name(), where)

    def geometry(
        self, model: str = "miniature", grids: Sequence[str] | None = None, checkpoint: str | None = None
    ) -> pd.DataFrame:
        """What a text encoder arranges phrases by, whatever the study: see `promptlab.results.model_parts.geometry`."""
        from promptlab.results.model_parts import geometry_table

        return geometry_table(model, grids, checkpoint)

    def vae_detail(self) -> pd.DataFrame:
        """What the miniature's autoencoder keeps of bars, by width: see `promptlab.results.model_parts.vae_detail`."""
        from promptlab.results.model_parts import vae_detail

        return vae_detail()

    def outcomes(self, by: str | None = None, probe: str | None = None) -> pd.DataFrame:
        """Shares of the outcomes of binding, by axis: see `tables.outcome_shares`."""
        return tables.outcome_shares(self.store, self._name(), self._axis(by), probe=probe)

    def leakage(
        self, by: Literal["attribute", "other", "pair"] | None = "attribute", probe: str | None = None
    ) -> pd.DataFrame:
        """Where each attribute went, with interval and what chance gives: see `promptlab.results.leakage`."""
        return tables.leakage(self.store, self._name(), by, probe)

    def curve(self, measure: str, by: str) -> pd.DataFrame:
        """Mean of a measure along an axis: level, number (None for words), mean, low, high, n, n_prompts, tier."""
        probe, name = self._measure(measure)
        frame = tables.cell_means(self.store, self._name(), name, str(self._axis(by)), probe=probe)
        frame.insert(1, "number", [_number(level) for level in frame["level"]])
        return frame

    def ranking(self, measure: str, axis: str | None = None, group: str | None = None, most: int = 200) -> pd.DataFrame:
        """Which wording wins: see `tables.ranking`. By levels of `axis`, or whole prompts; `group`: of one family."""
        probe, name = self._measure(measure)
        return tables.ranking(self.store, self._name(), name, self._axis(axis), probe=probe, group=group, most=most)

    def pictures(
        self,
        where: Mapping[str, Level] | None = None,
        *,
        order: str | None = None,
        descending: bool = False,
        measures: Sequence[str] | None = None,
        probe: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> pd.DataFrame:
        """One row a planned picture, at most `limit` (up to 5000) after `offset`.

        Args:
            where: a level for each axis named, and `outcome`, `prompt_group`, `seed`, `status` (ok, missing, ...).
            order: a measure; without one the order of the plan. Pictures without a value come last.
            measures: those shown as columns; all if None. Several targets of one measure (its objects) are averaged.
            probe: whose outcome is meant, as in `outcomes`.

        Columns: image, path (of the file; None where there is none), status, reason, outcome, cell_id, prompt_group,
        prompt, negative_prompt, levels (by axis), seed, model, tier, guidance_scale, num_inference_steps, height,
        width, scheduler, and one column a measure.
        """
        if not 1 <= limit <= MOST or offset < 0:
            raise PromptlabError(f"limit {limit}, offset {offset}: 1 to {MOST} rows, from 0 on, are allowed")
        names = [".".join(filter(None, self._measure(m))) for m in measures or ()]
        store, study = self.store, self._name()
        sorter, sorters = None, []
        if order:
            by, sorter = self._measure(order)
            sorters = preferred_probe_ids(store, study, sorter, by)
        given = {k: level_text(v) for k, v in (where or {}).items()}
        unknown = [name for name in given if name not in OWN]
        axes = [str(self._axis(name, OWN)) for name in unknown]
        rows = store.query(
            PICTURES,
            {
                **{name: given.get(name) for name in OWN},
                **{"study": study, "axes": axes, "levels": [given[name] for name in axes]},
                "said_by": self._outcome_probes(probe),
                **{"probes": sorters, "measure": sorter, "down": descending, "most": limit, "skip": offset},
            },
        )
        rows.insert(1, "path", [self._path(file) for file in rows.pop("file")])
        here = {"study": study, "images": rows["image"].tolist(), "cells": rows["cell_id"].tolist()}
        scores = store.query(SCORES, here)
        wanted = sorted(set(scores["measure"])) if measures is None else names
        for name in wanted:
            part = scores[(scores["measure"] == name) | (scores["measure"].str.partition(".")[2] == name)]
            values = dict(zip(zip(part["cell_id"], part["image"], strict=True), part["value"], strict=True))
            rows[name] = [values.get(key) for key in zip(rows["cell_id"], rows["image"], strict=True)]
        return rows

    def _name(self) -> str:
        if self.study is None:
            raise PromptlabError('this needs a study: promptlab.load("NAME"); `promptlab status` lists them')
        return self.study

    def _axis(self, name: str | None, beside: tuple[str, ...] = ()) -> str | None:
        axes = [*self.axes(), *beside] if name is not None else []
        if name is not None and name not in axes:
            raise PromptlabError(f"{self.study} has no axis {name!r}: it has {', '.join(axes)}{nearest(name, axes)}")
        return name

    def _measure(self, name: str) -> tuple[str | None, str]:
        """(probe or None, measure)."""
        known = self.measures()["measure"].tolist()
        probe, dot, measure = name.rpartition(".")
        if name not in known and (dot or name not in {one.partition(".")[2] for one in known}):
            there = f"it has {', '.join(known)}" if known else "nothing was measured; `promptlab score STUDY` measures"
            raise PromptlabError(f"{self.study} has no measure {name!r}: {there}{nearest(name, known)}")
        return probe or None, measure

    def _outcome_probes(self, probe: str | None) -> list[str]:
        """Ids of the probe whose outcomes count: `probe`, if it told any here, or the one that `outcomes` takes."""
        ids = preferred_probe_ids(self.store, self._name(), "correct", probe)
        if probe is not None and not ids:
            there = [name[:-8] for name in self.measures()["measure"] if name.endswith(".correct")]
            names = f"told by {', '.join(there)}" if there else "told by none"
            raise PromptlabError(f"{self.study} has no outcome by {probe!r}: they are {names}{nearest(probe, there)}")
        return ids

    def _path(self, file: Any) -> str | None:
        return str(path_of(self.store.home, file)) if isinstance(file, str) else None


def _number(level: str | None) -> float | None:
    try:
        return None if level is None else float(level)
    except ValueError:
        return None


def open_demo(to: Path) -> Store | None:
    """Copy the demo into the folder `to` and build its database there; None where there is no demo."""
    source = demo_folder()
    if source is None:
        return None
    for part in ("runs", "images", "claims"):
        if (source / part).is_dir():
            shutil.copytree(source / part, to / part, dirs_exist_ok=True)
    store = Store(to)
    store.publish()
    return store
