"""Reading the database, read-only and with the door to the outside shut: a connection a query, or one for many.

A connection is in memory and attaches the file: opened by its path, DuckDB would give a second connection of this
process the file that the first one holds, even after a newer one was put in its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
import pandas as pd

from promptlab.errors import StoreError

__all__ = ["connect", "opened_once", "query"]

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
            if isinstance(error, duckdb.CatalogException):
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
