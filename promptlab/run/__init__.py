"""One run of a study: plan, generate what is missing, score what is unscored, compare, publish.

    Study --plan--> missing pictures --generator(backend)--> Images --analyzer(probes)--> Scores --effects--> answers

Where drawing leaves the processor idle, pictures are scored as they come (`promptlab.run.score`).

The store is the only memory, so running again fills in what is missing: after a crash, after an edit of the study,
after a new probe. The one room that knows all the others; it knows no model and no probe by name.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from itertools import groupby
from typing import Any

from promptlab import plugins
from promptlab.analyzer.probes import Probe
from promptlab.errors import IncompleteError, PromptlabError
from promptlab.generator import generate
from promptlab.generator.backends import Backend, Job
from promptlab.generator.backends.hosted import Budget
from promptlab.generator.workers import Workforce, workforce
from promptlab.progress import Progress, Silent
from promptlab.records import ContrastEffect, Image, Measure, Passport, Status
from promptlab.results.contrasts import contrast_effects
from promptlab.run.log import log, logging_to
from promptlab.run.plan import Plan, check_paid, plan_study, tier_of
from promptlab.run.score import OverlappedScoring, Scoring
from promptlab.store import Run, Store, pictures
from promptlab.study import Study
from promptlab.study.grid import MAX_CELLS

__all__ = ["Progress", "Silent", "Summary", "run_study"]

PUBLISH_SECONDS = 15.0
"""While a run goes on, the database is renewed this often, so that a dashboard can follow."""

_VERSIONS = ("torch", "diffusers", "transformers", "open_clip_torch", "duckdb", "numpy", "pillow")


Begin = Callable[[Mapping[str, Any]], None]
"""Told what draws says of itself, once it is ready."""


@dataclass
class Summary:
    """What a run did: pictures made by status, scores, effects and what they measure, seconds by stage.

    Of the scores, so many were found `meanwhile`, while pictures were made; they cost the stage of scoring nothing.
    `stopped` says why pictures were left unmade, as where a budget had no room for them.
    """

    plan: Plan
    made: Counter[Status] = field(default_factory=Counter)
    scores: int = 0
    meanwhile: int = 0
    effects: tuple[ContrastEffect, ...] = ()
    measures: dict[str, Measure] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def failed(self) -> int:
        """Pictures of this run that are not ok."""
        return sum(self.made.values()) - self.made["ok"]


def run_study(
    study: Study,
    store: Store,
    progress: Progress | None = None,
    *,
    batch_size: int | None = None,
    max_cells: int = MAX_CELLS,
    wait: float = 0.0,
    retry: bool = False,
    passports_n: int = 60,
    make: bool = True,
    workers: int | None = None,
    ray: str | None = None,
    compile: str | None = None,
    overlap: bool | None = None,
    dtype: str = "auto",
) -> Summary:
    """Run `study` into `store` until nothing is missing.

    Args:
        batch_size: pictures a call of the model, to which every call is padded; the backend's own choice if None.
        wait: seconds to wait for another run of this study to end.
        retry: make again whatever did not end ok, refusals and NaN included.
        passports_n: rendered pictures a cell for probes that have no passport yet; 0 leaves them without.
        make: whether missing pictures are made; False only measures what is there.
        workers: processes that make pictures, one a GPU; with `ray`, actors. One, or None, is this process itself.
        compile: auto, on or off: whether a backend that can compiles its model; its own default if None.
        dtype: precision in which a backend that can choose computes: auto, float32, bfloat16 or float16.
        overlap: whether pictures are scored while others are made; if None, where that takes nothing from the making.
        ray: address of a Ray cluster whose machines share the store's home; without `workers`, one actor a GPU.

    Raises:
        StudyError, LockedError, DiskError, ModelError: before anything is lost; what is finished stays.
    """
    progress = progress or Silent()
    store.home.check_space()
    probes: list[Probe] = [plugins.load("probe", use.name, **use.options) for use in study.probes]
    facts = {name: metadata.version(name) for name in _VERSIONS}
    with (
        store.open_run(study.name, text=study.source, facts=facts, wait=wait) as run,
        logging_to(run.path.with_suffix(".log")),
    ):
        ids = [probe.id for probe in probes]  # a probe whose model is missing says so before anything is made
        log.info("run %s of %s, probes %s", run.id, study.name, ", ".join(ids) or "none")
        run.fact({"probe": {probe.name: probe.id for probe in probes}})
        plan = plan_study(study, store, max_cells, retry=retry, make=make)
        check_paid(plan.cost)
        summary = Summary(plan, measures={m.name: m for probe in probes for m in probe.measures})
        run.plan(plan.cells, study.seeds, tier_of)
        publish = _Publisher(store)
        given = {
            name: value for name, value in (("batch_size", batch_size), ("compile", compile), ("dtype", dtype)) if value
        }
        scoring = Scoring(plan, store, run, progress, publish, probes)
        beside = scoring.beside(overlap) if make else None
        generating = partial(_generate, plan, store, run, progress, publish, summary, given, workers, ray, beside)
        for stage, work in (
            *((("generate", generating),) if make else ()),
            ("score", scoring.finish),
            ("passports", partial(_passports, store, run, progress, probes, passports_n)),
        ):
            began = time.monotonic()
            work()
            summary.seconds[stage] = time.monotonic() - began
            log.info("%s: %.1f s", stage, summary.seconds[stage])
        publish(now=True)
        summary.scores, summary.meanwhile = scoring.found, scoring.meanwhile
        summary.effects = contrast_effects(store, study)
        run.add(*summary.effects)
        log.info("pictures %s, scores %d", dict(summary.made), summary.scores)
        if summary.failed or summary.stopped or (plan.missing and not make):
            run.end("incomplete")
    store.publish()
    return summary


class _Publisher:
    """Renews the database now and then."""

    def __init__(self, store: Store) -> None:
        self._publish: Callable[[], Any] = store.publish
        self._last = time.monotonic()

    def __call__(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._last > PUBLISH_SECONDS:
            self._publish()
            self._last = time.monotonic()


def _generate(
    plan: Plan,
    store: Store,
    run: Run,
    progress: Progress,
    publish: _Publisher,
    summary: Summary,
    given: dict[str, Any],
    workers: int | None,
    ray: str | None,
    beside: OverlappedScoring | None,
) -> None:
    if not plan.missing or beside is None:
        return

    def source(job: tuple[Any, int]) -> tuple[str, str]:
        return job[0].backend, job[0].model

    dtype_is_free = given.get("dtype") == "auto"
    # one purse for all models of the study
    purse = Budget(plan.cost.budget) if plan.cost else None
    paid: dict[str, Any] = {"purse": purse, "price": plan.study.price_per_image} if purse else {}
    progress.stage("pictures", len(plan.missing))
    with closing(beside), workforce(workers, ray) as crew:
        for (name, model), asked in groupby(sorted(plan.missing, key=source), key=source):
            takes = plugins.parameters("backend", name)
            options: dict[str, Any] = {"model": model} | given | paid
            if dtype_is_free and "dtype" not in takes:
                del options["dtype"]
            jobs = [Job.of(*job) for job in asked]
            together = crew if crew and plugins.part("backend", name, "deal") else None
            if "dtype" in options and "dtype" not in takes:
                raise PromptlabError(f"the backend {name} has no choice of dtype: leave --dtype out")
            if "compile" in given and "compile" not in takes:
                raise PromptlabError(f"the backend {name} has nothing to compile: leave --compile out")
            if "pictures" in takes:  # each process makes its share
                options["pictures"] = -(-len(jobs) // (together.count if together else 1))
            if "planned" in takes:  # one size of batches for a group, however much of it is missing
                cells = [cell for cell in plan.cells if (cell.backend, cell.model) == (name, model)]
                every = [Job.of(cell, seed) for cell in cells for seed in cell.seeds(plan.study.seeds)]
                options["planned"] = plugins.part("backend", name, "planned_rows")(model, every)
            if "cache" in takes:
                options["cache"] = store.home.cache
            if crew and not together:
                progress.say(f"the backend {name} works in one process")
            make = partial(_together, together, progress) if together else _alone
            try:
                with closing(make(name, options, jobs, store, run, beside.begin)) as images:
                    for image in images:
                        run.add(image)
                        summary.made[image.status] += 1
                        if image.status != "ok":
                            log.warning("picture %s: %s, %s", image.id, image.status, image.reason)
                        progress.step()
                        beside.add(image)
                        publish()
                beside.rest()  # the next model may change what scores depend on while it loads
            except IncompleteError as error:  # what was made is measured; the rest stays missing
                summary.stopped = str(error)
                log.warning("%s", error)
                break
    if purse:
        progress.say(f"about ${purse.spent:.2f} spent of ${purse.cap or 0:.2f}")


def _alone(
    name: str, options: dict[str, Any], jobs: list[Job], store: Store, run: Run, begin: Begin
) -> Generator[Image, None, None]:
    """Make `jobs` in this process."""
    backend: Backend = plugins.load("backend", name, **options)
    try:
        provenance = backend.provenance()
        run.fact({name: provenance})
        begin(provenance)
        yield from generate(backend, jobs, partial(_save, store), pictures.is_degenerate)
    finally:
        backend.close()


def _together(
    crew: Workforce,
    progress: Progress,
    name: str,
    options: dict[str, Any],
    jobs: list[Job],
    store: Store,
    run: Run,
    begin: Begin,
) -> Generator[Image, None, None]:
    """Make `jobs` with workers. What a worker says of itself otherwise than the first one is a fact of the run too."""
    told: dict[str, Any] = {}
    run.fact({"workers": crew.facts()})

    def ready(index: int, provenance: dict[str, Any]) -> None:
        other = {key: value for key, value in provenance.items() if told.get(key) != value}
        run.fact({f"{name}.worker{index}": other} if told else {name: provenance})
        told.update({} if told else provenance)
        begin(provenance)

    def lost(message: str) -> None:
        log.warning(message)
        progress.say(f"{message}; its batch goes to another")

    yield from crew.make(jobs, name, options, store.home, run.path, ready, lost)


def _save(store: Store, pixels: Any, recipe: dict[str, Any]) -> tuple[str, str]:
    store.home.check_space()
    return pictures.save(pixels, store.home, recipe)


def _passports(store: Store, run: Run, progress: Progress, probes: list[Probe], n: int) -> None:
    from promptlab.analyzer.passports import passports

    known = {probe for probe, _ in store.passports()}
    for probe in probes:
        if probe.id in known or not n:
            continue
        rows: tuple[Passport, ...] = passports(probe, n, progress=progress)
        if rows:
            progress.say(f"passport of {probe.name}: measured on {sum(row.n for row in rows)} rendered pictures")
            run.add(*rows)
