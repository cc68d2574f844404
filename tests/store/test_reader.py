"""One connection for many queries: it is opened once, and it never shows what is no longer there."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import driver
from promptlab.errors import StoreError
from promptlab.store import Store, database
from promptlab.store.database import connect, opened_once, query

RUNS = "SELECT count(*) AS n FROM run"
Opened = list[weakref.ref[duckdb.DuckDBPyConnection]]


@pytest.fixture(params=[True, False], ids=["open files can be replaced", "as on Windows"])
def stays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether a connection stays open after; of nobody else's when the test begins."""
    kept = database._Kept()
    monkeypatch.setattr(database, "REPLACES_OPEN_FILES", request.param)
    monkeypatch.setattr(database, "_STAYS", kept)
    yield request.param
    kept.let_go()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, stays: bool) -> Opened:
    """Every connection that is opened, in order."""
    made: Opened = []
    real = database._open

    def listed(path: Path) -> duckdb.DuckDBPyConnection:
        connection = real(path)
        made.append(weakref.ref(connection))
        return connection

    monkeypatch.setattr(database, "_open", listed)
    return made


def closed(connection: weakref.ref[duckdb.DuckDBPyConnection]) -> bool:
    there = connection()
    try:
        return there is None or not there.execute("SELECT 1")
    except duckdb.ConnectionException:
        return True


def test_a_query_opens_and_closes(finished: Path, opened: Opened) -> None:
    store = Store(finished)
    assert [store.query(RUNS)["n"].iloc[0] for _ in range(3)] == [1, 1, 1]
    assert len(opened) == 3 and all(map(closed, opened))


def test_many_queries_open_once(finished: Path, opened: Opened, stays: bool) -> None:
    store = Store(finished)
    with opened_once():
        with opened_once():
            assert store.query(RUNS)["n"].iloc[0] == 1
        assert store.query(RUNS)["n"].iloc[0] == 1
        assert len(opened) == 1 and not closed(opened[0])
    assert closed(opened[0]) is not stays
    with opened_once():
        store.query(RUNS)
    assert len(opened) == (1 if stays else 2)
    store.query(RUNS)
    assert closed(opened[-1]) and len(opened) == (2 if stays else 3)


def test_a_newer_database_is_seen_at_once(home: Path, opened: Opened) -> None:
    store = Store(home)
    with opened_once():
        assert store.query(RUNS)["n"].iloc[0] == 1
        driver.run(home, "tiny", 6, 0.0, 0, None)
        assert store.query(RUNS)["n"].iloc[0] == 2
        assert closed(opened[0]) and len(opened) == 2


def test_a_query_on_a_former_database_gets_to_its_end(home: Path, opened: Opened) -> None:
    store = Store(home)
    with opened_once(), store.connect() as former:
        driver.run(home, "tiny", 6, 0.0, 0, None)
        assert store.query(RUNS)["n"].iloc[0] == 2
        assert closed(opened[0]) and former.execute(RUNS).fetchall() == [(1,)]


def test_each_has_its_own_temporary_tables_and_may_change_nothing(finished: Path, stays: bool) -> None:
    with opened_once():
        for _ in range(2):
            with Store(finished).connect() as connection:
                connection.execute("CREATE TEMP TABLE seen AS SELECT 1 AS one")
                for forbidden in ("SET enable_external_access = true", "COPY seen TO 'out.csv'", "DROP TABLE image"):
                    with pytest.raises(duckdb.Error):
                        connection.execute(forbidden)


def test_other_threads_open_their_own(finished: Path, opened: Opened) -> None:
    store = Store(finished)
    with opened_once():
        store.query(RUNS)
        other = threading.Thread(target=store.query, args=(RUNS,))
        other.start()
        other.join()
        assert len(opened) == 2 and closed(opened[1])


def test_many_threads_share_what_stays_open(home: Path, opened: Opened, stays: bool) -> None:
    seen: list[int] = []

    def ask() -> None:
        for _ in range(20):
            with opened_once():
                seen.append(int(Store(home).query(RUNS)["n"].iloc[0]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    driver.run(home, "tiny", 6, 0.0, 0, None)
    for thread in threads:
        thread.join()
    with opened_once():
        assert Store(home).query(RUNS)["n"].iloc[0] == 2
    assert len(seen) == 80 and set(seen) <= {1, 2} and (len(opened) <= 3) is stays


def test_an_error_ends_it_too(finished: Path, opened: Opened, stays: bool) -> None:
    store = Store(finished)
    with pytest.raises(ZeroDivisionError), opened_once():
        store.query(RUNS)
        raise ZeroDivisionError
    with opened_once():
        with pytest.raises(StoreError, match="cannot be answered"):
            store.query("SELECT nothing FROM run")
        assert store.query(RUNS)["n"].iloc[0] == 1
    assert len(opened) == (1 if stays else 2) and closed(opened[0]) is not stays


def test_a_damaged_database_is_opened_again(finished: Path, opened: Opened) -> None:
    database = Store(finished).home.database
    with opened_once():
        with pytest.raises(StoreError, match="rebuild"), connect(database):
            raise duckdb.FatalException("invalidated")
        assert closed(opened[0])
        assert query(database, RUNS)["n"].iloc[0] == 1
    assert len(opened) == 2
