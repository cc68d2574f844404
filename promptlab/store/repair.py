"""The doctor of a home: it finds what is wrong, and mends it.

`examine` changes nothing. `rebuild` sets damaged files aside in `quarantine/<time>/`, keeps every record that its seal
vouches for, writes down what is gone, and builds the database anew. Pictures set aside are made again by the next run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from promptlab.errors import LockedError, StoreError
from promptlab.store.database import build, connect, publish
from promptlab.store.home import Home, disk_error, hold, make_folder, move_into_place
from promptlab.store.journal import Damage, Journal, JournalIndex, read_journal

__all__ = ["Problem", "Repair", "examine", "rebuild"]

STALE_SECONDS = 3600
"""A temporary file of this age belongs to no living write."""

REBUILD = "`promptlab rebuild`"


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be. `harmless` ones need no action."""

    what: str
    where: str
    why: str
    cure: str
    harmless: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.where}: {self.why}" + (" (harmless)" if self.harmless else f". Next: {self.cure}")


@dataclass
class Repair:
    """What a rebuild did: trusted records by kind, what is gone, which files lie in quarantine, what was left alone."""

    records: dict[str, int] = field(default_factory=dict)
    lost: list[Damage] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = ["recovered: " + ", ".join(f"{n} {kind}" for kind, n in self.records.items())]
        lines += [f"lost: {item.lost} records at {item.file}:{item.line} ({item.why})" for item in self.lost]
        lines += [f"set aside: {name}" for name in self.quarantined]
        lines += [f"left alone: {name}" for name in self.skipped]
        return "\n".join(lines)


def examine(home: Home, deep: bool = True) -> list[Problem]:
    """Everything wrong at `home`: journals, pictures, database. `deep` hashes every picture and compares every row."""
    index = JournalIndex(home).update()
    return [*_journals(index), *_pictures(index, deep), *_database(home, index, deep)]


def _journals(index: JournalIndex) -> Iterator[Problem]:
    for item in index.damage:
        lost = f"{item.why}; {item.lost} records are lost" if item.lost else f"{item.why}; no record is lost"
        yield Problem("damaged journal", f"{item.file}:{item.line}", lost, REBUILD)
    for name, read in index.journals.items():
        if read.torn:
            why = f"{read.torn} bytes of a line that was never finished"
            yield Problem("torn end", name, why, "none needed: nothing that was acknowledged", harmless=True)
    for name, run in sorted(index.runs.items()):
        if "ended" not in run:
            yield Problem("open run", f"{run['study']}/{name}", "it is running, or it was killed", "run it again", True)


def _pictures(index: JournalIndex, deep: bool) -> Iterator[Problem]:
    home = index.home
    here = index.files()
    wanted = {image.file: key for key, (_, image) in index.images.items() if image.file}
    for file in sorted(wanted.keys() - here):
        yield Problem("row without file", f"{file}.png", f"image {wanted[file]} has no picture", "run the study again")
    for file in sorted(here - wanted.keys()):
        why = "no journal speaks of it: a run was killed before it could"
        yield Problem("file without row", f"{file}.png", why, "none needed: the next run adopts or repeats it", True)
    for path in sorted(home.images.glob("*/.*.tmp")):
        yield Problem("temporary file", path.name, "a write that was never finished", REBUILD, harmless=True)
    for path in _broken(home) if deep else ():
        yield Problem("hash mismatch", path.name, "its bytes are not those that were saved", REBUILD)


def _broken(home: Home) -> Iterator[Path]:
    """Pictures whose bytes do not fit their name."""
    for path in sorted(home.images.glob("[0-9a-f][0-9a-f]/*.png")):
        if not path.name.startswith(".") and hashlib.sha256(path.read_bytes()).hexdigest() != path.stem:
            yield path


def _database(home: Home, index: JournalIndex, deep: bool) -> Iterator[Problem]:
    where = home.database.name
    if not home.database.exists():
        if index.journals:
            yield Problem("no database", where, "the journals were never published", REBUILD)
        return
    try:
        with connect(home.database) as connection:
            published = dict(connection.execute("SELECT file, bytes FROM journal").fetchall())
            sizes = {name: read.offset for name, read in index.journals.items()}
            for name, size in sorted(published.items()):
                if sizes.get(name, 0) < size:
                    why = f"{size - sizes.get(name, 0)} of {size} bytes that were published are gone"
                    yield Problem("journal cut short", name, why, REBUILD)
            if any(size > published.get(name, 0) for name, size in sizes.items()):
                why = "the journals have grown since it was built"
                yield Problem("database behind", where, why, "none needed: the run publishes, or " + REBUILD, True)
            if deep:
                yield from _differences(home, connection, JournalIndex(home).update(published))
    except (StoreError, duckdb.Error) as error:
        yield Problem("damaged database", where, str(error).splitlines()[0], REBUILD)


def _differences(home: Home, connection: duckdb.DuckDBPyConnection, index: JournalIndex) -> Iterator[Problem]:
    """Compare the database with one built from the same bytes of the journals."""
    with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
        fresh = Path(folder) / "fresh.duckdb"
        build(fresh, index)
        with connect(fresh) as twin:
            for (table,) in twin.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall():
                ours, theirs = (Counter(map(repr, side.table(table).fetchall())) for side in (connection, twin))
                if ours != theirs:
                    more, fewer = (ours - theirs).total(), (theirs - ours).total()
                    why = f"{more} rows that no journal tells, {fewer} rows missing"
                    yield Problem("database differs", f"{home.database.name}, table {table}", why, REBUILD)


def rebuild(home: Home) -> Repair:
    """Mend `home`; studies that are being run are left alone and named in `skipped`. Raises DiskError."""
    repair = Repair()
    aside = home.path / "quarantine" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    cut = {item.file: item for item in _cut_short(home)}
    damaged = {item.file for item in JournalIndex(home).update().damage}
    for name in sorted(cut.keys() | damaged):
        study, _, _ = name.partition("/")
        try:
            with hold(home.runs / study / "lock", f"study {study!r}"):
                if name in damaged:
                    repair.lost.extend(_mend(home, name, aside))
                    repair.quarantined.append(f"runs/{name}")
                if name in cut:
                    with Journal(home.runs / name) as journal:
                        journal.append([("loss", vars(cut[name]))])
                    repair.lost.append(cut[name])
        except (LockedError, StoreError) as error:
            repair.skipped.append(f"{name}: {error}")
    for path in list(_broken(home)):
        _set_aside(path, aside / "images", move=True)
        repair.quarantined.append(f"images/{path.parent.name}/{path.name}")
    for path in home.images.glob("*/.*.tmp"):
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            path.unlink(missing_ok=True)
    if home.database.exists() and any(
        problem.what == "damaged database" for problem in _database(home, JournalIndex(home), deep=False)
    ):
        _set_aside(home.database, aside, move=False)
        repair.quarantined.append(home.database.name)
    index = JournalIndex(home)
    publish(home, index)
    repair.records = {
        "run": len(index.runs),
        "plan": len(index.plans),
        "image": len(index.images),
        "score": sum(len(scores.scores) for scores in index.scores.values()),
        "passport": len(index.passports),
        "effect": sum(map(len, index.effects.values())),
    }
    return repair


def _cut_short(home: Home) -> Iterator[Damage]:
    """Records that the database counts and the journals no longer hold."""
    index = JournalIndex(home).update()
    try:
        with connect(home.database) as connection:
            rows = connection.execute("SELECT file, bytes, records FROM journal ORDER BY file").fetchall()
    except (StoreError, duckdb.Error):
        return
    for name, size, records in rows:
        read = index.journals.get(name)
        if read is None or read.offset < size:
            gone = records - (index.records[name] if read else 0)
            yield Damage(name, read.line + 1 if read else 1, "the journal was cut short since it was published", gone)


def _mend(home: Home, name: str, aside: Path) -> list[Damage]:
    """Copy a damaged journal to quarantine; put one in its place that holds its trusted records and names the lost."""
    path = home.runs / name
    part = read_journal(path)
    if any("newer promptlab" in item.why for item in part.damage):
        raise StoreError("a newer promptlab wrote it; update promptlab, then rebuild")
    scratch = JournalIndex(home)
    judged = [(line, scratch.take(path.stem, line)) for line in part.lines]
    lost = [*part.damage, *(Damage(name, line.n + 1, why) for line, why in judged if why)]
    _set_aside(path, aside / "runs" / path.parent.name, move=False)
    temporary = path.with_suffix(".tmp")
    try:
        temporary.unlink(missing_ok=True)
        with Journal(temporary) as journal:
            journal.append((line.kind, line.record) for line, why in judged if why is None)
            journal.append(("loss", vars(item)) for item in lost)
        move_into_place(temporary, path, "publish")
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return lost


def _set_aside(path: Path, folder: Path, move: bool) -> None:
    try:
        make_folder(folder)
        if move:
            os.replace(path, folder / path.name)
        else:
            shutil.copy2(path, folder / path.name)
    except OSError as error:
        raise disk_error(folder, error) from error
