"""Those who read a database while a run writes: a process each. They import no `processes`: they are some."""

from __future__ import annotations

import time
from pathlib import Path

from promptlab.store import Store

__all__ = ["hold_open", "read_all_along"]


def read_all_along(home: str, stop: str, report: str) -> None:
    """A dashboard: query again and again; every row's picture exists, and rows never become fewer."""
    store, most, loops, problem = Store(home), 0, 0, ""
    while not problem and (not Path(stop).exists() or not loops):
        try:
            files = store.query("SELECT file FROM image WHERE status = 'ok'")["file"]
            gone = [file for file in files if not (store.home.images / file[:2] / f"{file}.png").exists()]
            problem = f"{len(gone)} rows without picture" if gone else ""
            problem = problem or (f"{len(files)} rows after {most}" if len(files) < most else "")
            most, loops = len(files), loops + 1
        except Exception as error:
            problem = repr(error)
    Path(report).write_text(problem or f"ok {loops} {most}")


def hold_open(database: str, stop: str, report: str) -> None:
    """A notebook: one connection, opened at the start and never closed."""
    import duckdb

    connection = duckdb.connect(database, read_only=True)
    first = connection.execute("SELECT count(*) FROM image").fetchall()
    while not Path(stop).exists():
        assert connection.execute("SELECT count(*) FROM image").fetchall() == first
        time.sleep(0.05)
    Path(report).write_text("ok")
