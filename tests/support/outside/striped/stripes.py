"""The backend: red stripes of 8 pixels, brighter at higher guidance, on a ground that grows blue downwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from promptlab import Job, Made

kind = "backend"


def load(model: str = "red", batch_size: int = 4) -> Stripes:
    return Stripes(model, batch_size)


class Stripes:
    name = "stripes"

    def __init__(self, model: str, batch_size: int) -> None:
        self.model = model
        self.batch_size = batch_size

    def provenance(self) -> dict[str, Any]:
        return {"backend": self.name, "model": self.model, "device": "cpu"}

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        for job in jobs:
            light = round(255 * job.settings.guidance_scale / 10)
            pixels = np.zeros((job.settings.height, job.settings.width, 3), np.uint8)
            pixels[:, np.arange(job.settings.width) // 8 % 2 == 1, 0] = light
            pixels[..., 2] = np.arange(job.settings.height)[:, None]
            yield Made(job.image_id, pixels, seconds=0.001, batch_size=1)

    def close(self) -> None:
        pass


def deal(backend: Stripes, jobs: Sequence[Job]) -> list[list[Job]]:
    """Batches for several workers."""
    return [list(jobs[i : i + backend.batch_size]) for i in range(0, len(jobs), backend.batch_size)]
