"""The package in `outside/`, installed into a folder as pip would install it, without pip and without a network."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from places import SUPPORT

__all__ = ["SOURCE", "install", "write_metadata"]

SOURCE = SUPPORT / "outside"


def install(folder: Path) -> Path:
    """Put the package and its metadata into `folder`, which then only has to be on `sys.path`."""
    shutil.copytree(SOURCE / "striped", folder / "striped", ignore=shutil.ignore_patterns("__pycache__"))
    return write_metadata((SOURCE / "pyproject.toml").read_text("utf-8"), folder)


def write_metadata(pyproject: str, folder: Path) -> Path:
    """The `.dist-info` of a project with this pyproject.toml: its name, version and entry points."""
    project = tomllib.loads(pyproject)["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = (
        f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
        for name, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    return folder
