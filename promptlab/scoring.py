"""Scores that a run still lacks: some beside the making of pictures (`promptlab.beside`), the rest after it.

Both ask the same of the same probes; what is settled beside is not asked again afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from promptlab import pictures
from promptlab.analyzer import BATCH, Key, Shot, analyze, evenly, missing
from promptlab.beside import Beside
from promptlab.plan import Plan
from promptlab.probes import Probe
from promptlab.progress import Progress
from promptlab.records import Image, Score
from promptlab.store import Run, Store
from promptlab.tracing import Models

__all__ = ["Scoring"]

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
        self._planned = [Shot(cell, seed) for cell in plan.cells for seed in cell.seeds(plan.study.seeds)]
        self._beside: Beside | None = None
        self.found = self.meanwhile = 0

    def beside(self, overlap: bool | None = None) -> Beside:
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
        self._beside = Beside(probes, self._planned, coming, images, self._done, load, keep, always)
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
                shots = [shot for shot in asked if shot.image in seen]
                settled = self._beside.settled[probe.id] if self._beside else frozenset()
                done = self._done(probe)
                todo = missing(probe, shots, done, settled)
                self._run.add(*probe.measures)
                if not todo:
                    continue
                self._progress.stage(f"probe {probe.name}", len(todo))
                # what is traced costs as much as making it, so it is kept one by one
                look = partial(analyze, probe, shots, load, done=done, settled=settled, model=models.of)
                for scores in _batched(look(batch=1 if traced else BATCH), 1 if traced else KEPT):
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
