"""Backends: what turns cells and seeds into images.

A backend is a module of this folder, or a plugin from outside (see README.md), with `load(model=..., **options) ->
Backend`. Its file name is its name in YAML (`promptlab.plugins`). It takes jobs and yields one `Made` for each, in any
order, as it goes. An image that fails is a `Made` with a status and a reason, never an exception. If nothing can be
made at all, the backend raises PromptlabError before the first image.

A run passes `load` those of these options that it accepts:

    batch_size   images a call of the model
    dtype        auto if nobody chose one
    compile      auto, on or off
    pictures     the number of images that this process makes
    cache        a folder for what is measured or compiled once a machine
    planned      what the module's `planned_rows(model, jobs)` returns for all jobs that the study plans

A module may also have `split_jobs(backend, jobs) -> list[list[Job]]`. It returns the batches that
`backend.generate(jobs)` would make. Each can go to a `generate` of its own, in any process, and gives the same pixels.
Only such backends can run with several workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from promptlab.records import Binding, Cell, Settings, Source, Status

__all__ = ["ELSEWHERE", "Backend", "Job", "Made"]

ELSEWHERE = "elsewhere"
"""The device in the provenance of a backend that does not make its images on this machine."""


@dataclass(frozen=True)
class Job:
    """One image to make.

    Attributes:
        recipe: what the image's id hashes.
        bindings: what the prompt claims.
        source: the file of an image that was made elsewhere.
    """

    image_id: str
    recipe: dict[str, Any]
    prompt: str
    settings: Settings
    seed: int
    bindings: tuple[Binding, ...] = ()
    source: Source | None = None

    @classmethod
    def of(cls, cell: Cell, seed: int) -> Job:
        """The job of `cell` at `seed`."""
        prompt, recipe = cell.prompt, cell.recipe(seed)
        source = cell.source(seed)
        return cls(cell.image_id(seed), recipe, prompt.text, cell.settings, seed, prompt.bindings, source)


@dataclass(frozen=True, eq=False)
class Made:
    """The result of a job.

    Attributes:
        pixels: sRGB uint8 (height, width, 3); None unless `status` is ok.
        reason: why the status is not ok; with ok, what was needed to get there.
        seconds: wall time of the batch, divided by its images.
        clipped: share of the decoder's values outside [-1, 1] before clamping, 0..1.
        batch_size: rows that went through the model at once, padding included.
    """

    image_id: str
    pixels: NDArray[np.uint8] | None = None
    status: Status = "ok"
    reason: str | None = None
    seconds: float | None = None
    clipped: float | None = None
    batch_size: int | None = None


class Backend(Protocol):
    """Makes images. The same job gives the same pixels on the same machine at the same batch size."""

    name: str

    def provenance(self) -> dict[str, Any]:
        """Whatever decides the pixels besides the job, as plain data: weights, precision, device, versions."""
        ...

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """Make every job, in any order. Raises PromptlabError before the first image if nothing can be made."""
        ...

    def close(self) -> None:
        """Free memory. The backend cannot be used afterwards."""
        ...
