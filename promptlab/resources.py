"""Folders that ship with promptlab: beside the package in a clone, inside it when installed.

data/miniature    pipeline/ (what diffusers loads), scorer/ (the CLIP that was taught binding),
                  clip/ (the vision tower of the ordinary CLIP), parser/ (the judge of scenes)
data/demo         journals and images of finished studies, with their claims
studies           example studies, claims and published results
dashboards        the Streamlit app
"""

from __future__ import annotations

from pathlib import Path

from promptlab.errors import ModelError, PromptlabError

__all__ = ["claims_folder", "dashboard_script", "demo_folder", "shipped", "shipped_folder"]

_PACKAGE = Path(__file__).resolve().parent


def shipped(place: str, holds: str = ".") -> Path | None:
    """The folder at `place` ("data/demo") that contains `holds`, or None where this copy came without it."""
    for folder in (_PACKAGE.parent / place, _PACKAGE / "_shipped" / place.removeprefix("data/")):
        if (folder / holds).exists():
            return folder
    return None


def shipped_folder() -> Path:
    """The folder of the trained miniature. Raises ModelError if this copy of promptlab came without one."""
    if folder := shipped("data/miniature", "pipeline/model_index.json"):
        return folder
    raise ModelError(
        "the miniature is not here: install promptlab-t2i or clone the repository again, "
        "or train one with `promptlab miniature train` and give its pipeline folder as model"
    )


def demo_folder() -> Path | None:
    """The folder of the demo, or None where this copy came without one."""
    return shipped("data/demo", "runs")


def claims_folder() -> Path:
    """The studies of the claims. Raises PromptlabError if this copy of promptlab came without them."""
    if folder := shipped("studies/claims"):
        return folder
    raise PromptlabError("the claims are not here: install promptlab-t2i or clone the repository again")


def dashboard_script() -> Path:
    """`dashboards/app.py`. Raises PromptlabError if this copy of promptlab came without the dashboard."""
    if folder := shipped("dashboards", "app.py"):
        return folder / "app.py"
    raise PromptlabError("the dashboard is not here: install promptlab-t2i or clone the repository again")
