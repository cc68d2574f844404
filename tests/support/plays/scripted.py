"""A backend that draws noise and does what its model's name says, in whatever process it is loaded.

    plain                nothing else
    slow=0.2             seconds a picture
    kill=3@FOLDER        its process dies at seed 3, once; `always` for FOLDER: each time
    fail=3               PromptlabError at seed 3
    die                  its process dies while it loads

Whoever loads it leaves its process id as the name of a file in the folder that SCRIPTED_PIDS names.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.errors import PromptlabError
from promptlab.generator.backends import Job, Made
from promptlab.generator.workers import WorkerSpec
from promptlab.records import Cell, Prompt, Settings

kind = "backend"
NAME = "scripted"
MODULE = "plays.scripted"
"""What PROMPTLAB_PLUGINS has to name."""


def jobs(count: int, model: str = "plain") -> list[Job]:
    """So many seeds of one cell."""
    cell = Cell("s", (), Prompt("a red cup"), Settings(), "g", backend=NAME, model=model)
    return [Job.of(cell, seed) for seed in range(count)]


def worker_spec(home: Path, model: str, batch_size: int = 4) -> WorkerSpec:
    """A worker's specification. Creates the home."""
    home.mkdir(exist_ok=True)
    return WorkerSpec(NAME, {"model": model, "batch_size": batch_size}, home, home, 1)


def load(model: str = "plain", batch_size: int = 4) -> Scripted:
    if folder := os.environ.get("SCRIPTED_PIDS"):
        (Path(folder) / str(os.getpid())).touch()
    if model == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return Scripted(model, batch_size)


def split_jobs(backend: Scripted, jobs: Sequence[Job]) -> list[list[Job]]:
    return [list(jobs[at : at + backend.batch_size]) for at in range(0, len(jobs), backend.batch_size)]


def _first(mark: Path) -> bool:
    """Whether no process has been here before: of several at once, one alone is the first."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Scripted:
    name = "scripted"

    def __init__(self, model: str, batch_size: int) -> None:
        self.what, _, self.value = model.partition("=")
        self.batch_size = batch_size

    def provenance(self) -> dict[str, Any]:
        return {"weights": "random" if self.what == "differ" else "none", "threads": os.environ.get("OMP_NUM_THREADS")}

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        for job in jobs:
            self._act(job.seed)
            pixels = np.random.default_rng(job.seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
            yield Made(job.image_id, pixels, batch_size=len(jobs))

    def _act(self, seed: int) -> None:
        if self.what == "slow":
            time.sleep(float(self.value))
        if self.what == "fail" and seed == int(self.value):
            raise PromptlabError(f"no more at seed {seed}")
        if self.what == "kill" and seed == int(self.value.partition("@")[0]):
            folder = self.value.partition("@")[2]
            if folder == "always" or _first(Path(folder) / "died"):
                os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None: ...
