"""A study's results as tidy DataFrames, for notebooks, scripts and the dashboard.

    import promptlab
    results = promptlab.load("attribute_binding")
    results                                             # what was run, on how many prompts
    results.effects()                                   # the contrasts of the study
    results.curve("binding.correct", "guidance_scale")  # mean at each level, with interval
    results.leakage()                                   # where each colour went
    results.images({"guidance_scale": 5, "outcome": "swap"}, order="clip_contrast.margin", limit=20)

    promptlab.load("attribute_binding", demo=True)      # the demo that ships, where the study was not run

Measures are named as in studies, probe.measure, or by the measure alone. Intervals are 95 % confidence intervals over
prompts, and every table of means has its n and its tier. Nothing here changes the store.

`open_demo` copies the finished demo study, which holds journals and images, and builds its database.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from promptlab.errors import PromptlabError, nearest
from promptlab.records import Level
from promptlab.resources import demo_folder
from promptlab.results import tables
from promptlab.results.queries import PICTURES, SCORES, number_of, preferred_probe_ids
from promptlab.store import Store
from promptlab.store.database import level_text
from promptlab.store.pictures import path_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Results", "check_study_name", "load", "open_demo"]

MAX_ROWS = 5000
"""Rows of one page of images."""
FILTERS = ("outcome", "prompt_group", "seed", "status")
"""What images can be filtered by, besides axes."""
SHOWN_LEVELS = 6
"""Levels of an axis that a summary names."""


def load(study: str | None = None, home: Path | str | None = None, *, demo: bool = False) -> Results:
    """The results of a study.

    Args:
        study: its name. Without one, only `studies`, `passports`, `sql`, `geometry` and `vae_detail` can be used.
        home: the folder with runs, images and the database; by default PROMPTLAB_HOME, else `data/` of a clone.
        demo: load the demo that ships if no image of the study was made yet, or, without a study, if nothing was run.
            It is copied to a temporary home, and `Results.demo` is then True.

    Raises StoreError where nothing was run, and PromptlabError for a study that was not run.
    """
    store = Store(home)
    if demo and not _has_images(store, study):
        return Results(_demo(), "demo", demo=True)
    if study is not None:
        check_study_name(store, study)
    return Results(store, study)


def check_study_name(store: Store, name: str, *, with_cells: bool = True) -> None:
    """Raise PromptlabError, with the nearest name, for a study that was not run; StoreError where none was.

    Without `with_cells`, one that has no images of its own is fine too, as `claims`.
    """
    every = "SELECT name AS study FROM study ORDER BY 1"
    known = (tables.studies(store) if with_cells else store.query(every))["study"].tolist()
    if name not in known:
        names = f"there are {', '.join(known)}" if known else "there is none; `promptlab run STUDY` makes one"
        raise PromptlabError(f"no study called {name!r} was run: {names}{nearest(name, known)}")


def _has_images(store: Store, study: str | None) -> bool:
    if not store.home.database.is_file():
        return False
    rows = tables.studies(store)
    return bool((rows["ok"][rows["study"] == study] if study is not None else rows["ok"]).sum())


@cache
def _demo() -> Store:
    folder = Path(tempfile.mkdtemp(prefix="promptlab-demo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = open_demo(folder)
    if store is None:
        raise PromptlabError("this copy came without the demo: `promptlab run STUDY` makes results to load")
    return store


@dataclass(frozen=True, repr=False)
class Results:
    """The results of one study as pandas DataFrames, one method a table. Made by `load`.

    Attributes:
        store: where the results are kept.
        study: the study's name, or None where no study was asked for.
        demo: whether this is the demo that ships, in place of the study that was asked for.
    """

    store: Store
    study: str | None = None
    demo: bool = False

    def __repr__(self) -> str:
        title, facts = self._summary()
        width = max(map(len, facts), default=0)
        return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in facts.items())])

    def _repr_html_(self) -> str:
        """The same for notebooks. Prompts and levels are data, so all text is escaped."""
        title, facts = self._summary()
        left = "text-align: left; vertical-align: top"
        rows = "".join(
            f'<tr><th scope="row" style="{left}">{escape(name)}</th><td style="{left}">{escape(text)}</td></tr>'
            for name, text in facts.items()
        )
        return (
            f'<table><caption style="{left}; caption-side: top">{escape(title)}</caption><tbody>{rows}</tbody></table>'
        )

    def _summary(self) -> tuple[str, dict[str, str]]:
        """A title, and what there is by name: tier, images, prompts, probes, axes with their levels."""
        demo = " (the demo that ships)" if self.demo else ""
        title = f"Results of {self.study}{demo}" if self.study else f"Results without a study{demo}"
        try:
            return title, self._study_facts() if self.study else self._store_facts()
        except PromptlabError as error:  # a repr never fails
            return title, {"database": str(error)}

    def _store_facts(self) -> dict[str, str]:
        rows = self.studies()
        return {"home": str(self.store.home.path), "studies": ", ".join(rows["study"]) or "none"}

    def _study_facts(self) -> dict[str, str]:
        cells = self.store.query(
            """
            SELECT count(DISTINCT prompt_group)::BIGINT AS prompts,
                string_agg(DISTINCT tier, ', ' ORDER BY tier) AS tiers
            FROM cell WHERE study = ? AND current
            """,
            [self._name()],
        ).iloc[0]
        counts = self.completeness().groupby("status")["n"].sum()
        others = "".join(f", {n:,} {status}" for status, n in counts.items() if status != "ok")
        probes = dict.fromkeys(name.partition(".")[0] for name in self.measures()["measure"])
        return {
            "tier": cells["tiers"] or "not known",
            "images": f"{counts.get('ok', 0):,} of {counts.sum():,} ok{others}",
            "prompts": f"{cells['prompts']:,}",
            "probes": ", ".join(probes) or "none",
            **{f"axis {name}": _some(levels) for name, levels in self.axes().items()},
        }

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
        """The rows that a SQL query of the database gives.

        `promptlab/store/schema.sql` and `views.sql` describe the tables. Give values as `parameters` (`?` or `$name` in
        the query), never inside its text. Raises StoreError where nothing was run.
        """
        return self.store.query(query, parameters)

    def studies(self) -> pd.DataFrame:
        """One row for each study of the home.

        Columns: study, cells, planned (images), ok, failed, missing, last_run (status of the last run).
        """
        return tables.studies(self.store)

    def passports(self) -> pd.DataFrame:
        """How far each probe can be trusted, measured on images of known truth; the same for all studies.

        Columns: probe, family (the question), n (images), sensitivity and specificity with their intervals, youden
        (sensitivity + specificity - 1), auc, detail.
        """
        return tables.passports(self.store)

    def axes(self) -> dict[str, list[str]]:
        """The levels of each axis, as text, in the order of the study."""
        rows = self.store.query(
            """
            SELECT axis, level FROM level JOIN cell ON cell.study = level.study AND cell.id = level.cell_id
            WHERE cell.study = ? AND cell.current GROUP BY axis, level ORDER BY axis, min(level_position)
            """,
            [self._name()],
        )
        return {str(axis): part["level"].tolist() for axis, part in rows.groupby("axis")}

    def measures(self) -> pd.DataFrame:
        """One row for each measure of the study.

        Columns: measure (probe.measure), n (scores with a value), description, unit, lower and upper (bounds),
        higher_is_better (NULL where neither is better).
        """
        return self.store.query(
            """
            SELECT probe || '.' || measured.measure AS measure, sum(with_value)::BIGINT AS n,
                any_value(description) AS description, any_value(unit) AS unit, any_value(lower) AS lower,
                any_value(upper) AS upper, any_value(higher_is_better) AS higher_is_better
            FROM measured LEFT JOIN measure ON measure.name = measured.measure
            WHERE study = ? GROUP BY 1 ORDER BY 1
            """,
            [self._name()],
        )

    def completeness(self) -> pd.DataFrame:
        """What became of the planned images. Columns: status (ok, missing, refused, ...), reason, n."""
        return tables.completeness(self.store, self._name())

    def effects(self) -> pd.DataFrame:
        """One row for each contrast of the study: the mean paired difference between its two levels.

        Columns: contrast, probe, measure, target, estimate, low, high (95 %), p (sign flips over prompts), p_adjusted
        (Holm, over the confirmatory contrasts), q (Benjamini and Hochberg, over the exploratory ones), n_groups
        (prompts), n_pairs, n_dropped (pairs that were not measured), method, reason (why there is no number), tier and
        more.
        """
        return tables.effects(self.store, self._name())

    def mixed(self) -> pd.DataFrame:
        """One row for each contrast: its difference by a mixed model with crossed prompt and seed effects.

        Columns: contrast, measure, target, n_prompts, n_seeds, n_pairs, n_dropped, estimate, low, high, p, df,
        prompt_share, seed_share, residual_share (of the variance), residual_sd, method, reason, over_prompts with its
        interval (the estimate of `effects`), tier.
        """
        from promptlab.results.contrasts import mixed

        return mixed(self.store, self._name())

    def findings(self, where: Mapping[str, Level] | None = None) -> pd.DataFrame:
        """One row for each finding that the study's axes allow, such as the guidance at which images burn.

        `where` holds axes at a level, as in {"guidance_scale": 5}. Columns: finding, module, axis, measure, estimate,
        low, high, p, n_prompts, n (images), n_dropped, method, reason (why there is no number), tier.
        """
        from promptlab.results.findings import findings

        return findings(self.store, self._name(), where)

    def geometry(
        self, model: str = "miniature", grids: Sequence[str] | None = None, checkpoint: str | None = None
    ) -> pd.DataFrame:
        """What a text encoder arranges phrases by; the same for all studies.

        One row for each grid of phrases and kind of state: the shares of variance that the noun, the other word, the
        frame and their interaction explain (0 to 1), with p. `model` and `checkpoint` name the encoder.
        """
        from promptlab.results.model_parts import geometry_table

        return geometry_table(model, grids, checkpoint)

    def vae_detail(self) -> pd.DataFrame:
        """How much contrast of bars the miniature's autoencoder keeps, by their width; the same for all studies.

        Columns: bar_width (pixels), kept (1 is all, 0 is a grey field), low, high, n (pairs of colours), tier.
        """
        from promptlab.results.model_parts import vae_detail

        return vae_detail()

    def outcomes(self, by: str | None = None, probe: str | None = None) -> pd.DataFrame:
        """Shares of the outcomes of attribute binding, one row for each outcome, and each level of the axis `by`.

        `probe` names the probe whose outcomes count; by default the first that has any of binding, human and the rest.
        Columns: level, outcome (correct, swap, leak, other, neglect, fused, and accuracy: correct where both objects
        are there), share, low, high, n (images), n_prompts, tier, and corrected with its interval: the share after
        correction for the probe's errors (NULL with a reason where its passport does not allow it).
        """
        return tables.outcome_shares(self.store, self._name(), self.check_axis(by), probe=probe)

    def leakage(
        self, by: Literal["attribute", "other", "pair"] | None = "attribute", probe: str | None = None
    ) -> pd.DataFrame:
        """Where each attribute of a prompt went: to its own object, to the other one, to both, or nowhere.

        `by` chooses the rows: each attribute, each noun of the other object, each pair of both, or None for one row.
        Columns: attribute, other, n (images), n_prompts, own, both, elsewhere, nowhere (shares), leaked with low and
        high, expected (the share that chance gives), tier.
        """
        return tables.leakage(self.store, self._name(), by, probe)

    def curve(self, measure: str, by: str) -> pd.DataFrame:
        """The mean of a measure at each level of the axis `by`.

        Columns: level, number (the level as a number; None for words), mean, low, high, n (images), n_prompts, tier.
        """
        probe, name = self._measure(measure)
        frame = tables.cell_means(self.store, self._name(), name, str(self.check_axis(by)), probe=probe)
        frame.insert(1, "number", [number_of(level) for level in frame["level"]])
        return frame

    def ranking(self, measure: str, axis: str | None = None, group: str | None = None, most: int = 200) -> pd.DataFrame:
        """Which wording does best by a measure: the levels of `axis`, or whole prompts, best first.

        `group` keeps one prompt family, and `most` is the largest number of rows.
        """
        probe, name = self._measure(measure)
        return tables.ranking(
            self.store, self._name(), name, self.check_axis(axis), probe=probe, group=group, most=most
        )

    def images(
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
        """One row for each planned image, in pages.

        Args:
            where: a level for each axis that it names, and `outcome`, `prompt_group`, `seed`, `status` (ok, missing).
            order: a measure to sort by; by default the order of the plan. Images without a value come last.
            descending: the highest value first.
            measures: those shown as columns; all if None. Several targets of one measure (its objects) are averaged.
            probe: the probe whose outcome counts, as in `outcomes`.
            limit: rows at most, 1 to 5000.
            offset: rows to skip.

        Columns: image, path (of the file; None where there is none), status, reason, outcome, cell_id, prompt_group,
        prompt, negative_prompt, levels (by axis), seed, model, tier, guidance_scale, num_inference_steps, height,
        width, scheduler, and one column a measure.
        """
        if not 1 <= limit <= MAX_ROWS or offset < 0:
            raise PromptlabError(f"limit {limit}, offset {offset}: 1 to {MAX_ROWS} rows, from 0 on, are allowed")
        names = [".".join(filter(None, self._measure(m))) for m in measures or ()]
        store, study = self.store, self._name()
        sorter, sorters = None, []
        if order:
            by, sorter = self._measure(order)
            sorters = preferred_probe_ids(store, study, sorter, by)
        wanted = {k: level_text(v) for k, v in (where or {}).items()}
        axes = [str(self.check_axis(name, FILTERS)) for name in wanted if name not in FILTERS]
        rows = store.query(
            PICTURES,
            {
                **{name: wanted.get(name) for name in FILTERS},
                **{"study": study, "axes": axes, "levels": [wanted[name] for name in axes]},
                "said_by": self._outcome_probes(probe),
                **{"probes": sorters, "measure": sorter, "down": descending, "most": limit, "skip": offset},
            },
        )
        rows.insert(1, "path", [self._path(file) for file in rows.pop("file")])
        shown = {"study": study, "images": rows["image"].tolist(), "cells": rows["cell_id"].tolist()}
        scores = store.query(SCORES, shown)
        for name in sorted(set(scores["measure"])) if measures is None else names:
            part = scores[(scores["measure"] == name) | (scores["measure"].str.partition(".")[2] == name)]
            values = dict(zip(zip(part["cell_id"], part["image"], strict=True), part["value"], strict=True))
            rows[name] = [values.get(key) for key in zip(rows["cell_id"], rows["image"], strict=True)]
        return rows

    def _name(self) -> str:
        if self.study is None:
            raise PromptlabError('this needs a study: promptlab.load("NAME"); `promptlab status` lists them')
        return self.study

    def check_axis(self, name: str | None, others: tuple[str, ...] = ()) -> str | None:
        """`name` as it is; raise PromptlabError where it is neither None, an axis of the study, nor among `others`."""
        axes = [*self.axes(), *others] if name is not None else []
        if name is not None and name not in axes:
            raise PromptlabError(f"{self.study} has no axis {name!r}: it has {', '.join(axes)}{nearest(name, axes)}")
        return name

    def _measure(self, name: str) -> tuple[str | None, str]:
        """(probe or None, measure)."""
        known = self.measures()["measure"].tolist()
        probe, dot, measure = name.rpartition(".")
        if name not in known and (dot or name not in {one.partition(".")[2] for one in known}):
            choice = f"it has {', '.join(known)}" if known else "nothing was measured; `promptlab score STUDY` measures"
            raise PromptlabError(f"{self.study} has no measure {name!r}: {choice}{nearest(name, known)}")
        return probe or None, measure

    def _outcome_probes(self, probe: str | None) -> list[str]:
        """Ids of the probe whose outcomes count: `probe`, if it has any here, or the one that `outcomes` takes."""
        ids = preferred_probe_ids(self.store, self._name(), "correct", probe)
        if probe is not None and not ids:
            known = [name[:-8] for name in self.measures()["measure"] if name.endswith(".correct")]
            names = f"told by {', '.join(known)}" if known else "told by none"
            raise PromptlabError(f"{self.study} has no outcome by {probe!r}: they are {names}{nearest(probe, known)}")
        return ids

    def _path(self, file: Any) -> str | None:
        return str(path_of(self.store.home, file)) if isinstance(file, str) else None


def _some(levels: Sequence[str]) -> str:
    """The number of levels, and the first few, each cut to 40 characters."""
    named = [level if len(level) <= 40 else f"{level[:39]}…" for level in levels[:SHOWN_LEVELS]]
    more = ", …" if len(levels) > SHOWN_LEVELS else ""
    return f"{len(levels)} level{'s' if len(levels) != 1 else ''}: {'; '.join(named)}{more}"


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
