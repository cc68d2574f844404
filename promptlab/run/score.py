"""Scoring what a run lacks: partly while later images are still being made, the rest afterwards.

    driver --Image--> OverlappedScoring --ready keys--> thread: probe by probe --Scores--> driver --> journal
    driver --> Scoring.finish: probe by probe, what is left

Both paths use the same probes in the same way, so their scores are equal to the last bit. What was scored while images
were made is not scored again afterwards.

A key is ready for a probe once the status of all its images, the twin's included, is known. Ready keys go to the one
thread in small batches. Only the driver collects scores and writes them, so a crash costs at most these batches, and
the next run finds them again. No probe's answer depends on what else is in its batch.

Scoring overlaps only if it uses cores that would be idle: images are made on a GPU, on other machines, or by a closed
system. Three kinds of probes always come afterwards: those that query the model, those that look at all seeds of a
prompt, and those whose judge would use the GPU that makes images. A probe that fails while overlapping is tried again
afterwards, and ends the run if it fails then.
"""

from __future__ import annotations

import logging
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cached_property, partial
from typing import Any, NamedTuple

from promptlab.analyzer import (
    BATCH,
    Key,
    Pixels,
    PlannedImage,
    Relatives,
    Shelf,
    analyze,
    distinct_batches,
    evenly,
    judge,
    missing,
)
from promptlab.analyzer.probes import Probe
from promptlab.generator.backends import ELSEWHERE
from promptlab.progress import Progress
from promptlab.records import Image, Score
from promptlab.run.plan import Plan
from promptlab.run.tracing import Models
from promptlab.store import Run, Store, pictures

__all__ = ["OverlappedScoring", "Scoring", "can_overlap"]

log = logging.getLogger("promptlab")

KEPT = 32
"""Images whose scores go to the journal together: one line each, one fsync for all."""


class Scoring:
    """Scores the images of one run with `probes`, and calls `publish` as it goes.

    Attributes:
        found: number of scores of this run.
        found_overlapped: how many of them were found while images were made.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        run: Run,
        progress: Progress,
        publish: Callable[[], None],
        probes: Sequence[Probe],
    ) -> None:
        self._plan, self._store, self._run = plan, store, run
        self._progress, self._publish, self._probes = progress, publish, probes
        self._planned = [PlannedImage(cell, seed) for cell in plan.cells for seed in cell.seeds(plan.study.seeds)]
        self._overlapped: OverlappedScoring | None = None
        self.found = self.found_overlapped = 0

    def overlap(self, wanted: bool | None = None) -> OverlappedScoring:
        """Create what scores while images are made: always, never, or, for None, where `can_overlap` allows it."""

        def load(image: Image) -> Any:
            return pictures.load(self._store.home, image.file or "")

        def keep(probe: Probe, found: Sequence[list[Score]]) -> None:
            self._run.add(*probe.measures)
            self._keep(found)
            self.found_overlapped += sum(map(len, found))

        to_make = {cell.image_id(seed) for cell, seed in self._plan.missing}
        probes = self._probes if wanted is not False else ()
        images, always = self._store.images(), bool(wanted)
        self._overlapped = OverlappedScoring(probes, self._planned, to_make, images, self._done, load, keep, always)
        return self._overlapped

    def finish(self) -> None:
        """Score what is left. Raises PromptlabError if a probe cannot work at all."""
        images = self._store.images()
        readable = {key for key, image in images.items() if image.status == "ok" and image.file}

        def load(image: str) -> Any:
            return pictures.load(self._store.home, images[image].file or "")

        with closing(Models()) as models:
            for probe in self._probes:
                traced = "model" in probe.needs
                planned = self._planned
                chosen = evenly(planned, getattr(probe, "pictures", len(planned))) if traced else planned
                planned_images = [one for one in chosen if one.image in readable]
                settled = self._overlapped.settled[probe.id] if self._overlapped else frozenset()
                done = self._done(probe)
                todo = missing(probe, planned_images, done, settled)
                self._run.add(*probe.measures)
                if not todo:
                    continue
                self._progress.stage(f"probe {probe.name}", len(todo))
                # tracing an image costs as much as making it, so scores are kept one by one
                scored = partial(analyze, probe, planned_images, load, done=done, settled=settled, model=models.of)
                for scores in _batched(scored(batch=1 if traced else BATCH), 1 if traced else KEPT):
                    self._keep(scores)
                    self._progress.step(len(scores))
                    self._publish()

    def _done(self, probe: Probe) -> set[Key]:
        return {(image, prompt) for _, image, prompt in self._store.scores(probe.id)}

    def _keep(self, scores: Sequence[list[Score]]) -> None:
        # one line a batch of images could be lost whole; one an image, with one fsync for many, is not
        self._run.add(*(score for one in scores for score in one))
        self.found += sum(map(len, scores))


def _batched(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


SIZE = 16
"""Keys of a batch. A run that is stopped waits for the end of one batch."""

Keep = Callable[[Probe, Sequence[list[Score]]], None]
"""Writes the scores of a batch, a list for each key, into the journal."""


class _Batch(NamedTuple):
    """Keys that the thread scores or will score."""

    probe: Probe
    keys: list[Key]
    scores: Future[list[list[Score]]]


def can_overlap(probe: Probe, provenance: Mapping[str, Any]) -> bool:
    """Whether a probe can score while the backend of this `provenance` makes images, without slowing it down."""
    here = socket.gethostname()
    device = provenance.get("device")
    if device == ELSEWHERE or provenance.get("host", here) != here:
        return True
    return device not in (None, "cpu") and not getattr(probe, "accelerated", False)


class OverlappedScoring:
    """Scores images while later ones are still being made.

    Call `begin` when a backend is ready, `add` with each image, and `pause` before anything else loads.

    Args:
        probes: of the study.
        planned: all images of the study.
        to_make: ids of the images that this run makes.
        images: records of all other images, by id.
        done: returns what a probe has scored; called once for each probe.
        load: returns the pixels of a record, uint8 (height, width, 3).
        keep: see `Keep`.
        always: whether to overlap with any backend, even where `can_overlap` says no.

    Attributes:
        settled: keys scored in this run with all their relatives, by probe id.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        planned: Sequence[PlannedImage],
        to_make: Collection[str],
        images: Mapping[str, Image],
        done: Callable[[Probe], Collection[Key]],
        load: Callable[[Image], Pixels],
        keep: Keep,
        always: bool = False,
    ) -> None:
        self.settled: dict[str, set[Key]] = defaultdict(set)
        self._usable = [probe for probe in probes if not probe.needs & {"model", "siblings"}]
        self._planned, self._images, self._to_make = planned, dict(images), set(to_make)
        self._read_done, self._keep, self._always = done, keep, always
        self._done: dict[str, Collection[Key]] = {}
        self._active: list[Probe] = []
        self._ready: dict[str, deque[Key]] = defaultdict(deque)
        self._shelf = Shelf(lambda image: load(self._images[image]))
        self._pending: deque[_Batch] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="promptlab-overlap")

    @cached_property
    def _relatives(self) -> Relatives:
        return Relatives(self._planned)

    @cached_property
    def _waiting(self) -> dict[str, list[Key]]:
        """Keys, by the missing images that they wait for: the key's image or its twin's."""
        waiting = defaultdict(list)
        for key in self._relatives.planned_images:
            for image in {key[0], *(twin[0] for twin in self._relatives.twin(key))} & self._to_make:
                waiting[image].append(key)
        return waiting

    def begin(self, provenance: Mapping[str, Any]) -> None:
        """Overlap with the backend of this `provenance`, as far as probes can. Several backends may run at once."""
        for probe in self._usable:
            if probe not in self._active and (self._always or can_overlap(probe, provenance)):
                self._done.setdefault(probe.id, self._read_done(probe))
                self._active.append(probe)

    def add(self, image: Image) -> None:
        """Add an image of this run, and keep the scores that were found since the last one."""
        waiting = self._waiting.pop(image.id, []) if self._active else []
        self._images[image.id] = image
        self._to_make.discard(image.id)
        self._gather()
        for probe in self._active:
            ready = self._ready[probe.id]
            ready.extend(key for key in waiting if self._is_ready(probe, key, image.id))
            if len(ready) >= SIZE:
                batches = list(distinct_batches(list(ready), SIZE))
                ready.clear()
                ready.extend(batches.pop() if len(batches[-1]) < SIZE else ())
                for keys in batches:
                    self._pending.append(_Batch(probe, keys, self._pool.submit(self._judge, probe, keys)))

    def _is_ready(self, probe: Probe, key: Key, latest: str) -> bool:
        """Whether `latest` was the last image that a key waited for, and there is something new to score."""
        relatives = [key, *(self._relatives.twin(key) if "twin" in probe.needs else ())]
        if any(one[0] in self._to_make for one in relatives) or latest not in (one[0] for one in relatives):
            return False
        readable, done = [one for one in relatives if self._is_readable(one[0])], self._done[probe.id]
        return key in readable and not all(one in done or (one[0], None) in done for one in readable)

    def _is_readable(self, image: str) -> bool:
        known = self._images.get(image)
        return known is not None and known.status == "ok" and bool(known.file)

    def _judge(self, probe: Probe, keys: list[Key]) -> list[list[Score]]:
        relatives = (one for key in keys for one in (key, *self._relatives.twin(key)))
        wanted = dict.fromkeys(one for one in relatives if self._is_readable(one[0]))
        return list(judge(probe, Relatives(self._relatives.planned_images[key] for key in wanted), keys, self._shelf))

    def _gather(self) -> None:
        """Keep the scores of finished batches, in the order of the batches."""
        while self._pending and self._pending[0].scores.done():
            probe, keys, scores = self._pending.popleft()
            if scores.cancelled():
                continue
            if error := scores.exception():  # asked again afterwards, where it ends the run
                log.warning("overlapped scoring: %s stops: %s: %s", probe.name, type(error).__name__, error)
                self._usable = [one for one in self._usable if one is not probe]
                self._active = [one for one in self._active if one is not probe]
                continue
            self._keep(probe, scores.result())
            self.settled[probe.id].update(keys)

    def pause(self) -> None:
        """Finish the running batch and take back the others, which come afterwards or with the next image."""
        for probe, keys, scores in reversed(self._pending):
            if scores.cancel():
                self._ready[probe.id].extendleft(reversed(keys))
        for batch in self._pending:
            if not batch.scores.cancelled():
                batch.scores.exception()
        self._gather()
        self._active = []

    def close(self) -> None:
        """Pause for good."""
        try:
            self.pause()
        finally:
            self._pool.shutdown(cancel_futures=True)
