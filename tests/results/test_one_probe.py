"""Of one picture one answer counts: that of the version of a probe which the study used last, and of one probe."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.records import Cell, Image, Prompt, Score, Settings
from promptlab.results import tables
from promptlab.results.contrasts import contrast_pairs
from promptlab.results.queries import preferred_probe, preferred_probe_ids
from promptlab.store import Run, Store
from promptlab.study.study import Contrast

OLD, NEW, OTHER = "binding-1-aaaaaaaa", "binding-2-bbbbbbbb", "binding_of_another-1-cccccccc"
CELLS = [Cell("one", (("w", w),), Prompt("a red cup"), Settings(w), "cup") for w in (1.0, 5.0)]


def say(run: Run, name: str, probe_id: str, value: float) -> None:
    """The same number of every picture."""
    label = "correct" if value else "fused"
    images = [cell.image_id(seed) for cell in CELLS for seed in (0, 1)]
    run.add(*(Score(image, name, probe_id, "correct", "", value, label) for image in images))


@pytest.fixture(params=["old, new", "new, old"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Two versions told of all pictures, in either order; the last run used the new one."""
    made = Store(tmp_path)
    with made.open_run("one") as run:
        run.plan(CELLS, [0, 1], lambda _: "T0")
        run.add(*(Image(cell.image_id(seed), cell.recipe(seed)) for cell in CELLS for seed in (0, 1)))
        run.fact({"probe": {"binding": OLD}})
        for probe_id in (OLD, NEW) if request.param == "old, new" else (NEW, OLD):
            say(run, "binding", probe_id, float(probe_id == NEW))
        say(run, "binding_of_another", OTHER, 0.0)
    with made.open_run("one") as run:
        run.fact({"probe": {"binding": NEW}})
    made.publish()
    return made


def test_the_views_show_the_version_that_was_used_last(store: Store) -> None:
    shown = set(store.query("SELECT DISTINCT probe_id FROM scored")["probe_id"])
    assert shown == {NEW, OTHER} == set(store.query("SELECT DISTINCT probe_id FROM outcomes")["probe_id"])
    assert set(store.query("SELECT DISTINCT probe_id FROM score")["probe_id"]) == {OLD, NEW, OTHER}
    assert store.query("FROM outdated").to_numpy().tolist() == [["one", "binding", OLD]]


def test_every_table_counts_it_alone(store: Store) -> None:
    assert preferred_probe_ids(store, "one", "correct") == [NEW]
    for frame in (
        tables.cell_means(store, "one", "correct", "w"),
        tables.ranking(store, "one", "correct", "w"),
        tables.crossed_means(store, "one", "correct", "w", "w"),
    ):
        assert frame["mean"].tolist() == [1, 1] and frame["n"].tolist() == [2, 2]
    pairs = contrast_pairs(store, "one", Contrast(name="c", measure="binding.correct", axis="w", levels=(1.0, 5.0)))
    assert pairs.probe_id == NEW and pairs.a == pairs.b == (1.0, 1.0)


def test_what_no_run_of_the_study_named_is_shown(tmp_path: Path) -> None:
    """Journals of before, and two files of people's ratings."""
    store = Store(tmp_path)
    with store.open_run("one") as run:
        run.plan(CELLS, [0, 1], lambda _: "T0")
        run.add(*(Image(cell.image_id(seed), cell.recipe(seed)) for cell in CELLS for seed in (0, 1)))
        for probe_id in ("human-1-a", "human-1-b"):
            say(run, "human", probe_id, 1.0)
    store.publish()
    assert preferred_probe_ids(store, "one", "correct") == ["human-1-a", "human-1-b"]
    assert preferred_probe_ids(store, "one", "correct", "binding") == []
    assert not len(store.query("FROM outdated"))


def test_which_probe_goes_first() -> None:
    assert preferred_probe(["blip_vqa", "human", "binding"]) == "binding"
    assert preferred_probe(["blip_vqa", "human"]) == "human" and preferred_probe(["vqascore", "blip_vqa"]) == "blip_vqa"
    assert preferred_probe(["binding"], "human") == "human" and preferred_probe([]) == ""
