"""What a run would do, counted before anything heavy loads: cells, pictures, what is made, what the encoders cut.

A setting that the model cannot follow is refused (`promptlab.suitability`). Seconds a picture come from the pictures
that the store has of the same model and size, else from `RATE`, else from arithmetic (`promptlab.estimate`), and the
plan says which. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from promptlab.backends.capabilities import defaults_of
from promptlab.backends.hub import pinned
from promptlab.cost import Cost, cost_of
from promptlab.detection import Power, check_detects, power_table
from promptlab.errors import ModelError
from promptlab.estimate import estimate
from promptlab.grid import MAX_CELLS, expand
from promptlab.power import smallest_detectable
from promptlab.readings import Reading, readings, tokenizer_of, unknown_words
from promptlab.records import STATUSES, Cell, Image, Settings
from promptlab.study import Study
from promptlab.suitability import check_suits

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["RETRIED", "Plan", "plan_facts", "plan_study", "tier_of"]

RATE = {"miniature": 0.35}
"""Seconds a picture where nothing is known yet: two CPU cores."""

_OWN = frozenset({"guidance_scale", "num_inference_steps", "height", "width"})
"""Settings that each model has defaults of its own for."""

RETRIED = frozenset({"error", "oom", "invalid_image"})
"""Statuses that a later run tries again; a refusal or a NaN would only come again."""


@dataclass(frozen=True)
class Plan:
    """A study expanded. `missing` are (cell, seed) to be made, one for each distinct picture.

    `seconds` rest on `basis`: pictures that were timed here, or an estimate; `memory` is the bytes of the largest
    model's weights, None where no model is loaded; `cost` is None where pictures cost nothing.
    """

    study: Study
    cells: tuple[Cell, ...]
    planned: int
    images: int
    made: int
    missing: tuple[tuple[Cell, int], ...]
    seconds: float | None
    megabytes: float
    readings: tuple[Reading, ...]
    groups: int
    basis: str = ""
    memory: float | None = None
    unknown: tuple[str, ...] = ()
    cost: Cost | None = None

    @property
    def detectable(self) -> float | None:
        """Smallest difference of rates that a contrast over all prompt families finds with 80 % power, or None."""
        if self.groups < 2:
            return None
        return smallest_detectable(self.groups, len(self.study.seeds))

    @property
    def power(self) -> tuple[Power, ...]:
        """What this design and larger ones find; empty without contrasts or with one prompt family."""
        return power_table(self.groups, len(self.study.seeds)) if self.groups > 1 and self.study.contrasts else ()


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
        "time_by": plan.basis,
        "memory_bytes": plan.memory,
        "cost_usd": plan.cost and plan.cost.usd,
        "budget_usd": plan.cost and plan.cost.budget,
        "unknown_words": list(plan.unknown),
        "readings": [asdict(reading) for reading in plan.readings],
        "smallest_detectable_difference": plan.detectable,
        "power": [asdict(one) for one in plan.power],
    }


def tier_of(cell: Cell) -> str:
    """T0 drawn truth, T1 the miniature under either of its text encoders, T2 everything else."""
    if cell.backend == "renderer":
        return "T0"
    return "T1" if cell.model in ("miniature", "miniature-bag") else "T2"


def plan_study(
    study: Study, store: Store | None, max_cells: int = MAX_CELLS, *, retry: bool = False, make: bool = True
) -> Plan:
    """Expand a study and hold it against the store; `retry` counts whatever did not end ok as missing.

    Where nothing is to be made (`make` False), models need not be on this disk, as long as the study leaves none of
    their own settings open.

    Raises StudyError (too many cells, impossible prompts, settings without effect) and ModelError.
    """
    known = store.images() if store else {}
    absent: set[str] = set()
    varied = {column for name, axis in study.axes.items() for column in axis.columns(name)}
    left_open = _OWN - study.settings.model_fields_set - varied

    def own(model: str) -> Settings:
        try:
            return defaults_of(model)
        except ModelError:
            if make or left_open:
                raise
            absent.add(model)
            return Settings()

    cells = tuple(expand(study, tokenizer_of, max_cells, own if study.backend == "diffusion" else None))
    if study.backend == "diffusion":
        # The commit enters the ids of pictures: when a branch of the hub moves on, its pictures are others.
        names = {m: _made_by(m, known.values()) if m in absent else pinned(m) for m in {cell.model for cell in cells}}
        absent = {names[model] for model in absent}
        if any(name != model for model, name in names.items()):
            cells = tuple(replace(cell, model=names[cell.model]) for cell in cells)
    present = tuple(cell for cell in cells if cell.model not in absent) if absent else cells
    check_suits(study, present)
    if make:
        check_detects(study, cells)
    wanted = {cell.image_id(seed): (cell, seed) for cell in cells for seed in cell.seeds(study.seeds)}
    again = frozenset(STATUSES) - {"ok"} if retry else RETRIED
    missing = {key: job for key, job in wanted.items() if key not in known or known[key].status in again}
    seconds, basis, memory = _time(present, known.values(), list(missing.values()))
    width, height = cells[0].settings.width, cells[0].settings.height
    size = sum(map(_bytes, missing.values())) / max(1, len(missing)) or (20e3 if width <= 256 else 1.3 * width * height)
    return Plan(
        study,
        cells,
        sum(len(cell.seeds(study.seeds)) for cell in cells),
        len(wanted),
        len(wanted) - len(missing),
        tuple(missing.values()),
        seconds,
        size * len(missing) / 1e6,
        readings(present),
        len({cell.group for cell in cells}),
        basis,
        memory,
        unknown_words(present),
        cost_of(study, tuple(missing.values())) if make else None,
    )


def _bytes(job: tuple[Cell, int]) -> float:
    """What a picture made elsewhere will take as PNG; 0 for one that is made here."""
    source = job[0].source(job[1])
    if source is None:
        return 0.0
    path = Path(source.path)
    size = path.stat().st_size if path.is_file() else 0
    return float(size) if path.suffix.lower() == ".png" else 8.0 * size


def _made_by(model: str, known: Collection[Image]) -> str:
    """The name with its commit under which pictures of an absent model were made, if there is one only."""
    made = {str(image.recipe.get("model")) for image in known}
    found = {name for name in made if name.startswith(f"{model}@")}
    return found.pop() if len(found) == 1 else model


def _kin(image: Image, cell: Cell) -> bool:
    recipe: dict[str, Any] = image.recipe
    same = ("width", "height", "num_inference_steps")
    return recipe.get("model") == cell.model and all(recipe.get(k) == getattr(cell.settings, k) for k in same)


def _time(
    cells: Sequence[Cell], known: Collection[Image], missing: Sequence[tuple[Cell, int]]
) -> tuple[float | None, str, float | None]:
    """Seconds for what is missing, what they rest on, and bytes of weights; a model's first cell stands for all."""
    total, bases, memory = 0.0, dict[str, None](), 0.0
    for model, some in _by_model(cells).items():
        todo = [cell for cell, _ in missing if cell.model == model]
        timed = [image.seconds for image in known if image.status == "ok" and image.seconds and _kin(image, some)]
        if timed:
            total += median(timed) * len(todo)
            bases["by pictures timed here"] = None
        elif model in RATE and some.backend != "folder":
            total += RATE[model] * sum(cell.settings.num_inference_steps for cell in todo) / 25
            bases["on two CPU cores"] = None
        elif some.backend != "diffusion":
            return None, "", None
        if some.backend == "diffusion" and model not in RATE:
            rough = estimate(model, [cell.settings for cell in todo])
            memory = max(memory, rough.memory)
            if not timed:
                total += rough.seconds
                bases[f"an estimate by arithmetic, for {rough.device}"] = None
    return total, "; ".join(bases), memory or None


def _by_model(cells: Sequence[Cell]) -> dict[str, Cell]:
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.model, cell)
    return first
