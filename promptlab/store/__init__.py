"""The store: the only memory of promptlab.

    store = Store(find_home())
    with store.open_run("attribute_binding", text=yaml) as run:     # one run of a study at a time
        run.declare(study, probes)
        run.plan(cells, seeds)
        known = store.images()                                      # made by any study, and on the disk
        run.add(*images)                                            # on the disk when this returns
        run.add(*scores)                                            # all scores of a picture by a probe in one call
    store.publish()
    store.query("SELECT * FROM scored WHERE study = ?", ["attribute_binding"])

Images are saved first (`promptlab.store.pictures`), then journalled, then published. A process that dies between two of
these steps leaves nothing that the next run cannot go on from. Planning reads journals only: the database's libraries
load when it is first built or asked.
"""

from __future__ import annotations

import hashlib
import platform
import secrets
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab import __version__
from promptlab.errors import PromptlabError
from promptlab.records import Cell, ContrastEffect, Image, Measure, Passport, Score, content_id, hashed_spelling
from promptlab.store.home import Home, find_home, hold, safe_name
from promptlab.store.journal import Journal, JournalIndex, ScoreKey
from promptlab.study.grid import declaration

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from promptlab.store.repair import Problem, Repair
    from promptlab.study.study import Study

__all__ = ["Record", "Run", "Store"]

Record = Image | Score | Measure | Passport | ContrastEffect

_KINDS: dict[type, str] = {Image: "image", Measure: "measure", Passport: "passport", ContrastEffect: "effect"}


class Run:
    """A run of a study: its lock is held, its journal is open. Made by `Store.open_run`.

    Attributes:
        id: start and a random ending; sorts by time.
        path: the journal. A log may lie beside it, as `path.with_suffix(".log")`.
    """

    def __init__(self, study: str, path: Path, journal: Journal, index: JournalIndex) -> None:
        self.study = study
        self.id = path.stem
        self.path = path
        self._journal = journal
        self._index = index
        self._pixels: dict[str, str | None] = {}
        self._ended = False

    def declare(self, study: Study, probes: Sequence[tuple[str, str | None]]) -> None:
        """Keep what the study declares; `probes` are name and id of each of its probes, in order."""
        self._journal.append([("study", declaration(study, probes))])

    def plan(
        self, cells: Iterable[Cell], seeds: Sequence[int], tier: Callable[[Cell], str | None] = lambda cell: None
    ) -> None:
        """Say which cells the study has now, each at every seed; `tier` tells the tier of a cell's images."""
        design = [{**_cell_record(cell), "tier": tier(cell), "images": _images(cell, seeds)} for cell in cells]
        plan = content_id([{**cell, "prompt": hashed_spelling(cell["prompt"])} for cell in design])
        known = self._index.plans.get((self.study, plan))
        if known is None or len(self._index.cells[self.study, plan]) != len(design):
            self._journal.append(("cell", {**cell, "plan": plan, "position": i}) for i, cell in enumerate(design))
        current = self._index.current_plan(self.study)
        if known is None or current is None or current.record["id"] != plan:
            head = {"study": self.study, "id": plan, "cells": len(design), "seeds": list(seeds)}
            self._journal.append([("plan", head)])

    def add(self, *records: Record) -> None:
        """Keep records; on the disk when this returns, with one fsync for all.

        Give all scores of an image by a probe for a prompt in one call: they are one line, which a crash keeps whole.
        """
        lines: list[tuple[str, dict[str, Any]]] = []
        scored: dict[ScoreKey, list[dict[str, Any]]] = {}
        for record in records:
            if isinstance(record, Score):
                key = (record.probe_id, record.image, record.prompt)
                if key not in scored:
                    scored[key] = []
                    about = {"probe": record.probe, "probe_id": key[0], "image": key[1], "prompt": key[2]}
                    lines.append(("score", {**about, "pixels": self._pixels_of(key[1]), "scores": scored[key]}))
                scored[key].append(_short(record, *about))
            else:
                lines.append((_KINDS[type(record)], _short(record)))
        self._journal.append(lines)
        self._pixels.update((record.id, record.pixels) for record in records if isinstance(record, Image))

    def _pixels_of(self, image: str) -> str | None:
        if image in self._pixels:
            return self._pixels[image]
        known = self._index.images.get(image)
        return known[1].pixels if known else None

    def fact(self, facts: Mapping[str, Any]) -> None:
        """Say what else decided this run, once it is known; nested names are joined by dots."""
        self._journal.append([("fact", {"facts": dict(_dotted(facts))})])

    def end(self, status: str) -> None:
        """Say how the run ended: complete, incomplete, interrupted or failed. Once; later calls do nothing."""
        if not self._ended:
            self._journal.append([("end", {"status": status, "ended": _now()})])
            self._ended = True


class Store:
    """Everything that is known at a home (else at the home that `find_home` finds)."""

    def __init__(self, home: Home | Path | str | None = None) -> None:
        self.home = home if isinstance(home, Home) else find_home(home)
        self._index = JournalIndex(self.home)

    @contextmanager
    def open_run(
        self,
        study: str,
        *,
        text: str = "",
        device: str = "",
        facts: Mapping[str, Any] | None = None,
        argv: Sequence[str] | None = None,
        wait: float = 0.0,
    ) -> Iterator[Run]:
        """Begin a run of `study`, whose YAML is `text`; `facts` are versions, dtype and whatever else decided it.

        Raises LockedError while another process runs the study (after `wait` seconds), DiskError, PromptlabError for a
        name that cannot be a folder.
        """
        folder = self.home.runs / safe_name(study)
        with hold(folder / "lock", f"study {study!r}", wait):
            self._index.update()
            path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{secrets.token_hex(3)}.jsonl"
            with Journal(path) as journal:
                start = {
                    "study": study,
                    "started": _now(),
                    "text": text,
                    "hash": hashlib.sha256(text.encode()).hexdigest(),
                    "device": device,
                    "host": socket.gethostname(),
                    "platform": platform.platform(),
                    "python": platform.python_version(),
                    "promptlab": __version__,
                    "argv": _command() if argv is None else list(argv),
                    "facts": dict(facts or {}),
                }
                journal.append([("run", start)])
                run = Run(study, path, journal, self._index)
                try:
                    yield run
                    run.end("complete")
                except BaseException as error:
                    stopped = isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)
                    with suppress(PromptlabError, OSError, MemoryError):
                        run.end("interrupted" if stopped else "failed")
                    raise

    def images(self) -> dict[str, Image]:
        """Every picture that any study made, by image id, if its file is on the disk; and every one that failed."""
        here = self._index.update().files()
        images = ((key, image) for key, (_, image) in self._index.images.items())
        return {key: image for key, image in images if image.file is None or image.file in here}

    def scores(self, probe_id: str | None = None) -> set[ScoreKey]:
        """(probe id, image id, prompt id) that are scored, of one probe or of all.

        Not those whose image has changed since, nor those at which the probe crashed: they are asked again.
        """
        known = self._index.update().scores
        keys = known if probe_id is None else (key for key in known if key[0] == probe_id)
        stand = (key for key in keys if self._index.score_stands(known[key], key[1]))
        return {key for key in stand if not any(one.get("detail", {}).get("crashed") for one in known[key].scores)}

    def passports(self) -> dict[tuple[str, str], Passport]:
        """Passports by (probe id, kind)."""
        return {key: Passport(**entry.record) for key, entry in self._index.update().passports.items()}

    def effects(self, study: str) -> tuple[ContrastEffect, ...]:
        """What the contrasts of `study` came to in its last run that has any, as table `effect` shows."""
        entries = self._index.update().current_effects(study)
        return tuple(ContrastEffect(**{"probe_id": None} | entry.record) for entry in entries)

    def publish(self) -> Path:
        """Build the database from all journals and put it in place; readers keep what they hold. Returns its path."""
        from promptlab.store.database import publish

        return publish(self.home, self._index)

    def connect(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A short read-only connection to the published database, for several queries on one state of it."""
        from promptlab.store.database import connect

        return connect(self.home.database)

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
        """The rows of a query against the published database; values as bound `parameters`."""
        from promptlab.store.database import query

        return query(self.home.database, sql, parameters)

    def doctor(self, deep: bool = True) -> list[Problem]:
        """What is wrong; changes nothing. `deep` reads every picture and compares the database row by row."""
        from promptlab.store.repair import examine

        return examine(self.home, deep)

    def rebuild(self) -> Repair:
        """Set aside what is damaged, keep the rest, and build the database anew."""
        from promptlab.store.repair import rebuild

        return rebuild(self.home)


def _short(record: Record, *without: str) -> dict[str, Any]:
    """A record as plain data, without fields that say nothing."""
    silent = {"detail"} if not getattr(record, "detail", None) else set()
    return {k: v for k, v in vars(record).items() if v is not None and k not in silent and k not in without}


def _images(cell: Cell, seeds: Sequence[int]) -> list[list[Any]]:
    return [[seed, cell.image_id(seed)] for seed in cell.seeds(seeds)]


def _cell_record(cell: Cell) -> dict[str, Any]:
    """A cell as plain data, with its id; `dataclasses.asdict` takes five times as long."""
    prompt = cell.prompt
    parts = {"phrases": [vars(x) for x in prompt.phrases], "bindings": [vars(x) for x in prompt.bindings]}
    settings = cell.known_settings() if cell.sources else vars(cell.settings)
    facts = {name: value for name, value in vars(cell).items() if name != "sources"}  # these are in the recipes
    return {**facts, "id": cell.id, "prompt": {**vars(prompt), **parts}, "settings": settings}


def _dotted(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _command() -> list[str]:
    """The command of this process; of its program the name alone, since a path speaks of one machine."""
    name = Path(sys.argv[0]).name
    return ["promptlab" if name == "__main__.py" else name, *sys.argv[1:]]
