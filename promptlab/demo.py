"""The finished demo study and the dashboard that ship: in a clone, or inside the installed package.

The demo holds journals and pictures; the database is built where there is room to write.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from promptlab.errors import PromptlabError
from promptlab.store import Store

__all__ = ["dashboard_script", "demo_folder", "open_demo"]


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


def dashboard_script() -> Path:
    """`dashboards/app.py` of a clone, or inside the installed package. Raises PromptlabError where neither is."""
    package = Path(__file__).resolve().parent
    for folder in (package.parent / "dashboards", package / "_shipped" / "dashboards"):
        if (folder / "app.py").is_file():
            return folder / "app.py"
    raise PromptlabError("the dashboard is not here: install promptlab-t2i or clone the repository again")
