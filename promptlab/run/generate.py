"""Making the images that a run lacks, one model after another.

    plan.missing --by model--> jobs --backend, in this process or in workers--> Images --> journal, overlapped scoring

An image in the journal is never made again. When a budget runs out, finished images stay and the rest stay missing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from promptlab import plugins
from promptlab.errors import IncompleteError, PromptlabError
from promptlab.generator import generate
from promptlab.generator.backends import Backend, Job
from promptlab.generator.backends.hosted import Budget
from promptlab.generator.workers import Workforce, workforce
from promptlab.progress import Progress
from promptlab.records import Image, Status
from promptlab.run.options import RunOptions
from promptlab.run.plan import Plan, PlannedJob
from promptlab.run.score import OverlappedScoring
from promptlab.store import Run, Store, pictures

__all__ = ["Generation", "ModelJobs"]

log = logging.getLogger("promptlab")

Begin = Callable[[Mapping[str, Any]], None]
"""Called with the backend's provenance when it is ready; with workers, once for each."""


@dataclass(frozen=True)
class ModelJobs:
    """The jobs of one model, the backend that makes them, and the options of its `load`."""

    backend: str
    options: dict[str, Any]
    jobs: list[Job]


class Generation:
    """Makes the missing images of one run, and calls `publish` after each.

    Attributes:
        made: images of this run, by status.
        stopped: why images were not made, such as a budget without room for them; else None.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        run: Run,
        progress: Progress,
        publish: Callable[[], None],
        options: RunOptions,
    ) -> None:
        self._plan, self._store, self._run = plan, store, run
        self._progress, self._publish, self._options = progress, publish, options
        self.made: Counter[Status] = Counter()
        self.stopped: str | None = None

    def finish(self, overlapped: OverlappedScoring) -> None:
        """Make what is missing, and pass each image to `overlapped`. Raises PromptlabError."""
        if not self._plan.missing:
            return
        cost = self._plan.cost
        budget = Budget(cost.budget) if cost else None  # one for all models of the study
        self._progress.stage("pictures", len(self._plan.missing))
        with closing(overlapped), workforce(self._options.workers, self._options.ray) as crew:
            for (backend, model), planned in groupby(sorted(self._plan.missing, key=_model), key=_model):
                jobs = [Job.of(*job) for job in planned]
                try:
                    self._make(backend, model, jobs, crew, overlapped, budget)
                    overlapped.pause()  # the next model may change what scores depend on while it loads
                except IncompleteError as error:  # what was made is scored; the rest stays missing
                    self.stopped = str(error)
                    log.warning("%s", error)
                    break
        if budget:
            self._progress.say(f"about ${budget.spent:.2f} spent of ${budget.cap or 0:.2f}")

    def _make(
        self,
        backend: str,
        model: str,
        jobs: list[Job],
        crew: Workforce | None,
        overlapped: OverlappedScoring,
        budget: Budget | None,
    ) -> None:
        """Make all jobs of one model."""
        if crew and not hasattr(plugins.module("backend", backend), "split_jobs"):
            self._progress.say(f"the backend {backend} works in one process")
            crew = None
        work = ModelJobs(backend, self._backend_options(backend, model, len(jobs), crew, budget), jobs)
        make = partial(self._with_workers, crew) if crew else self._in_process
        with closing(make(work, overlapped.begin)) as images:
            for image in images:
                self._run.add(image)
                self.made[image.status] += 1
                if image.status != "ok":
                    log.warning("image %s: %s, %s", image.id, image.status, image.reason)
                self._progress.step()
                overlapped.add(image)
                self._publish()

    def _backend_options(
        self, backend: str, model: str, count: int, crew: Workforce | None, budget: Budget | None
    ) -> dict[str, Any]:
        """Options of the backend's `load`. Raises PromptlabError for a `compile` or `dtype` that it does not accept."""
        accepted = plugins.parameters("backend", backend)
        options: dict[str, Any] = {"model": model}
        if self._options.batch_size:
            options["batch_size"] = self._options.batch_size
        if self._options.compile:
            if "compile" not in accepted:
                raise PromptlabError(f"the backend {backend} has nothing to compile: leave --compile out")
            options["compile"] = self._options.compile
        if "dtype" in accepted:
            options["dtype"] = self._options.dtype
        elif self._options.dtype != "auto":
            raise PromptlabError(f"the backend {backend} has no choice of dtype: leave --dtype out")
        if "planned" in accepted:  # batches of one size for a group, however much of it is missing
            cells = [cell for cell in self._plan.cells if (cell.backend, cell.model) == (backend, model)]
            planned = [Job.of(cell, seed) for cell in cells for seed in cell.seeds(self._plan.study.seeds)]
            options["planned"] = plugins.module("backend", backend).planned_rows(model, planned)
        if "cache" in accepted:
            options["cache"] = self._store.home.cache
        if "pictures" in accepted:  # each process makes its share
            options["pictures"] = -(-count // (crew.count if crew else 1))
        if budget:
            options |= {"budget": budget, "price": self._plan.study.price_per_image}
        return options

    def _in_process(self, work: ModelJobs, begin: Begin) -> Generator[Image, None, None]:
        """Make `work` in this process."""
        backend: Backend = plugins.load("backend", work.backend, **work.options)
        try:
            provenance = backend.provenance()
            self._run.fact({work.backend: provenance})
            begin(provenance)
            yield from generate(backend, work.jobs, self._save, pictures.is_degenerate)
        finally:
            backend.close()

    def _with_workers(self, crew: Workforce, work: ModelJobs, begin: Begin) -> Generator[Image, None, None]:
        """Make `work` with workers. How a later worker differs from the first one is a fact of the run."""
        first: dict[str, Any] = {}
        self._run.fact({"workers": crew.facts()})

        def on_ready(index: int, provenance: dict[str, Any]) -> None:
            if first:
                differs = {key: value for key, value in provenance.items() if first.get(key) != value}
                self._run.fact({f"{work.backend}.worker{index}": differs})
            else:
                self._run.fact({work.backend: provenance})
                first.update(provenance)
            begin(provenance)

        def on_lost(message: str) -> None:
            log.warning(message)
            self._progress.say(f"{message}; its batch goes to another")

        yield from crew.make(work.jobs, work.backend, work.options, self._store.home, self._run.path, on_ready, on_lost)

    def _save(self, pixels: Any, recipe: dict[str, Any]) -> tuple[str, str]:
        self._store.home.check_space()
        return pictures.save(pixels, self._store.home, recipe)


def _model(job: PlannedJob) -> tuple[str, str]:
    return job[0].backend, job[0].model
