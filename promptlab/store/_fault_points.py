"""Named places where a test may make the program die.

Every write, sync, rename, append and publish of the store passes a crash point before and after. A point does nothing
unless the environment arms it:

    PROMPTLAB_CRASH_AT=picture.renamed       the first time this point is passed; `picture.renamed:7` the seventh time
    PROMPTLAB_CRASH_WITH=SIGKILL             or SIGINT, SIGTERM, ENOSPC, EIO, MemoryError

It exists so that recovery is tested at each place where it can be needed, in a real process that really dies.
"""

from __future__ import annotations

import errno
import os
import signal

__all__ = ["ACTIONS", "POINTS", "crash_point", "torn"]

POINTS = (
    "picture.writing",
    "picture.written",
    "picture.synced",
    "picture.renamed",
    "picture.kept",
    "journal.appending",
    "journal.torn",
    "journal.written",
    "journal.synced",
    "publish.building",
    "publish.built",
    "publish.synced",
    "publish.renamed",
    "publish.kept",
)
"""In the order in which a run passes them. `journal.torn` lies in the middle of a write."""

ACTIONS = ("SIGKILL", "SIGINT", "SIGTERM", "ENOSPC", "EIO", "MemoryError")

_passed: dict[str, int] = {}


def _strikes(name: str) -> bool:
    armed = os.environ.get("PROMPTLAB_CRASH_AT")
    if armed is None:
        return False
    point, _, count = armed.partition(":")
    if point not in POINTS:
        raise ValueError(f"no crash point is called {point!r}; there are {', '.join(POINTS)}")
    if point != name:  # files that no run depends on pass points that are not listed
        return False
    _passed[name] = _passed.get(name, 0) + 1
    return _passed[name] == int(count or 1)


def crash_point(name: str) -> None:
    """Die here if the environment says so: by a signal, OSError (ENOSPC, EIO) or MemoryError. Else do nothing."""
    if not _strikes(name):
        return
    action = os.environ.get("PROMPTLAB_CRASH_WITH", "SIGKILL")
    if action not in ACTIONS:
        raise ValueError(f"no crash is called {action!r}; there are {', '.join(ACTIONS)}")
    if action == "MemoryError":
        raise MemoryError(f"crash point {name}")
    if action.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[action])
        return
    number = getattr(errno, action)
    raise OSError(number, os.strerror(number))


def torn(name: str) -> bool:
    """Whether a write should be cut in two at this point, so that `crash_point(name)` falls between the halves."""
    return os.environ.get("PROMPTLAB_CRASH_AT", "").partition(":")[0] == name
