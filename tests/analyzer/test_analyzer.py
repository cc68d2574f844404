"""The analyzer: what is missing is judged once, relatives are found, and a probe that fails stops nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from judges import Oracle
from promptlab import analyzer
from promptlab.analyzer import Shot, analyze, missing
from promptlab.analyzer.probes import Look
from promptlab.errors import ModelError, StoreError
from promptlab.records import Binding, Cell, Prompt, Score, Settings

CELL = Cell(
    "s", (("order", 1),), Prompt("a red cup and a blue chair", swapped="a blue cup and a red chair"), Settings(), "g"
)
TWIN = replace(CELL, levels=(("order", 2),), prompt=Prompt("a blue cup and a red chair", swapped=CELL.prompt.text))
OTHER = replace(CELL, levels=(("order", 3),), settings=Settings(guidance_scale=1.0))
SHOTS = [Shot(cell, seed) for cell in (CELL, TWIN, OTHER) for seed in range(3)]
KEYS = [(shot.image, shot.cell.prompt.id) for shot in SHOTS]
PIXELS = {shot.image: np.full((4, 4, 3), i, np.uint8) for i, shot in enumerate(SHOTS)}


def probe(say: Any = lambda look: 1.0, needs: Sequence[str] = ()) -> Oracle:
    one = Oracle(say)
    one.needs = frozenset(needs)
    return one


def run(judge: Any, shots: Sequence[Shot] = tuple(SHOTS), **options: Any) -> list[list[Score]]:
    return list(analyze(judge, shots, PIXELS.__getitem__, **options))


@pytest.mark.parametrize("batch", [1, 2, 4, 64])
def test_every_picture_is_judged_once_whatever_the_batch(batch: int) -> None:
    judge = probe(lambda look: int(look.pixels[0, 0, 0]) / 10)
    found = run(judge, batch=batch)
    assert [scores[0].image for scores in found] == [shot.image for shot in SHOTS]
    assert [scores[0].value for scores in found] == [i / 10 for i in range(9)]
    assert len(judge.seen) == 9


def test_what_is_done_is_not_done_again() -> None:
    done = set(KEYS[:5])
    judge = probe()
    assert missing(judge, SHOTS, done) == SHOTS[5:]
    assert [scores[0].image for scores in run(judge, done=done)] == [shot.image for shot in SHOTS[5:]]
    assert run(judge, done=set(KEYS)) == []
    of_old = {(image, None) for image in PIXELS}  # journals that named no prompt
    assert run(judge, done=of_old) == []


def test_a_picture_of_two_cells_is_judged_once() -> None:
    twice = replace(CELL, study="another", levels=(("x", 1),))
    assert len(run(probe(), [*SHOTS, Shot(twice, 0)])) == 9


def test_a_picture_is_judged_again_for_another_prompt_that_names_its_objects_otherwise() -> None:
    renamed = replace(CELL, study="another", prompt=replace(CELL.prompt, bindings=(Binding("mug", "cup", "red"),)))
    shots = [*SHOTS, Shot(renamed, 0)]
    assert shots[-1].image == SHOTS[0].image
    assert missing(probe(), shots, set(KEYS)) == shots[-1:]
    found = run(probe(), shots)
    assert len(found) == 10
    assert {scores[0].prompt for scores in found if scores[0].image == SHOTS[0].image} == {
        CELL.prompt.id,
        renamed.prompt.id,
    }


def test_relatives_are_found_by_prompt_settings_and_seed() -> None:
    judge = probe(needs=("twin", "siblings"))
    run(judge)
    seen = {look.image_id: look for look in judge.seen}
    look = seen[Shot(CELL, 1).image]
    assert look.twin is not None and look.twin.image_id == Shot(TWIN, 1).image
    assert np.array_equal(look.twin.pixels, PIXELS[Shot(TWIN, 1).image]) and look.twin.prompt == TWIN.prompt
    assert [one.image_id for one in look.siblings] == [Shot(CELL, 0).image, Shot(CELL, 2).image]
    assert [one.seed for one in look.siblings] == [0, 2]
    assert seen[Shot(TWIN, 1).image].twin is not None
    # OTHER has the same words, but no twin at its guidance; its siblings are its own.
    assert seen[Shot(OTHER, 0).image].twin is None
    assert [one.image_id for one in seen[Shot(OTHER, 0).image].siblings] == [Shot(OTHER, 1).image, Shot(OTHER, 2).image]


def test_nobody_is_given_relatives_that_it_does_not_need() -> None:
    judge = probe()
    run(judge)
    assert all(look.twin is None and look.siblings == () for look in judge.seen)


@pytest.mark.parametrize(
    ("needs", "new", "again"),
    [
        ((), Shot(CELL, 2), [Shot(CELL, 2)]),
        (("siblings",), Shot(CELL, 2), [Shot(CELL, 0), Shot(CELL, 1), Shot(CELL, 2)]),
        (("twin",), Shot(TWIN, 2), [Shot(CELL, 2), Shot(TWIN, 2)]),
        (("twin",), Shot(OTHER, 2), [Shot(OTHER, 2)]),
    ],
)
def test_a_new_relative_is_a_reason_to_judge_again(needs: tuple[str, ...], new: Shot, again: list[Shot]) -> None:
    assert missing(probe(needs=needs), SHOTS, set(KEYS) - {(new.image, new.cell.prompt.id)}) == again


def test_a_failure_costs_one_picture() -> None:
    def say(look: Look) -> float:
        if look.image_id == SHOTS[4].image:
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
    def say(look: Look) -> float:
        raise ModelError("no model here")

    with pytest.raises(ModelError, match="no model here"):
        run(probe(say))


def test_a_stop_from_outside_is_obeyed() -> None:
    def say(look: Look) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(probe(say))


class Liar(Oracle):
    """Yields what it should not."""

    def __init__(self, **wrong: Any) -> None:
        super().__init__(lambda look: 0.5)
        self.wrong = wrong

    def score(self, looks: Any) -> Iterator[Score]:
        return (replace(score, **self.wrong) for score in super().score(looks))


@pytest.mark.parametrize(
    "wrong",
    [{"value": 1.5}, {"value": -0.1}, {"value": float("inf")}, {"measure": "x"}, {"probe": "x"}, {"image": "x"}],
)
def test_broken_promises_become_none_with_a_reason(wrong: dict[str, Any]) -> None:
    (scores,) = run(Liar(**wrong), SHOTS[:1])
    assert [score.value for score in scores] == [None] and "ValueError" in str(scores[0].reason)
    assert scores[0].probe == "oracle-1" and scores[0].image == SHOTS[0].image


def test_nan_becomes_none_with_a_reason() -> None:
    (scores,) = run(probe(lambda look: float("nan")), SHOTS[:1])
    assert scores[0].value is None and "NaN" in str(scores[0].reason)


def test_silence_becomes_none_with_a_reason() -> None:
    judge = probe()
    judge.score = lambda looks: iter(())  # type: ignore[method-assign]
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
