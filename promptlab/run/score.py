"""Scores that a run still lacks: some beside the making of pictures (`promptlab.run.score`), the rest after it.

Both ask the same of the same probes; what is settled beside is not asked again afterwards.

Scores of pictures that are there, found in a thread while others are made.

    driver --Image--> OverlappedScoring --ripe keys--> thread: probe by probe --Scores--> driver --> journal

A key is ripe for a probe when what became of all its pictures, the twin's included, is known. Ripe keys go to the one
thread in small batches; the driver alone takes scores from it and keeps them, so a crash costs no more than these
batches, and the next run finds them anew. No probe's answer depends on what else is in its batch, so scores are those
of a run that scores afterwards, to the last bit.

It is done only while the cores that score would lie idle: where pictures are made on a GPU, on other machines, or by a
closed system. Probes that ask the model or look at whole families of seeds come afterwards, and so does one whose judge
would want the GPU that draws. A probe that cannot work is asked again afterwards, and then ends the run as ever.
"""

from __future__ import annotations

import socket
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cached_property, partial
from typing import Any, NamedTuple

from promptlab.analyzer import BATCH, Family, Key, Pixels, PlannedImage, Shelf, analyze, apart, evenly, judge, missing
from promptlab.analyzer.probes import Probe
from promptlab.generator.backends import ELSEWHERE
from promptlab.progress import Progress
from promptlab.records import Image, Score
from promptlab.run.log import log
from promptlab.run.plan import Plan
from promptlab.run.tracing import Models
from promptlab.store import Run, Store, pictures

__all__ = ["OverlappedScoring", "Scoring", "leisure"]

KEPT = 32
"""Pictures whose scores go to the journal together: a line each, one fsync for all."""


class Scoring:
    """The scores of one run by `probes`; `publish` is called now and then.

    Attributes:
        found: scores of this run.
        meanwhile: those of them that were found beside.
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
        self._beside: OverlappedScoring | None = None
        self.found = self.meanwhile = 0

    def beside(self, overlap: bool | None = None) -> OverlappedScoring:
        """What scores while pictures are made: as there is leisure if `overlap` is None, else always or never."""

        def load(image: Image) -> Any:
            return pictures.load(self._store.home, image.file or "")

        def keep(probe: Probe, found: Sequence[list[Score]]) -> None:
            self._run.add(*probe.measures)
            self._keep(found)
            self.meanwhile += sum(map(len, found))

        coming = {cell.image_id(seed) for cell, seed in self._plan.missing}
        probes = self._probes if overlap is not False else ()
        images, always = self._store.images(), bool(overlap)
        self._beside = OverlappedScoring(probes, self._planned, coming, images, self._done, load, keep, always)
        return self._beside

    def finish(self) -> None:
        """Score whatever is left. Raises PromptlabError where a probe cannot work at all."""
        images = self._store.images()
        seen = {key for key, image in images.items() if image.status == "ok" and image.file}

        def load(image: str) -> Any:
            return pictures.load(self._store.home, images[image].file or "")

        with closing(Models()) as models:
            for probe in self._probes:
                traced = "model" in probe.needs
                planned = self._planned
                asked = evenly(planned, getattr(probe, "pictures", len(planned))) if traced else planned
                planned_images = [one for one in asked if one.image in seen]
                settled = self._beside.settled[probe.id] if self._beside else frozenset()
                done = self._done(probe)
                todo = missing(probe, planned_images, done, settled)
                self._run.add(*probe.measures)
                if not todo:
                    continue
                self._progress.stage(f"probe {probe.name}", len(todo))
                # what is traced costs as much as making it, so it is kept one by one
                scored = partial(analyze, probe, planned_images, load, done=done, settled=settled, model=models.of)
                for scores in _batched(scored(batch=1 if traced else BATCH), 1 if traced else KEPT):
                    self._keep(scores)
                    self._progress.step(len(scores))
                    self._publish()

    def _done(self, probe: Probe) -> set[Key]:
        return {(image, prompt) for _, image, prompt in self._store.scores(probe.id)}

    def _keep(self, scores: Sequence[list[Score]]) -> None:
        # one journal line a batch of pictures would be lost whole; one a picture, with one fsync for many, is not
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
"""Keys of a batch: a run that is stopped waits for the end of one."""

Keep = Callable[[Probe, Sequence[list[Score]]], None]
"""Puts the scores of a batch, a list for each key, into the journal."""


class _Asked(NamedTuple):
    probe: Probe
    keys: list[Key]
    answer: Future[list[list[Score]]]


def leisure(probe: Probe, provenance: Mapping[str, Any]) -> bool:
    """Whether a probe can score while what calls itself `provenance` draws, and takes nothing from it."""
    here = socket.gethostname()
    device = provenance.get("device")
    if device == ELSEWHERE or provenance.get("host", here) != here:
        return True
    return device not in (None, "cpu") and not getattr(probe, "accelerated", False)


class OverlappedScoring:
    """Of one run: `begin` when a backend is ready, `add` what became of a picture, `rest` before anything else loads.

    Args:
        probes: those of the study.
        planned: all its images.
        coming: ids of the pictures that this run makes.
        images: what is known of all others.
        done: what a probe has scored; asked for once a probe.
        load: pixels of a record, uint8 (height, width, 3).
        keep: see `Keep`.
        always: whether to score beside whatever draws.

    Attributes:
        settled: by probe id, what was judged in this run, with all its relatives.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        planned: Sequence[PlannedImage],
        coming: Collection[str],
        images: Mapping[str, Image],
        done: Callable[[Probe], Collection[Key]],
        load: Callable[[Image], Pixels],
        keep: Keep,
        always: bool = False,
    ) -> None:
        self.settled: dict[str, set[Key]] = defaultdict(set)
        self._able = [probe for probe in probes if not probe.needs & {"model", "siblings"}]
        self._planned, self._images, self._coming = planned, dict(images), set(coming)
        self._read_done, self._keep, self._always = done, keep, always
        self._done: dict[str, Collection[Key]] = {}
        self._open: list[Probe] = []
        self._ripe: dict[str, deque[Key]] = defaultdict(deque)
        self._shelf = Shelf(lambda image: load(self._images[image]))
        self._asked: deque[_Asked] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="promptlab-beside")

    @cached_property
    def _family(self) -> Family:
        return Family(self._planned)

    @cached_property
    def _involved(self) -> dict[str, list[Key]]:
        """Keys by the pictures to come that they wait for, their own or their twin's."""
        involved = defaultdict(list)
        for key in self._family.planned_images:
            for image in {key[0], *(twin[0] for twin in self._family.twin(key))} & self._coming:
                involved[image].append(key)
        return involved

    def begin(self, provenance: Mapping[str, Any]) -> None:
        """Score beside what says this of itself, as far as there is leisure. Several may draw at once."""
        for probe in self._able:
            if probe not in self._open and (self._always or leisure(probe, provenance)):
                self._done.setdefault(probe.id, self._read_done(probe))
                self._open.append(probe)

    def add(self, image: Image) -> None:
        """What became of a picture; keeps the scores that were found meanwhile."""
        waiting = self._involved.pop(image.id, []) if self._open else []
        self._images[image.id] = image
        self._coming.discard(image.id)
        self._gather()
        for probe in self._open:
            ripe = self._ripe[probe.id]
            ripe.extend(key for key in waiting if self._is_ripe(probe, key, image.id))
            if len(ripe) >= SIZE:
                batches = list(apart(list(ripe), SIZE))
                ripe.clear()
                ripe.extend(batches.pop() if len(batches[-1]) < SIZE else ())
                for keys in batches:
                    self._asked.append(_Asked(probe, keys, self._pool.submit(self._judge, probe, keys)))

    def _is_ripe(self, probe: Probe, key: Key, latest: str) -> bool:
        """Whether `latest` was the last picture that a key waited for, and there is something to judge anew."""
        involved = [key, *(self._family.twin(key) if "twin" in probe.needs else ())]
        if any(one[0] in self._coming for one in involved) or latest not in (one[0] for one in involved):
            return False
        there, done = [one for one in involved if self._is_there(one[0])], self._done[probe.id]
        return key in there and not all(one in done or (one[0], None) in done for one in there)

    def _is_there(self, image: str) -> bool:
        known = self._images.get(image)
        return known is not None and known.status == "ok" and bool(known.file)

    def _judge(self, probe: Probe, keys: list[Key]) -> list[list[Score]]:
        wanted = dict.fromkeys(one for key in keys for one in (key, *self._family.twin(key)) if self._is_there(one[0]))
        return list(judge(probe, Family(self._family.planned_images[key] for key in wanted), keys, self._shelf))

    def _gather(self) -> None:
        """Keep what is found, in the order in which it was asked for."""
        while self._asked and self._asked[0].answer.done():
            probe, keys, answer = self._asked.popleft()
            if answer.cancelled():
                continue
            if error := answer.exception():  # asked again afterwards, where it ends the run
                log.warning("scoring beside: %s stops: %s: %s", probe.name, type(error).__name__, error)
                self._able = [one for one in self._able if one is not probe]
                self._open = [one for one in self._open if one is not probe]
                continue
            self._keep(probe, answer.result())
            self.settled[probe.id].update(keys)

    def rest(self) -> None:
        """Finish the batch at work and take back the others: they come afterwards, or with the next picture."""
        for probe, keys, answer in reversed(self._asked):
            if answer.cancel():
                self._ripe[probe.id].extendleft(reversed(keys))
        for asked in self._asked:
            if not asked.answer.cancelled():
                asked.answer.exception()
        self._gather()
        self._open = []

    def close(self) -> None:
        """`rest`, for good."""
        try:
            self.rest()
        finally:
            self._pool.shutdown(cancel_futures=True)
