"""Reading the database: one short connection a query, read-only, with the door to the outside shut.

A connection is in memory and attaches the file: opened by its path, DuckDB would give a second connection of this
process the file that the first one holds, even after a newer one was put in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from promptlab.errors import StoreError

__all__ = ["connect", "query"]

# A path cannot be a bound parameter of ATTACH in DuckDB 1.5; quotes in it are doubled.
ATTACH = "ATTACH '{}' AS promptlab (READ_ONLY)"
SHUT = (
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET enable_external_access = false",
)
DAMAGED = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)
LIMIT = "SET max_execution_time = 60000"
"""Milliseconds; DuckDB 2 and later."""


@contextmanager
def connect(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the database at `path`: no files, no network, no settings to change.

    Raises StoreError if there is no database, or if it is damaged.
    """
    if not path.is_file():
        raise StoreError(f"there is no database at {path}; `promptlab run STUDY` or `promptlab rebuild` makes it")
    with duckdb.connect(":memory:") as connection:
        try:
            connection.execute(ATTACH.format(str(path).replace("'", "''")))
            connection.execute("USE promptlab")
            for setting in SHUT:
                connection.execute(setting)
            with suppress(duckdb.CatalogException):
                connection.execute(LIMIT)
            connection.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            raise _unreadable(path, error) from error
        try:
            yield connection
        except DAMAGED as error:
            raise _unreadable(path, error) from error


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


def _unreadable(path: Path, error: duckdb.Error) -> StoreError:
    why = str(error).splitlines()[0]
    if "lock" in why.lower():
        return StoreError(f"another program has {path} open for writing; close it there, or work on a copy ({why})")
    return StoreError(f"database {path} cannot be read; `promptlab rebuild` makes it again from the journals ({why})")
