"""The loop over missing scores: which pictures a probe has not seen, with which relatives, in batches.

    planned    a cell at a seed: one picture that exists
    key        a picture and the prompt whose claims are asked about: what is judged once
    twin       the image of the prompt with two attributes exchanged: the same model, settings and seed
    siblings   the images of the same prompt, model and settings at the other seeds

A probe that needs relatives judges a picture anew when one of them is new. One that fails on a batch is asked again
picture by picture; where it still fails, every measure is None with the reason, and the run goes on. Such scores carry
`crashed` in their detail, so that a later run can tell them from what a probe found out. A probe that cannot work at
all (its model is missing) raises, so that nothing is recorded which a later run would take for done.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.probes import Model, Probe, Sample
from promptlab.errors import PromptlabError
from promptlab.records import Cell, Score, Settings

__all__ = ["Key", "PlannedImage", "analyze", "evenly", "missing"]

BATCH = 64
SHELF_BYTES = 256_000_000
"""Pixels that are kept at hand, since relatives are looked at more than once."""

Pixels = NDArray[np.uint8]


class PlannedImage(NamedTuple):
    """A cell at a seed."""

    cell: Cell
    seed: int

    @property
    def image(self) -> str:
        """The picture's id."""
        return self.cell.image_id(self.seed)


Key = tuple[str, str | None]
"""Ids of a picture and of the prompt that asks about it; None, in scores of old, for any prompt."""

_Made = tuple[str, str, str, Settings]
"""Backend, model, prompt text and settings: all that decides a picture but its seed."""


def _made(cell: Cell, text: str) -> _Made:
    return cell.backend, cell.model, text, cell.settings


class Family:
    """All shots by key, and who is related to whom; a picture that several cells ask the same about counts once."""

    def __init__(self, planned_images: Iterable[PlannedImage]) -> None:
        self.planned_images: dict[Key, PlannedImage] = {}
        self._seeds: dict[_Made, dict[int, Key]] = defaultdict(dict)
        for planned in planned_images:
            if (key := (planned.image, planned.cell.prompt.id)) not in self.planned_images:
                self.planned_images[key] = planned
                self._seeds[_made(planned.cell, planned.cell.prompt.text)].setdefault(planned.seed, key)

    def twin(self, key: Key) -> list[Key]:
        """The twin, if there is one."""
        cell, seed = self.planned_images[key]
        if cell.prompt.swapped is None:
            return []
        twins = self._seeds.get(_made(cell, cell.prompt.swapped), {})
        return [twins[seed]] if seed in twins else []

    def siblings(self, key: Key) -> list[Key]:
        """The other seeds, in order."""
        cell, own = self.planned_images[key]
        return [other for seed, other in sorted(self._seeds[_made(cell, cell.prompt.text)].items()) if seed != own]

    def needed(self, probe: Probe, key: Key) -> tuple[list[Key], list[Key]]:
        """Twin and siblings, as far as the probe asks for them."""
        return (
            self.twin(key) if "twin" in probe.needs else [],
            self.siblings(key) if "siblings" in probe.needs else [],
        )

    def missing(self, probe: Probe, done: Container[Key]) -> list[Key]:
        """What the probe has not judged with all its relatives."""

        def old(key: Key) -> bool:
            twin, siblings = self.needed(probe, key)
            return all(one in done or (one[0], None) in done for one in (key, *twin, *siblings))

        return [key for key in self.planned_images if not old(key)]


def missing(
    probe: Probe,
    planned_images: Iterable[PlannedImage],
    done: Container[Key] = frozenset(),
    settled: Container[Key] = frozenset(),
) -> list[PlannedImage]:
    """The shots that `analyze` would have the probe judge; each key once."""
    family = Family(planned_images)
    return [family.planned_images[key] for key in family.missing(probe, done) if key not in settled]


def evenly(planned_images: Sequence[PlannedImage], n: int) -> list[PlannedImage]:
    """`n` of the shots that a model here draws, spread evenly over their cells: the first seed of cells, then the next.

    Which ones depends on the plan alone, so a run that goes on takes the same.
    """
    cells: dict[str, list[PlannedImage]] = defaultdict(list)
    for planned in dict((one.image, one) for one in planned_images if one.cell.backend == "diffusion").values():
        cells[planned.cell.id].append(planned)
    chosen: list[PlannedImage] = []
    for turn in range(max(map(len, cells.values()), default=0)):
        there = [own[turn] for own in cells.values() if turn < len(own)]
        left = min(n - len(chosen), len(there))
        chosen += [there[(2 * i + 1) * len(there) // (2 * left)] for i in range(left)]
    return chosen


def analyze(
    probe: Probe,
    planned_images: Iterable[PlannedImage],
    load: Callable[[str], Pixels],
    *,
    done: Container[Key] = frozenset(),
    settled: Container[Key] = frozenset(),
    batch: int = BATCH,
    model: Callable[[PlannedImage], Model | None] | None = None,
) -> Iterator[list[Score]]:
    """All scores of one picture after another, as they are ready: a list is what a store keeps whole.

    Args:
        planned_images: pictures that exist and are ok, in the order of the plan (seeds of a cell together).
        load: pixels of an image id, uint8 (height, width, 3).
        done: what the probe has scored.
        settled: what it is not asked again in any case, new relatives or not.
        model: what drew an image, for probes that need it.

    Raises:
        PromptlabError: the probe cannot work at all.
    """
    family = Family(planned_images)
    todo = [key for key in family.missing(probe, done) if key not in settled]
    shelf = Shelf(load)
    for keys in distinct_batches(todo, batch):
        yield from judge(probe, family, keys, shelf, model)


def judge(
    probe: Probe,
    family: Family,
    keys: Sequence[Key],
    shelf: Shelf,
    model: Callable[[PlannedImage], Model | None] | None = None,
) -> Iterator[list[Score]]:
    """All scores of each of `keys`, no picture of which comes twice; what came to grief first. Raises as `analyze`."""
    samples: list[Sample] = []
    for key in keys:
        try:
            samples.append(_sample(probe, family, key, shelf))
        except Exception as error:
            crashed = _crashed(probe, key[0], "its picture cannot be read", error)
            yield [replace(score, prompt=key[1]) for score in crashed]
    if model is not None and "model" in probe.needs:
        samples = [
            replace(sample, model=model(family.planned_images[sample.image_id, sample.prompt.id])) for sample in samples
        ]
    scores = _judged(probe, samples)
    for sample in samples:
        yield [replace(score, prompt=sample.prompt.id) for score in scores[sample.image_id]]


def distinct_batches(keys: Sequence[Key], size: int) -> Iterator[list[Key]]:
    """Batches in which no picture comes twice: a probe names what it judged by the picture alone."""
    batch: dict[str, Key] = {}
    for key in keys:
        if len(batch) == size or key[0] in batch:
            yield list(batch.values())
            batch = {}
        batch[key[0]] = key
    if batch:
        yield list(batch.values())


def _sample(probe: Probe, family: Family, key: Key, shelf: Shelf) -> Sample:
    def bare(one: Key) -> Sample:
        cell, seed = family.planned_images[one]
        return Sample(one[0], shelf[one[0]], cell.prompt, cell.settings, seed)

    twins, siblings = family.needed(probe, key)
    return replace(bare(key), twin=bare(twins[0]) if twins else None, siblings=tuple(bare(other) for other in siblings))


class Shelf:
    """Pixels by image id; those used longest ago go first."""

    def __init__(self, load: Callable[[str], Pixels]) -> None:
        self._load = load
        self._kept: OrderedDict[str, Pixels] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, image: str) -> Pixels:
        if image in self._kept:
            self._kept.move_to_end(image)
            return self._kept[image]
        pixels = self._kept[image] = self._load(image)
        self._bytes += pixels.nbytes
        while self._bytes > SHELF_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels


def _judged(probe: Probe, samples: Sequence[Sample]) -> dict[str, list[Score]]:
    try:
        return _scores(probe, samples)
    except PromptlabError:
        raise
    except Exception as error:
        if len(samples) == 1:
            return {samples[0].image_id: _crashed(probe, samples[0].image_id, "the probe failed", error)}
    # Outside the except block: a traceback held there would keep the failed batch's memory.
    found: dict[str, list[Score]] = {}
    for sample in samples:
        found |= _judged(probe, [sample])
    return found


def _scores(probe: Probe, samples: Sequence[Sample]) -> dict[str, list[Score]]:
    """The probe's scores by image, checked against what it promised. Raises ValueError for a broken promise."""
    found: dict[str, list[Score]] = {sample.image_id: [] for sample in samples}
    measures = {measure.name: measure for measure in probe.measures}
    for score in probe.score(samples) if samples else ():
        measure = measures.get(score.measure)
        if measure is None or score.image not in found or (score.probe, score.probe_id) != (probe.name, probe.id):
            raise ValueError(f"probe {probe.name!r} gave a score that it did not announce: {score}")
        low = -math.inf if measure.lower is None else measure.lower
        high = math.inf if measure.upper is None else measure.upper
        if score.value is not None and not (math.isfinite(score.value) and low <= score.value <= high):
            raise ValueError(f"{score.measure} is {score.value}, outside {low} to {high}")
        found[score.image].append(score)
    silent = next((image for image, scores in found.items() if not scores), None)
    if silent is not None:
        raise ValueError(f"probe {probe.name!r} said nothing about the picture {silent}")
    return found


def _crashed(probe: Probe, image: str, what: str, error: Exception) -> list[Score]:
    text = str(error).strip().splitlines()
    reason = f"{what}: {type(error).__name__}{f': {text[0][:300]}' if text else ''}"
    detail: dict[str, Any] = {"crashed": type(error).__name__}
    return [
        Score(image, probe.name, probe.id, measure.name, reason=reason, detail=detail) for measure in probe.measures
    ]
