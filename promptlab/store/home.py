"""The home: the folder of runs, images and the database, and how promptlab writes into it safely.

    runs/<study>/<run>.jsonl      the journals: the only truth
    images/ab/<sha256>.png        the images, by content
    promptlab.duckdb              the product: built from the journals, may be deleted at any time
    thumbs/ab/<sha256>.webp       small images for pages, may be deleted at any time
    cache/                        speed of this machine and compiled models, may be deleted at any time

The first of these that is set wins: the `--home` argument, the variable PROMPTLAB_HOME, `data/` of a clone, the folder
that the platform keeps for a user's data.

Files are whole or absent: promptlab writes them under another name, syncs and renames them, and syncs the folder.

One run of a study works at a time. It holds a lock of the operating system, which drops it when the process dies. A
note beside the lock says who holds it; it informs people and decides nothing, so a stale note does no harm.

Keys stay out of every file: promptlab replaces the values of environment variables that look like keys. A secret is
the value of a variable whose name ends in KEY, TOKEN, SECRET, PASSWORD, PAT or CREDENTIALS, if it has 12 characters or
more and no blank. Shorter values would hit innocent words of a prompt.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
import threading
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from promptlab.errors import DiskError, LockedError, PromptlabError
from promptlab.store._fault_points import crash_point

__all__ = [
    "RESERVE",
    "Home",
    "disk_error",
    "find_home",
    "hold",
    "holder",
    "make_folder",
    "move_into_place",
    "redact",
    "safe_name",
    "secrets",
    "sync_file",
    "sync_folder",
    "write_whole",
]

RESERVE = 500_000_000
"""Bytes that a run leaves free on the disk."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}


def safe_name(name: str) -> str:
    """`name`, if it may become a folder: a-z, 0-9, _ and -, at most 64, no Windows device. Raises PromptlabError."""
    if not _NAME.fullmatch(name) or name in _DEVICES:
        raise PromptlabError(
            f"{name!r} cannot name a study: allowed are 1 to 64 of a-z, 0-9, _ and -, "
            "beginning with a letter or digit, and no Windows device such as 'con'"
        )
    return name


@dataclass(frozen=True)
class Home:
    """A folder of promptlab. Nothing is created until something is written."""

    path: Path

    @property
    def runs(self) -> Path:
        """Journals, one folder a study."""
        return self.path / "runs"

    @property
    def images(self) -> Path:
        """Pictures by content hash."""
        return self.path / "images"

    @property
    def database(self) -> Path:
        """What readers open."""
        return self.path / "promptlab.duckdb"

    @property
    def thumbs(self) -> Path:
        """Small pictures."""
        return self.path / "thumbs"

    @property
    def cache(self) -> Path:
        """What was measured of this machine, and compiled for it."""
        return self.path / "cache"

    def check_space(self, reserve_bytes: int = RESERVE) -> int:
        """Free bytes on the disk of this home. Raises DiskError if fewer than `reserve_bytes` are left."""
        place = self.path
        while not place.exists() and place != place.parent:
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < reserve_bytes:
            raise DiskError(
                f"only {free / 1e9:.2f} GB are free at {self.path}, {reserve_bytes / 1e9:.2f} GB must stay free; "
                "make room and run again (what is finished is kept), or choose another folder with --home"
            )
        return free


def find_home(path: str | Path | None = None, env: Mapping[str, str] | None = None) -> Home:
    """The home to use: `given`, else PROMPTLAB_HOME, else `data/` of a clone, else the user's data folder."""
    env = os.environ if env is None else env
    chosen = path or env.get("PROMPTLAB_HOME")
    if chosen:
        return Home(Path(chosen).expanduser().absolute())
    clone = _clone(Path(__file__).resolve().parents[2])
    return Home(clone / "data" if clone else _user_data(env, sys.platform) / "promptlab")


def _clone(folder: Path) -> Path | None:
    """`folder`, if it holds promptlab's own pyproject.toml."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return folder if project.get("project", {}).get("name") == "promptlab-t2i" else None


def _user_data(env: Mapping[str, str], platform: str) -> Path:
    """Where the platform keeps a user's data."""
    if platform == "win32":
        return Path(env.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    configured = env.get("XDG_DATA_HOME", "")
    # The XDG rules say that a relative path is to be ignored.
    return Path(configured) if os.path.isabs(configured) else Path.home() / ".local" / "share"


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


_KEY_NAME = re.compile(r"(?:^|_)(?:API)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PAT|CREDENTIALS?)(?:_ID)?$", re.IGNORECASE)


def secrets(env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Every secret of `env` (else of the process), the longest first."""
    env = os.environ if env is None else env
    found = {v for k, v in env.items() if _KEY_NAME.search(k) and len(v) >= 12 and not any(c.isspace() for c in v)}
    return tuple(sorted(found, key=len, reverse=True))


def redact(text: str, hidden: Iterable[str] | None = None) -> str:
    """`text` with every secret of the process (or every one in `hidden`) replaced by `[redacted]`."""
    for secret in secrets() if hidden is None else hidden:
        text = text.replace(secret, "[redacted]")
    return text
