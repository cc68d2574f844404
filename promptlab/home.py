"""Where runs, images and the database live.

    runs/<study>/<run>.jsonl      the journals: the only truth
    images/ab/<sha256>.png        the pictures, by content
    promptlab.duckdb              the product: built from the journals, may be deleted at any time
    thumbs/ab/<sha256>.webp       small pictures for pages, may be deleted at any time

The first of these that is given wins: the `--home` argument, the variable PROMPTLAB_HOME, `data/` of a clone, the
folder that the platform keeps for a user's data.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from promptlab.errors import DiskError, PromptlabError

__all__ = ["RESERVE", "Home", "find_home", "safe_name"]

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


def find_home(given: str | Path | None = None, env: Mapping[str, str] | None = None) -> Home:
    """The home to use: `given`, else PROMPTLAB_HOME, else `data/` of a clone, else the user's data folder."""
    env = os.environ if env is None else env
    chosen = given or env.get("PROMPTLAB_HOME")
    if chosen:
        return Home(Path(chosen).expanduser().absolute())
    clone = _clone(Path(__file__).resolve().parent.parent)
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
    given = env.get("XDG_DATA_HOME", "")
    # The XDG rules say that a relative path is to be ignored.
    return Path(given) if os.path.isabs(given) else Path.home() / ".local" / "share"
