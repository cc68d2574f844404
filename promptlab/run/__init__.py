"""One run of a study: plan, make missing images, score, compare, publish.

    Study --plan--> missing jobs --generator(backend)--> Images --analyzer(probes)--> Scores --contrasts--> effects

If making images leaves the processor idle, promptlab scores them as they come (`promptlab.run.score`).

The store is the only memory. Running a study again makes only what is missing: after a crash, after an edit of the
study, after a new probe. This package joins all others; it knows no model and no probe by name.

Each run has a log next to its journal. The log says what happened when, includes warnings of libraries, and holds no
keys.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from promptlab import plugins
from promptlab.analyzer.probes import Probe, checked_id
from promptlab.errors import PromptlabError
from promptlab.progress import Progress, Silent
from promptlab.records import ContrastEffect, Measure, Passport, Status
from promptlab.run.generate import Generation
from promptlab.run.options import DEFAULTS, RunOptions
from promptlab.run.plan import Plan, check_paid, plan_study, recount, tier_of
from promptlab.run.score import Scoring
from promptlab.store import Run, Store
from promptlab.store.home import redact
from promptlab.study.study import Study

__all__ = ["Progress", "RunOptions", "Silent", "Summary", "run_study"]

PUBLISH_SECONDS = 15.0
"""A run renews the database this often, so that a dashboard can follow it."""

_VERSIONS = ("torch", "diffusers", "transformers", "open_clip_torch", "duckdb", "numpy", "pillow")

log = logging.getLogger("promptlab")


@dataclass
class Summary:
    """What a run did.

    Attributes:
        made: images of this run, by status.
        scores: number of scores of this run.
        overlapped: how many of the scores were found while images were made.
        measures: what the effects measure, by name.
        seconds: by stage.
        stopped: why images were not made, such as a budget without room for them; else None.
    """

    plan: Plan
    made: Counter[Status] = field(default_factory=Counter)
    scores: int = 0
    overlapped: int = 0
    effects: tuple[ContrastEffect, ...] = ()
    measures: dict[str, Measure] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def failed(self) -> int:
        """Images of this run that are not ok."""
        return sum(self.made.values()) - self.made["ok"]


def run_study(
    study: Study,
    store: Store,
    options: RunOptions = DEFAULTS,
    progress: Progress | None = None,
    plan: Plan | None = None,
) -> Summary:
    """Run `study` into `store` until nothing is missing.

    Args:
        plan: a plan of this study and this store, if the caller has one. The grid is then not expanded again, and
            images that another run has made since are not made twice.

    Raises:
        StudyError, LockedError, DiskError, ModelError: before anything is lost; what is finished stays.
        PromptlabError: the plan is of another study, store or kind of run.
    """
    from promptlab.results.contrasts import contrast_effects

    progress = progress or Silent()
    if plan is not None:
        _check_plan(plan, study, store, options)
    store.home.check_space()
    probes: list[Probe] = [plugins.load("probe", use.name, **use.options) for use in study.probes]
    facts = {name: metadata.version(name) for name in _VERSIONS}
    with (
        store.open_run(study.name, text=study.source, facts=facts, wait=options.wait) as run,
        logging_to(run.path.with_suffix(".log")),
    ):
        ids = [checked_id(probe) for probe in probes]  # a probe whose model is missing says so before anything is made
        log.info("run %s of %s, probes %s", run.id, study.name, ", ".join(ids) or "none")
        run.fact({"probe": {probe.name: probe.id for probe in probes}})
        run.declare(study, [(probe.name, probe.id) for probe in probes])
        if plan is None:
            plan = plan_study(study, store, options.max_cells, retry=options.retry, make=options.make)
        else:
            plan = recount(plan, store, retry=options.retry)
        check_paid(plan.cost)
        run.plan(plan.cells, study.seeds, tier_of)
        publish = _Publisher(store)
        generation = Generation(plan, store, run, progress, publish, options)
        scoring = Scoring(plan, store, run, progress, publish, probes)
        stages: dict[str, Callable[[], None]] = {
            "score": scoring.finish,
            "passports": partial(_passports, store, run, progress, probes, options.passports_n),
        }
        if options.make:
            stages = {"generate": partial(generation.finish, scoring.overlap(options.overlap)), **stages}
        seconds: dict[str, float] = {}
        for stage, work in stages.items():
            began = time.monotonic()
            work()
            seconds[stage] = time.monotonic() - began
            log.info("%s: %.1f s", stage, seconds[stage])
        publish(now=True)
        effects = contrast_effects(store, study)
        run.add(*effects)
        measures = {measure.name: measure for probe in probes for measure in probe.measures}
        made, stopped = generation.made, generation.stopped
        summary = Summary(plan, made, scoring.found, scoring.found_overlapped, effects, measures, seconds, stopped)
        log.info("images %s, scores %d", dict(made), summary.scores)
        if summary.failed or summary.stopped or (plan.missing and not options.make):
            run.end("incomplete")
    store.publish()
    return summary


def _check_plan(plan: Plan, study: Study, store: Store, options: RunOptions) -> None:
    """Raise PromptlabError for a plan of another study, store or kind of run."""
    for what, same in (
        ("study", plan.study == study),
        ("store", plan.home == store.home.path),
        ("value of `make`", plan.make == options.make),
    ):
        if not same:
            raise PromptlabError(f"the plan is of another {what}: leave it out, and run_study makes its own")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write every record of level INFO and above to `path` until the end of the block, and warnings as records."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, level = logging.getLogger(), log.level
    root.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        log.error("%s: %s", type(error).__name__, error)
        raise
    finally:
        root.removeHandler(handler)
        log.setLevel(level)
        handler.close()


class _Redacted(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line or more, without keys."""
        return redact(super().format(record))


class _Publisher:
    """Renews the database when PUBLISH_SECONDS have passed, or at once with `now`."""

    def __init__(self, store: Store) -> None:
        self._publish: Callable[[], Any] = store.publish
        self._last = time.monotonic()

    def __call__(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._last > PUBLISH_SECONDS:
            self._publish()
            self._last = time.monotonic()


def _passports(store: Store, run: Run, progress: Progress, probes: list[Probe], n: int) -> None:
    """Measure each probe that has no passport yet on `n` rendered images a cell."""
    from promptlab.analyzer.passports import passports

    known = {probe_id for probe_id, _ in store.passports()}
    for probe in probes:
        if probe.id in known or not n:
            continue
        rows: tuple[Passport, ...] = passports(probe, n, progress=progress)
        if rows:
            progress.say(f"passport of {probe.name}: measured on {sum(row.n for row in rows)} rendered pictures")
            run.add(*rows)
