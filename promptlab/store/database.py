"""The DuckDB file: built from the journals, and read.

`publish` builds a new file beside the old one, makes it durable and renames it over the old one. Readers that hold the
old file keep it; a reader never sees half a file and never blocks a run. The storage format is that of DuckDB 1.5,
which DuckDB 2 reads too.

`connect` and `query` read it, with files and network shut off: a connection a query, or one for many (`opened_once`).
A connection is in memory and attaches the file: opened by its path, DuckDB would give a second connection of this
process the file that the first one holds, even after a newer one was put in its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
import pandas as pd
import pyarrow as arrow  # type: ignore[import-untyped]

from promptlab.errors import StoreError
from promptlab.records import Level, canonical_json, prompt_id
from promptlab.store._fault_points import crash_point
from promptlab.store.home import Home, disk_error, hold, make_folder, move_into_place
from promptlab.store.journal import JournalIndex, uncollected

__all__ = ["STORAGE", "build", "connect", "opened_once", "publish", "query", "rows"]

STORAGE = "v1.5.0"

OUTDATED = """
INSERT INTO outdated
WITH used AS (
    SELECT run.study, fact.name, arg_max(fact.value, run.id) AS probe_id FROM fact JOIN run ON run.id = fact.run
    WHERE starts_with(fact.name, 'probe.') GROUP BY ALL
), scoring AS (
    SELECT DISTINCT probe, probe_id FROM score
)
SELECT used.study, scoring.probe, scoring.probe_id FROM used
JOIN scoring ON 'probe.' || scoring.probe = used.name AND scoring.probe_id <> used.probe_id
ORDER BY ALL
"""
MEASURED = """
INSERT INTO measured SELECT study, probe, probe_id, measure, count(*), count(value), count(label) FROM scored
GROUP BY ALL ORDER BY ALL
"""
CELL_SCORE = """
INSERT INTO cell_score
SELECT study, probe, probe_id, measure, target, cell_id, label, count(*), count(value), fsum(value),
    bool_and(value IN (0, 1))
FROM scored WHERE status = 'ok' GROUP BY ALL ORDER BY ALL
"""

Row = dict[str, Any]

_TYPES = {
    "VARCHAR": arrow.string(),
    "VARCHAR[]": arrow.list_(arrow.string()),
    "MAP(VARCHAR, VARCHAR)": arrow.map_(arrow.string(), arrow.string()),
    "DOUBLE": arrow.float64(),
    "BIGINT": arrow.int64(),
    "BOOLEAN": arrow.bool_(),
    "TIMESTAMP": arrow.timestamp("us"),
}


def publish(home: Home, index: JournalIndex) -> Path:
    """Build the database from all journals of `home` and put it in place. Raises DiskError, StoreError.

    One process at a time; the others wait, so that an older state never replaces a newer one.
    """
    temporary = home.path / f"{home.database.name}.{os.getpid()}.tmp"
    with hold(home.path / f"{home.database.name}.lock", "the database", wait=120):
        for left in home.path.glob(f"{home.database.name}.*.tmp*"):
            left.unlink(missing_ok=True)
        index.update()
        try:
            make_folder(home.path)
            crash_point("publish.building")
            build(temporary, index)
            crash_point("publish.built")
            move_into_place(temporary, home.database, "publish")
        except OSError as error:
            # Windows does not replace a file that somebody has open; the next publish will.
            if not (os.name == "nt" and isinstance(error, PermissionError)):
                raise disk_error(home.database, error) from error
        except duckdb.IOException as error:
            raise disk_error(home.database, OSError(str(error).splitlines()[0])) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return home.database


@uncollected()
def build(path: Path, index: JournalIndex) -> None:
    """Write a new database of everything in `index` to `path`."""
    tables: dict[str, list[Row]] = {}
    for table, row in rows(index):
        tables.setdefault(table, []).append(row)
    package = files("promptlab.store")
    with duckdb.connect(str(path), config={"storage_compatibility_version": STORAGE}) as connection:
        connection.execute(package.joinpath("schema.sql").read_text("utf-8"))
        for table, content in tables.items():
            target = connection.table(table)
            columns = {
                name: _column(table, name, [row.get(name) for row in content], _TYPES[str(kind)])
                for name, kind in zip(target.columns, target.types, strict=True)
            }
            connection.from_arrow(arrow.table(columns)).insert_into(table)
        connection.execute(package.joinpath("views.sql").read_text("utf-8"))
        connection.execute(OUTDATED)
        connection.execute(MEASURED)
        connection.execute(CELL_SCORE)
        connection.execute("CHECKPOINT")


def _column(table: str, name: str, values: list[Any], kind: arrow.DataType) -> arrow.Array:
    try:
        return arrow.array(values, kind)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError) as error:
        raise StoreError(f"column {name} of table {table} cannot hold what the journals say: {error}") from error


def rows(index: JournalIndex) -> Iterator[tuple[str, Row]]:
    """Every row of every table, in a fixed order. Columns that a row does not name are NULL."""
    yield from _runs(index)
    yield from _designs(index)
    for key in sorted(index.images):
        (_, run, _), image = index.images[key]
        asked = {k: v for k, v in image.recipe.items() if k not in ("width", "height")}
        yield "image", {**asked, **vars(image), "recipe": canonical_json(image.recipe), "run": run}
    for probe_id, image_id, prompt in sorted(index.scores, key=lambda key: (*key[:2], key[2] or "")):
        scores = index.scores[probe_id, image_id, prompt]
        if index.score_stands(scores, image_id):
            about = {"image": image_id, "prompt_id": prompt, "probe": scores.probe, "probe_id": probe_id}
            for score in scores.scores:
                yield "score", _flat({"target": "", **score, **about, "run": scores.rank[1]})
    for _, entry in sorted(index.measures.items()):
        yield "measure", {**entry.record, "reference": entry.record.get("references", "")}
    for _, entry in sorted(index.passports.items()):
        yield "passport", _flat({**entry.record, "run": entry.run})
    for study in sorted({study for study, _ in index.effects}):
        for entry in index.current_effects(study):
            yield "effect", _flat({**entry.record, "run": entry.run})
    for name, read in sorted(index.journals.items()):
        yield "journal", {"file": name, "bytes": read.offset, "lines": read.line, "records": index.records[name]}
    for item in (*index.losses, *index.damage):
        yield "damage", vars(item)


def _flat(record: Mapping[str, Any]) -> Row:
    """A record with its `detail` as JSON."""
    detail = record.get("detail")
    return {**record, "detail": canonical_json(detail) if detail else "{}"}


def _runs(index: JournalIndex) -> Iterator[tuple[str, Row]]:
    latest: dict[str, Row] = {}
    count: dict[str, int] = {}
    for name, run in sorted(index.runs.items()):
        latest[run["study"]] = run
        count[run["study"]] = count.get(run["study"], 0) + 1
        row: Row = {"status": "open", **run, "id": name, "study_hash": run.get("hash")}
        for key in ("started", "ended"):
            row[key] = datetime.fromisoformat(run[key]).replace(tzinfo=None) if key in run else None
        yield "run", row
        for fact, value in sorted(run.get("facts", {}).items()):
            yield "fact", {"run": name, "name": fact, "value": level_text(value)}
    for study, run in sorted(latest.items()):
        row = {"name": study, "hash": run.get("hash"), "text": run.get("text"), "runs": count[study]}
        if record := index.declaration(study):
            row |= {name: record[name] for name in ("question", "backend", "model")}
            yield from _declared(study, record)
        if plan := index.current_plan(study):
            row |= {"plan": plan.record["id"], "cells": plan.record["cells"], "seeds": len(plan.record["seeds"])}
        yield "study", row


def _declared(study: str, record: Row) -> Iterator[tuple[str, Row]]:
    """What the study declares: axes, probes and contrasts, in the order of its file."""
    for column in record["axes"]:
        yield "axis", {**column, "study": study}
    for position, use in enumerate(record["probes"]):
        yield "probe", {**use, "study": study, "position": position, "options": canonical_json(use["options"])}
    for position, contrast in enumerate(record["contrasts"]):
        level_a, level_b = map(level_text, contrast["levels"])
        conditions = [(axis, level_text(level)) for axis, level in contrast["conditions"].items()]
        derived = {"level_a": level_a, "level_b": level_b, "conditions": conditions, "position": position}
        yield "contrast", {**contrast, "study": study, **derived}


def _designs(index: JournalIndex) -> Iterator[tuple[str, Row]]:
    """Cells of each study: those of its current plan, then those that only earlier plans held."""
    prompts: set[str] = set()
    for study in sorted({study for study, _ in index.plans}):
        done: set[str] = set()
        plans = [(entry, plan) for (name, plan), entry in index.plans.items() if name == study]
        for place, (entry, plan) in enumerate(sorted(plans, key=lambda item: item[0].rank, reverse=True)):
            order: dict[str, dict[str, int]] = {}
            for _, cell in sorted(index.cells[study, plan].items()):
                for axis, value in cell["levels"]:
                    places = order.setdefault(axis, {})
                    places.setdefault(level_text(value), len(places))
                if cell["id"] in done:
                    continue
                done.add(cell["id"])
                key = prompt_id(cell["prompt"])
                yield from _cell(cell, key, order, {"current": place == 0, "run": entry.run})
                if key not in prompts:
                    prompts.add(key)
                    yield from _prompt(key, cell["prompt"])


def _cell(cell: Row, prompt: str, order: Mapping[str, Mapping[str, int]], more: Row) -> Iterator[tuple[str, Row]]:
    names = {"prompt": cell["prompt"]["text"], "prompt_id": prompt, "prompt_group": cell["group"]}
    yield "cell", {**cell, **cell["settings"], **names, **more}
    key = {"study": cell["study"], "cell_id": cell["id"]}
    for axis, value in cell["levels"]:
        text = level_text(value)
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        place = order[axis][text]
        yield "level", {**key, "axis": axis, "level": text, "level_number": number, "level_position": place}
    for seed, image in cell["images"]:
        yield "cell_image", {**key, "seed": seed, "image": image}


def _prompt(key: str, prompt: Mapping[str, Any]) -> Iterator[tuple[str, Row]]:
    yield "prompt", {"id": key, "text": prompt["text"], "swapped": prompt["swapped"], "alone": prompt["alone"]}
    for i, phrase in enumerate(prompt["phrases"]):
        places = {"start_char": phrase["start"], "end_char": phrase["end"]}
        yield "phrase", {**phrase, **places, "prompt_id": key, "position": i}
    for i, binding in enumerate(prompt["bindings"]):
        yield "binding", {**binding, "prompt_id": key, "position": i}


def level_text(level: Level) -> str:
    """A level as text: numbers without a needless `.0`, null as `none`."""
    if level is None:
        return "none"
    if isinstance(level, bool):
        return str(level).lower()
    if isinstance(level, float) and level.is_integer() and abs(level) < 1e15:
        return str(int(level))
    return str(level)


# A path cannot be a bound parameter of ATTACH in DuckDB 1.5; quotes in it are doubled.
ATTACH = "ATTACH '{}' AS promptlab (READ_ONLY)"
SHUT = (
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET enable_external_access = false",
)
DAMAGED = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)
USE = "USE promptlab"
LIMIT = "SET max_execution_time = 60000"
"""Milliseconds; DuckDB 2 and later."""

REPLACES_OPEN_FILES = os.name != "nt"

_File = tuple[Path, int, int]
"""Path, inode and time of change: another one once a publish put a newer file there."""


@contextmanager
def connect(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the database at `path`: no files, no network, no settings to change.

    Raises StoreError if there is no database, or if it is damaged.
    """
    if not path.is_file():
        raise StoreError(f"there is no database at {path}; `promptlab run STUDY` or `promptlab rebuild` makes it")
    kept = _KEPT.get()
    with _open(path) if kept is None else kept.cursor(path) as connection:
        try:
            yield connection
        except DAMAGED as error:
            if kept is not None:
                kept.let_go()
            raise _unreadable(path, error) from error


@contextmanager
def opened_once() -> Iterator[None]:
    """Within, in this thread, `connect` and `query` open a database once for all, and anew when it was replaced.

    For many short queries, of which the opening would take most of the time. Afterwards it stays open for the next who
    comes this way, in any thread; not on Windows, where nobody could replace the file. Within another, it does nothing.
    """
    if _KEPT.get() is not None:
        yield
        return
    kept = _STAYS if REPLACES_OPEN_FILES else _Kept()
    before = _KEPT.set(kept)
    try:
        yield
    finally:
        _KEPT.reset(before)
        if kept is not _STAYS:
            kept.let_go()


def query(path: Path, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
    """The rows of a query against the database at `path`. Values come as bound `parameters` (? or $name).

    Raises StoreError, in one line.
    """
    with connect(path) as connection:
        try:
            return connection.execute(sql, parameters or None).df()
        except duckdb.Error as error:
            if isinstance(error, DAMAGED):
                raise
            why = str(error).splitlines()[0]
            if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
                why += " (if an older promptlab built this database, `promptlab publish` builds it anew)"
            raise StoreError(f"the query cannot be answered: {why}") from error


class _Kept:
    """The database that was opened last, and which file that was."""

    def __init__(self) -> None:
        self._open: tuple[_File, duckdb.DuckDBPyConnection] | None = None
        self._one = Lock()

    def cursor(self, path: Path) -> duckdb.DuckDBPyConnection:
        """A connection of its own, with its own temporary tables, to the file that is at `path` now."""
        stat = path.stat()
        file = (path, stat.st_ino, stat.st_mtime_ns)
        with self._one:
            if self._open is None or self._open[0] != file:
                self._open = file, _open(path)
            cursor = self._open[1].cursor()
        cursor.execute(USE)
        return cursor

    def let_go(self) -> None:
        """The next cursor opens it again.

        Not closed but forgotten, since closing would end the cursors too: who is amid a query on it gets to its end.
        """
        with self._one:
            self._open = None


_STAYS = _Kept()
_KEPT: ContextVar[_Kept | None] = ContextVar("kept", default=None)


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    try:
        connection.execute(ATTACH.format(str(path).replace("'", "''")))
        connection.execute(USE)
        for setting in SHUT:
            connection.execute(setting)
        with suppress(duckdb.CatalogException):
            connection.execute(LIMIT)
        connection.execute("SET lock_configuration = true")
    except duckdb.Error as error:
        connection.close()
        raise _unreadable(path, error) from error
    return connection


def _unreadable(path: Path, error: duckdb.Error) -> StoreError:
    why = str(error).splitlines()[0]
    if "lock" in why.lower():
        return StoreError(f"another program has {path} open for writing; close it there, or work on a copy ({why})")
    return StoreError(f"database {path} cannot be read; `promptlab rebuild` makes it again from the journals ({why})")
