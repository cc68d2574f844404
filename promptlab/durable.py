"""Files that are there whole or not at all: written beside, synced, renamed, and the folder synced."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from promptlab.crash import crash_point
from promptlab.errors import DiskError

__all__ = ["disk_error", "make_folder", "move_into_place", "sync_file", "sync_folder", "write_whole"]


def disk_error(path: Path, error: OSError) -> DiskError:
    """What to tell a person when `path` cannot be written."""
    return DiskError(
        f"cannot write {path}: {error.strerror or error}; "
        "make room (or choose another folder with --home) and run again: what is finished is kept"
    )


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make new and renamed names in a folder durable; Windows does so by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def move_into_place(temporary: Path, path: Path, crash: str) -> None:
    """Sync `temporary`, rename it to `path`, sync the folder. `crash` is the family of crash points that it passes."""
    sync_file(temporary)
    crash_point(f"{crash}.synced")
    os.replace(temporary, path)
    crash_point(f"{crash}.renamed")
    sync_folder(path.parent)
    crash_point(f"{crash}.kept")


def write_whole(path: Path, data: bytes, crash: str) -> None:
    """Write `data` to `path` durably; another process sees the old file, or none, or the whole new one.

    Raises DiskError; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        make_folder(path.parent)
        crash_point(f"{crash}.writing")
        temporary.write_bytes(data)
        crash_point(f"{crash}.written")
        move_into_place(temporary, path, crash)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise disk_error(path, error) from error
        raise
