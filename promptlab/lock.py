"""One run of a study at a time: a lock that the operating system holds, and drops when its holder dies.

Beside the lock lies a note that says who holds it; it informs people and decides nothing, so a stale note does no harm.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from promptlab.durable import disk_error, make_folder
from promptlab.errors import LockedError

__all__ = ["hold", "holder"]


@contextmanager
def hold(path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock at `path` while the body runs; wait up to `wait` seconds for it (-1: for ever).

    Raises LockedError naming the holder, DiskError where the folder cannot be written.
    """
    note = path.with_name(f"{path.name}.json")
    try:
        make_folder(path.parent)
        lock = FileLock(path, timeout=wait, poll_interval=0.02)
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"{what} is in use by {holder(path)}; wait for it, or stop it, then run the same command again"
        ) from None
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        with suppress(OSError):
            since = datetime.now(UTC).isoformat(timespec="seconds")
            note.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}), "utf-8")
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def holder(path: Path) -> str:
    """Who holds the lock at `path`, in words, as far as its note says."""
    try:
        note = json.loads(path.with_name(f"{path.name}.json").read_text("utf-8"))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
