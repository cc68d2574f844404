"""The finished demo study that ships: `data/demo` of a clone, or inside the installed package.

It holds journals and pictures; the database is built where there is room to write.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from promptlab.store import Store

__all__ = ["demo_folder", "open_demo"]


def demo_folder() -> Path | None:
    """The folder that ships, or None where this copy came without one."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "data" / "demo", package / "_shipped" / "demo"):
        if (folder / "runs").is_dir():
            return folder
    return None


def open_demo(to: Path) -> Store | None:
    """Copy the demo into the folder `to` and build its database there; None where there is no demo."""
    source = demo_folder()
    if source is None:
        return None
    for part in ("runs", "images", "claims"):
        if (source / part).is_dir():
            shutil.copytree(source / part, to / part, dirs_exist_ok=True)
    store = Store(to)
    store.publish()
    return store
