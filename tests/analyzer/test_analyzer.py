"""The analyzer: what is missing is judged once, relatives are found, and a probe that fails stops nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from judges import Oracle
from promptlab import analyzer
from promptlab.analyzer import PlannedImage, analyze, missing
from promptlab.analyzer.probes import Sample
from promptlab.errors import ModelError, StoreError
from promptlab.records import Binding, Cell, Prompt, Score, Settings

CELL = Cell(
    "s", (("order", 1),), Prompt("a red cup and a blue chair", swapped="a blue cup and a red chair"), Settings(), "g"
)
TWIN = replace(CELL, levels=(("order", 2),), prompt=Prompt("a blue cup and a red chair", swapped=CELL.prompt.text))
OTHER = replace(CELL, levels=(("order", 3),), settings=Settings(guidance_scale=1.0))
SHOTS = [PlannedImage(cell, seed) for cell in (CELL, TWIN, OTHER) for seed in range(3)]
KEYS = [(planned.image, planned.cell.prompt.id) for planned in SHOTS]
PIXELS = {planned.image: np.full((4, 4, 3), i, np.uint8) for i, planned in enumerate(SHOTS)}


def probe(say: Any = lambda sample: 1.0, needs: Sequence[str] = ()) -> Oracle:
    one = Oracle(say)
    one.needs = frozenset(needs)
    return one


def run(judge: Any, planned_images: Sequence[PlannedImage] = tuple(SHOTS), **options: Any) -> list[list[Score]]:
    return list(analyze(judge, planned_images, PIXELS.__getitem__, **options))


@pytest.mark.parametrize("batch", [1, 2, 4, 64])
def test_every_picture_is_judged_once_whatever_the_batch(batch: int) -> None:
    judge = probe(lambda sample: int(sample.pixels[0, 0, 0]) / 10)
    found = run(judge, batch=batch)
    assert [scores[0].image for scores in found] == [planned.image for planned in SHOTS]
    assert [scores[0].value for scores in found] == [i / 10 for i in range(9)]
    assert len(judge.seen) == 9


def test_what_is_done_is_not_done_again() -> None:
    done = set(KEYS[:5])
    judge = probe()
    assert missing(judge, SHOTS, done) == SHOTS[5:]
    assert [scores[0].image for scores in run(judge, done=done)] == [planned.image for planned in SHOTS[5:]]
    assert run(judge, done=set(KEYS)) == []
    of_old = {(image, None) for image in PIXELS}  # journals that named no prompt
    assert run(judge, done=of_old) == []


def test_a_picture_of_two_cells_is_judged_once() -> None:
    twice = replace(CELL, study="another", levels=(("x", 1),))
    assert len(run(probe(), [*SHOTS, PlannedImage(twice, 0)])) == 9


def test_a_picture_is_judged_again_for_another_prompt_that_names_its_objects_otherwise() -> None:
    renamed = replace(CELL, study="another", prompt=replace(CELL.prompt, bindings=(Binding("mug", "cup", "red"),)))
    planned_images = [*SHOTS, PlannedImage(renamed, 0)]
    assert planned_images[-1].image == SHOTS[0].image
    assert missing(probe(), planned_images, set(KEYS)) == planned_images[-1:]
    found = run(probe(), planned_images)
    assert len(found) == 10
    assert {scores[0].prompt for scores in found if scores[0].image == SHOTS[0].image} == {
        CELL.prompt.id,
        renamed.prompt.id,
    }


def test_relatives_are_found_by_prompt_settings_and_seed() -> None:
    judge = probe(needs=("twin", "siblings"))
    run(judge)
    seen = {sample.image_id: sample for sample in judge.seen}
    sample = seen[PlannedImage(CELL, 1).image]
    assert sample.twin is not None and sample.twin.image_id == PlannedImage(TWIN, 1).image
    assert np.array_equal(sample.twin.pixels, PIXELS[PlannedImage(TWIN, 1).image]) and sample.twin.prompt == TWIN.prompt
    assert [one.image_id for one in sample.siblings] == [PlannedImage(CELL, 0).image, PlannedImage(CELL, 2).image]
    assert [one.seed for one in sample.siblings] == [0, 2]
    assert seen[PlannedImage(TWIN, 1).image].twin is not None
    # OTHER has the same words, but no twin at its guidance; its siblings are its own.
    assert seen[PlannedImage(OTHER, 0).image].twin is None
    assert [one.image_id for one in seen[PlannedImage(OTHER, 0).image].siblings] == [
        PlannedImage(OTHER, 1).image,
        PlannedImage(OTHER, 2).image,
    ]


def test_nobody_is_given_relatives_that_it_does_not_need() -> None:
    judge = probe()
    run(judge)
    assert all(sample.twin is None and sample.siblings == () for sample in judge.seen)


@pytest.mark.parametrize(
    ("needs", "new", "again"),
    [
        ((), PlannedImage(CELL, 2), [PlannedImage(CELL, 2)]),
        (("siblings",), PlannedImage(CELL, 2), [PlannedImage(CELL, 0), PlannedImage(CELL, 1), PlannedImage(CELL, 2)]),
        (("twin",), PlannedImage(TWIN, 2), [PlannedImage(CELL, 2), PlannedImage(TWIN, 2)]),
        (("twin",), PlannedImage(OTHER, 2), [PlannedImage(OTHER, 2)]),
    ],
)
def test_a_new_relative_is_a_reason_to_judge_again(
    needs: tuple[str, ...], new: PlannedImage, again: list[PlannedImage]
) -> None:
    assert missing(probe(needs=needs), SHOTS, set(KEYS) - {(new.image, new.cell.prompt.id)}) == again


def test_a_failure_costs_one_picture() -> None:
    def say(sample: Sample) -> float:
        if sample.image_id == SHOTS[4].image:
            raise RuntimeError("out of ideas\nand more")
        return 0.5

    found = run(probe(say), batch=4)
    bad = [score for scores in found for score in scores if score.value is None]
    assert len(found) == 9 and [score.image for score in bad] == [SHOTS[4].image]
    assert bad[0].reason == "the probe failed: RuntimeError: out of ideas" and bad[0].detail == {
        "crashed": "RuntimeError"
    }


def test_a_picture_that_cannot_be_read_costs_itself() -> None:
    def load(image: str) -> np.ndarray:
        if image == SHOTS[0].image:
            raise StoreError("the file is damaged")
        return PIXELS[image]

    found = list(analyze(probe(), SHOTS, load))
    assert len(found) == 9
    assert found[0][0].reason == "its picture cannot be read: StoreError: the file is damaged"
    # A sibling that cannot be read costs those that need it, and no others.
    found = list(analyze(probe(needs=("siblings",)), SHOTS, load))
    assert sum(scores[0].value is None for scores in found) == 3


def test_a_probe_that_cannot_work_at_all_records_nothing() -> None:
    def say(sample: Sample) -> float:
        raise ModelError("no model here")

    with pytest.raises(ModelError, match="no model here"):
        run(probe(say))


def test_a_stop_from_outside_is_obeyed() -> None:
    def say(sample: Sample) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(probe(say))


class Liar(Oracle):
    """Yields what it should not."""

    def __init__(self, **wrong: Any) -> None:
        super().__init__(lambda sample: 0.5)
        self.wrong = wrong

    def score(self, samples: Any) -> Iterator[Score]:
        return (replace(score, **self.wrong) for score in super().score(samples))


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 1.5},
        {"value": -0.1},
        {"value": float("inf")},
        {"measure": "x"},
        {"probe": "x"},
        {"probe_id": "x"},
        {"image": "x"},
    ],
)
def test_broken_promises_become_none_with_a_reason(wrong: dict[str, Any]) -> None:
    (scores,) = run(Liar(**wrong), SHOTS[:1])
    assert [score.value for score in scores] == [None] and "ValueError" in str(scores[0].reason)
    assert (scores[0].probe, scores[0].probe_id) == ("oracle", "oracle-1") and scores[0].image == SHOTS[0].image


def test_nan_becomes_none_with_a_reason() -> None:
    (scores,) = run(probe(lambda sample: float("nan")), SHOTS[:1])
    assert scores[0].value is None and "NaN" in str(scores[0].reason)


def test_silence_becomes_none_with_a_reason() -> None:
    judge = probe()
    judge.score = lambda samples: iter(())  # type: ignore[method-assign]
    (scores,) = run(judge, SHOTS[:1])
    assert scores[0].value is None and "said nothing" in str(scores[0].reason)


def test_nothing_to_do() -> None:
    assert run(probe(), []) == []


def test_pixels_are_loaded_once_and_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []

    def load(image: str) -> np.ndarray:
        loads.append(image)
        return PIXELS[image]

    list(analyze(probe(needs=("siblings",)), SHOTS, load, batch=1))
    assert sorted(loads) == sorted(PIXELS)
    monkeypatch.setattr(analyzer, "SHELF_BYTES", 2 * 48)
    loads.clear()
    found = list(analyze(probe(needs=("siblings",)), SHOTS, load, batch=1))
    assert len(found) == 9 and len(loads) > 9
