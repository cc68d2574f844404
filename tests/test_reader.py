"""One connection for many queries: it is opened once, it never shows what is no longer there, and it is let go."""

from __future__ import annotations

import threading
from pathlib import Path

import driver
import duckdb
import pytest

from promptlab import reader
from promptlab.errors import StoreError
from promptlab.reader import connect, opened_once, query
from promptlab.store import Store

RUNS = "SELECT count(*) AS n FROM run"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[duckdb.DuckDBPyConnection]:
    """Every connection that is opened, in order."""
    made: list[duckdb.DuckDBPyConnection] = []
    real = reader._open

    def listed(path: Path) -> duckdb.DuckDBPyConnection:
        made.append(real(path))
        return made[-1]

    monkeypatch.setattr(reader, "_open", listed)
    return made


def closed(connection: duckdb.DuckDBPyConnection) -> bool:
    try:
        connection.execute("SELECT 1")
    except duckdb.ConnectionException:
        return True
    return False


def test_a_query_opens_and_closes(finished: Path, opened: list[duckdb.DuckDBPyConnection]) -> None:
    store = Store(finished)
    assert [store.query(RUNS)["n"].iloc[0] for _ in range(3)] == [1, 1, 1]
    assert len(opened) == 3 and all(map(closed, opened))


def test_many_queries_open_once(finished: Path, opened: list[duckdb.DuckDBPyConnection]) -> None:
    store = Store(finished)
    with opened_once():
        with opened_once():
            assert store.query(RUNS)["n"].iloc[0] == 1
        assert store.query(RUNS)["n"].iloc[0] == 1
        assert len(opened) == 1 and not closed(opened[0])
    assert closed(opened[0])
    store.query(RUNS)
    assert len(opened) == 2


def test_a_newer_database_is_seen_at_once(home: Path, opened: list[duckdb.DuckDBPyConnection]) -> None:
    store = Store(home)
    with opened_once():
        assert store.query(RUNS)["n"].iloc[0] == 1
        driver.run(home, "tiny", 6, 0.0, 0, None)
        assert store.query(RUNS)["n"].iloc[0] == 2
        assert closed(opened[0]) and len(opened) == 2


def test_each_has_its_own_temporary_tables_and_may_change_nothing(finished: Path) -> None:
    with opened_once():
        for _ in range(2):
            with Store(finished).connect() as connection:
                connection.execute("CREATE TEMP TABLE seen AS SELECT 1 AS one")
                for forbidden in ("SET enable_external_access = true", "COPY seen TO 'out.csv'", "DROP TABLE image"):
                    with pytest.raises(duckdb.Error):
                        connection.execute(forbidden)


def test_other_threads_open_their_own(finished: Path, opened: list[duckdb.DuckDBPyConnection]) -> None:
    store = Store(finished)
    with opened_once():
        store.query(RUNS)
        other = threading.Thread(target=store.query, args=(RUNS,))
        other.start()
        other.join()
    assert len(opened) == 2 and all(map(closed, opened))


def test_an_error_ends_it_too(finished: Path, opened: list[duckdb.DuckDBPyConnection]) -> None:
    store = Store(finished)
    with pytest.raises(ZeroDivisionError), opened_once():
        store.query(RUNS)
        raise ZeroDivisionError
    with opened_once():
        with pytest.raises(StoreError, match="cannot be answered"):
            store.query("SELECT nothing FROM run")
        assert store.query(RUNS)["n"].iloc[0] == 1
    assert len(opened) == 2 and all(map(closed, opened))


def test_a_damaged_database_is_opened_again(finished: Path, opened: list[duckdb.DuckDBPyConnection]) -> None:
    database = Store(finished).home.database
    with opened_once():
        with pytest.raises(StoreError, match="rebuild"), connect(database):
            raise duckdb.FatalException("invalidated")
        assert closed(opened[0])
        assert query(database, RUNS)["n"].iloc[0] == 1
    assert len(opened) == 2
