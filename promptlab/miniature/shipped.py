"""Where the miniature lies that ships with promptlab: `data/miniature` of a clone, or inside the installed package.

pipeline/   what diffusers loads                           scorer/   the CLIP that was taught binding
clip/       the vision tower of the ordinary CLIP          parser/   the judge of scenes
"""

from __future__ import annotations

from pathlib import Path

from promptlab.errors import ModelError

__all__ = ["shipped_folder"]


def shipped_folder() -> Path:
    """The folder of the trained miniature. Raises ModelError if this copy of promptlab came without one."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package.parent / "data" / "miniature", package / "_shipped" / "miniature"):
        if (folder / "pipeline" / "model_index.json").is_file():
            return folder
    raise ModelError(
        "the miniature is not here: install promptlab-t2i or clone the repository again, "
        "or train one with `promptlab miniature train` and give its pipeline folder as model"
    )
