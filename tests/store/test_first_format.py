"""A home that the first format left: it is read, published, gone on with, and means the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from places import FIRST_FORMAT, GOLDEN
from promptlab.records import Binding, Cell, Phrase, Prompt, Settings, prompt_id
from promptlab.results.contrasts import contrasts_of
from promptlab.results.queries import study_axes
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.store.journal import read_journal
from promptlab.study.grid import axis_columns
from promptlab.study.study import parse_study

PROMPT = Prompt(
    "a red cup and a large blue chair",
    (Phrase("first", "a red cup", 0, 9, "object"),),
    (Binding("first", "cup", "red"), Binding("second", "chair", "large", "size")),
    "a blue cup and a large red chair",
    ("a red cup", "a large blue chair"),
)
JOURNAL = next((FIRST_FORMAT / "runs" / "drawn").glob("*.jsonl"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(FIRST_FORMAT, tmp_path / "home")
    return tmp_path / "home"


def written(kind: str) -> list[dict[str, object]]:
    """Records of a kind, as the old journal spells them."""
    lines = [json.loads(line) for line in JOURNAL.read_text("utf-8").splitlines()]
    assert {line["v"] for line in lines} == {1}
    return [line["record"] for line in lines if line["kind"] == kind]


def test_ids_of_prompts_stay() -> None:
    """Ids that the first format wrote, in whose prompts `family` is the kind of an attribute."""
    assert PROMPT.id == "5f7e2485b16bd57932ca0c6e05767e8c"
    cells = [line.record for line in read_journal(JOURNAL).lines if line.kind == "cell"]
    assert {prompt_id(cell["prompt"]) for cell in cells} == {score["prompt"] for score in written("score")}
    assert cells[0]["prompt"]["bindings"][0].keys() == {"object", "noun", "attribute", "kind"}


def test_plans_stay(tmp_path: Path) -> None:
    """The plan of the same cells has one id, so that cells of old are not written again."""
    store = Store(tmp_path)
    cell = Cell("s", (("w", 1.0),), PROMPT, Settings(1.0), "g")
    with store.open_run("s") as run:
        run.plan([cell], [0], lambda _: "T0")
    store.publish()
    assert store.query("SELECT plan FROM study")["plan"].tolist() == ["1093866f61998bdcdb986493ce368dd5"]


def test_it_is_published_with_what_its_text_declares(home: Path) -> None:
    store = Store(home)
    store.publish()
    study = parse_study(str(written("run")[0]["text"]))
    assert store.doctor() == []
    assert study_axes(store, "drawn") == axis_columns(study)
    declared = store.query("SELECT question, backend, model FROM study").to_numpy().tolist()
    assert declared == [[study.question, "renderer", "miniature"]]
    probes = store.query("SELECT name, probe_id, options FROM probe").to_numpy().tolist()
    assert probes == [["exposure", "exposure-1-44136fa3", "{}"]]
    assert store.query("SELECT DISTINCT probe, probe_id FROM score").to_numpy().tolist() == [probes[0][:2]]
    order, of_one = contrasts_of(store, "drawn")
    assert order.levels == ("second, first", "first, second") and order.where == {"guidance_scale": "5"}
    assert of_one.levels == ("5", "1") and of_one.target == "second" and order.target is None
    family = store.query("SELECT name, margin, family FROM contrast ORDER BY position").astype(object)
    assert family.where(family.notna(), None).to_numpy().tolist() == [
        ["order", 0.1, "confirmatory"],
        ["of_one", None, "exploratory"],
    ]
    kinds = store.query("SELECT DISTINCT kind FROM binding ORDER BY kind")["kind"].tolist()
    assert kinds == ["colour", "size"]


def test_a_run_goes_on_with_it_and_finds_the_same(home: Path) -> None:
    store = Store(home)
    before = written("effect")
    summary = run_study(parse_study(str(written("run")[0]["text"])), store, RunOptions(passports_n=0))
    assert not summary.plan.missing and not summary.made and not summary.scores
    assert {image.id for image in store.images().values()} == {image["id"] for image in written("image")}
    for old, new in zip(before, store.effects("drawn"), strict=True):
        assert (new.contrast, new.probe) == (old["contrast"], "exposure") and new.reason == old.get("reason")
        for name in ("estimate", "low", "high", "p", "p_adjusted", "mean_a", "mean_b", "dz"):
            assert getattr(new, name) == pytest.approx(old.get(name), abs=1e-9), name
    assert [effect.probe_id for effect in store.effects("drawn")] == ["exposure-1-44136fa3", None]
    later = max((home / "runs" / "drawn").glob("*.jsonl"))
    kinds = [line.kind for line in read_journal(later).lines]
    assert kinds == ["run", "fact", "study", *["measure"] * 6, "effect", "effect", "end"]
    assert store.doctor() == [] and store.query("SELECT runs FROM study")["runs"].tolist() == [2]


def test_a_text_that_is_no_study_today_declares_nothing(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    store = Store(tmp_path)
    store.publish()
    assert store.query("SELECT question, backend, model FROM study").isna().all().all()
    assert study_axes(store, "golden") == () and not len(store.query("FROM contrast"))
    scores = store.query("SELECT DISTINCT probe, probe_id FROM score").to_numpy().tolist()
    assert scores == [["scene@1", "scene@1"]]
    assert store.query("SELECT probe, kind FROM passport").to_numpy().tolist() == [["scene@1", "colour"]]
