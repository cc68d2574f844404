"""What a run would do, counted before anything heavy loads: cells, pictures, what is made, what the encoder cuts.

Seconds a picture come from the pictures that the store has of the same model and size, else from `RATE`; sizes on disk
likewise. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from promptlab.grid import MAX_CELLS, expand
from promptlab.power import smallest_detectable
from promptlab.records import STATUSES, Cell, Image
from promptlab.study import Study
from promptlab.tokens import Tokens, open_tokens

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["RETRIED", "Cut", "Plan", "plan_facts", "plan_study", "tier_of", "tokenizer_of"]

RATE = {"miniature": 0.35}
"""Seconds a picture where nothing is known yet: two CPU cores."""

RETRIED = frozenset({"error", "oom", "invalid_image"})
"""Statuses that a later run tries again; a refusal or a NaN would only come again."""


@dataclass(frozen=True)
class Cut:
    """Phrases that the text encoder does not see: in how many prompts, and the longest of them."""

    prompts: int
    longest: int
    limit: int
    lost: str


@dataclass(frozen=True)
class Plan:
    """A study expanded. `missing` are (cell, seed) to be made, one for each distinct picture."""

    study: Study
    cells: tuple[Cell, ...]
    planned: int
    images: int
    made: int
    missing: tuple[tuple[Cell, int], ...]
    seconds: float | None
    megabytes: float
    cut: Cut | None
    groups: int

    @property
    def detectable(self) -> float | None:
        """Smallest difference of rates that a contrast over all prompt families finds with 80 % power, or None."""
        if self.groups < 2:
            return None
        return smallest_detectable(self.groups, len(self.study.seeds))


def plan_facts(plan: Plan) -> dict[str, Any]:
    """A plan as plain data."""
    return {
        "study": plan.study.name,
        "model": plan.study.model,
        "cells": len(plan.cells),
        "seeds": len(plan.study.seeds),
        "pictures": plan.images,
        "made": plan.made,
        "missing": len(plan.missing),
        "prompt_families": plan.groups,
        "seconds": plan.seconds,
        "megabytes": plan.megabytes,
        "cut": None if plan.cut is None else asdict(plan.cut),
        "smallest_detectable_difference": plan.detectable,
    }


def tokenizer_of(model: str) -> Path | None:
    """The tokenizer of a model on disk, for counting tokens without loading it; None where there is none."""
    from promptlab.miniature.shipped import shipped_folder

    folder = shipped_folder() / "pipeline" if model == "miniature" else Path(model)
    path = folder / "tokenizer"
    return path if path.is_dir() else None


def tier_of(cell: Cell) -> str:
    """T0 drawn truth, T1 the miniature, T2 everything else."""
    if cell.backend == "renderer":
        return "T0"
    return "T1" if cell.model == "miniature" else "T2"


def plan_study(study: Study, store: Store | None, max_cells: int = MAX_CELLS, *, retry: bool = False) -> Plan:
    """Expand a study and hold it against the store; `retry` counts whatever did not end ok as missing.

    Raises StudyError (too many cells, impossible prompts).
    """
    cells = tuple(expand(study, tokenizer_of, max_cells))
    known = store.images() if store else {}
    wanted = {cell.image_id(seed): (cell, seed) for cell in cells for seed in cell.seeds(study.seeds)}
    again = frozenset(STATUSES) - {"ok"} if retry else RETRIED
    missing = {key: job for key, job in wanted.items() if key not in known or known[key].status in again}
    kin = [image for image in known.values() if image.status == "ok" and _kin(image, cells[0])]
    rate = _rate(kin, cells[0])
    width, height = cells[0].settings.width, cells[0].settings.height
    size = sum(map(_bytes, missing.values())) / max(1, len(missing)) or (20e3 if width <= 256 else 1.3 * width * height)
    return Plan(
        study,
        cells,
        sum(len(cell.seeds(study.seeds)) for cell in cells),
        len(wanted),
        len(wanted) - len(missing),
        tuple(missing.values()),
        None if rate is None else rate * len(missing),
        size * len(missing) / 1e6,
        _cut(cells),
        len({cell.group for cell in cells}),
    )


def _bytes(job: tuple[Cell, int]) -> float:
    """What a picture made elsewhere will take as PNG; 0 for one that is made here."""
    source = job[0].source(job[1])
    if source is None:
        return 0.0
    path = Path(source.path)
    size = path.stat().st_size if path.is_file() else 0
    return float(size) if path.suffix.lower() == ".png" else 8.0 * size


def _kin(image: Image, cell: Cell) -> bool:
    recipe: dict[str, Any] = image.recipe
    same = ("width", "height", "num_inference_steps")
    return recipe.get("model") == cell.model and all(recipe.get(k) == getattr(cell.settings, k) for k in same)


def _rate(kin: Sequence[Image], cell: Cell) -> float | None:
    seconds = [image.seconds for image in kin if image.seconds is not None]
    if seconds:
        return median(seconds)
    rate = RATE.get(cell.model)
    return None if rate is None else rate * cell.settings.num_inference_steps / 25


def _cut(cells: Sequence[Cell]) -> Cut | None:
    worst, prompts = None, set()
    # what is drawn by the renderer is read by no encoder, and what was made elsewhere by one that is not known
    for model in {cell.model for cell in cells if cell.backend not in ("renderer", "folder")}:
        path = tokenizer_of(model)
        if path is None:
            continue
        tokens: Tokens = open_tokens(path)
        for prompt in {cell.prompt.text: cell.prompt for cell in cells if cell.model == model}.values():
            spans = tokens.spans(prompt)
            if spans.cut:
                prompts.add(prompt.text)
                if worst is None or spans.total > worst.total:
                    worst = spans
    return None if worst is None else Cut(len(prompts), worst.total, worst.limit, worst.cut_text)
