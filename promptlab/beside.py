"""Scores of pictures that are there, found in a thread while others are made.

    driver --Image--> Beside --ripe keys--> thread: probe by probe --Scores--> driver --> journal

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
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

from promptlab.analyzer import Family, Key, Pixels, Shelf, Shot, apart, judge
from promptlab.backends import ELSEWHERE
from promptlab.probes import Probe
from promptlab.records import Image, Score
from promptlab.runlog import log

__all__ = ["Beside", "leisure"]

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


class Beside:
    """Of one run: `begin` when a backend is ready, `add` what became of a picture, `rest` before anything else loads.

    Args:
        probes: those of the study.
        planned: all its shots.
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
        planned: Sequence[Shot],
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
        for key in self._family.shots:
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
        return list(judge(probe, Family(self._family.shots[key] for key in wanted), keys, self._shelf))

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
