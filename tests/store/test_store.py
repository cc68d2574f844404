"""The store: what it knows, what it publishes, what it notices and what it mends."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import driver
from places import GOLDEN
from promptlab.errors import StoreError
from promptlab.records import Binding, Cell, ContrastEffect, Image, Measure, Passport, Phrase, Prompt, Score, Settings
from promptlab.store import Store, pictures
from stores import made

TABLES = {
    Cell: ("cell", {"levels": None, "settings": None, "group": "prompt_group", "sources": None}),
    Settings: ("cell", {}),
    Prompt: ("prompt", {"phrases": None, "bindings": None}),
    Phrase: ("phrase", {"start": "start_char", "end": "end_char"}),
    Binding: ("binding", {}),
    Image: ("image", {}),
    Measure: ("measure", {"references": "reference"}),
    Score: ("score", {"prompt": "prompt_id"}),
    Passport: ("passport", {}),
    ContrastEffect: ("effect", {}),
}
"""Record to table, and the fields that have another name there (SQL keeps theirs) or tables of their own (None)."""


@pytest.mark.parametrize("record", TABLES)
def test_record_fields_are_columns(finished: Path, record: type) -> None:
    table, renamed = TABLES[record]
    with Store(finished).connect() as connection:
        columns = connection.table(table).columns
    wanted = [renamed.get(field.name, field.name) for field in fields(record)]
    assert [name for name in wanted if name and name not in columns] == []


def test_every_column_and_table_is_documented() -> None:
    schema = files("promptlab.store").joinpath("schema.sql").read_text("utf-8")
    for block in re.findall(r"((?:^--.*\n)*)^CREATE TABLE (\w+)", schema, re.MULTILINE):
        assert block[0], f"table {block[1]} has no comment"


def test_what_a_run_leaves(finished: Path) -> None:
    store = Store(finished)
    assert store.doctor() == []
    study = store.query("SELECT name, cells, seeds, runs, text FROM study").to_dict("records")
    assert study == [{"name": "tiny", "cells": 6, "seeds": 2, "runs": 1, "text": "study: tiny"}]
    run = store.query(
        "SELECT status, ended >= started AS ordered, device, list_contains(argv, ?) AS a FROM run", ["no"]
    )
    assert run.to_dict("records") == [{"status": "complete", "ordered": True, "device": "cpu", "a": False}]
    scored = store.query("SELECT * FROM scored ORDER BY cell_id, seed, target")
    assert len(scored) == 6 * 2 * 2
    assert set(scored["tier"]) == {"T0"} and scored["levels"][0].keys() == {"count", "guidance_scale"}
    level = store.query(
        "SELECT level, level_number, level_position FROM level WHERE axis = 'guidance_scale' ORDER BY ALL"
    )
    assert level.drop_duplicates().to_numpy().tolist() == [["0", 0.0, 0], ["1", 1.0, 1], ["2", 2.0, 2]]
    whole = store.query("SELECT sum(planned) AS p, sum(ok) AS o, sum(failed) AS f, sum(missing) AS m FROM completeness")
    assert whole.to_numpy().tolist() == [[12, 12, 0, 0]]
    phrase = store.query(
        "SELECT prompt[start_char + 1 : end_char] AS cut, phrase.text FROM phrase JOIN cell USING (prompt_id)"
    )
    assert list(phrase["cut"]) == list(phrase["text"]) == ["red cup"] * 6


def test_running_again_makes_nothing(home: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in home.glob("images/*/*.png")}
    driver.run(home, "tiny", 6, 0.0, 0, None)
    assert {path.name: path.stat().st_mtime_ns for path in home.glob("images/*/*.png")} == before
    kinds = [line.split('"')[5] for line in max(home.glob("runs/tiny/*.jsonl")).read_text("utf-8").splitlines()]
    assert kinds == ["run", "measure", "end"]
    assert Store(home).query("SELECT runs FROM study")["runs"].tolist() == [2]


def test_a_picture_of_another_study_is_adopted(home: Path) -> None:
    """Ids do not hold the study's name, so study `other` finds all it wants; but only what is on the disk."""
    store = Store(home)
    (cell,) = driver.cells("other", 1)
    known = store.images()
    assert {cell.image_id(seed) for seed in driver.SEEDS} <= known.keys()
    gone = known[cell.image_id(0)]
    pictures.path_of(store.home, str(gone.file)).unlink()
    assert gone.id not in store.images() and cell.image_id(1) in store.images()
    with store.open_run("other") as run:
        run.plan([cell], driver.SEEDS)
        run.add(Image("f" * 32, {}, status="refused", reason="no"))
    assert store.images()["f" * 32].status == "refused"
    store.publish()
    assert store.query("SELECT DISTINCT study FROM scored ORDER BY 1")["study"].tolist() == ["other", "tiny"]


def test_an_edited_study_keeps_what_it_still_asks_for(home: Path) -> None:
    driver.run(home, "tiny", 4, 0.0, 0, None)
    store = Store(home)
    assert store.query("SELECT current, count(*) AS n FROM cell GROUP BY 1 ORDER BY 1").to_numpy().tolist() == [
        [False, 2],
        [True, 4],
    ]
    assert store.query("SELECT count(*) AS n FROM image")["n"].tolist() == [12]
    assert store.query("SELECT count(DISTINCT cell_id) AS n FROM scored")["n"].tolist() == [4]
    driver.run(home, "tiny", 6, 0.0, 0, None)
    assert store.query("SELECT current, count(*) AS n FROM cell GROUP BY 1").to_numpy().tolist() == [[True, 6]]


def test_an_ok_picture_stands_before_a_failed_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (cell,) = driver.cells("tiny", 1)
    image = made(store, cell, 0)
    failed = Image(image.id, image.recipe, status="oom", reason="out of memory at batch 1")
    for records in ([failed], [image], [failed]):
        with store.open_run("tiny") as run:
            run.add(*records)
    assert store.images()[image.id] == Store(tmp_path).images()[image.id] == image


def test_unmeasured_is_null_with_a_reason(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (cell,) = driver.cells("tiny", 1)
    with store.open_run("tiny") as run:
        run.plan([cell], [0, 1])
        run.add(made(store, cell, 0), made(store, cell, 1), Measure("outcome", "what became of it"))
        run.add(
            Score(cell.image_id(0), "scene", "scene@1", "outcome", "cup", 1.0, "correct"),
            Score(cell.image_id(1), "scene", "scene@1", "outcome", "cup", reason="no object found"),
        )
        with pytest.raises(StoreError, match="cannot be kept"):
            run.add(Image("0" * 32, {}, seconds=float("nan")))
        run.add(Passport("scene", "scene@1", "colour", 400, 0.9, 0.8, 0.95, 0.9, 0.8, 0.95, 0.8))
        run.add(ContrastEffect("tiny", "order", "scene", None, "outcome", estimate=0.05, n_groups=24, verdict="partly"))
    store.publish()
    outcomes = store.query("SELECT outcome, correct, swap, reason FROM outcomes ORDER BY seed")
    assert outcomes.astype(object).where(outcomes.notna(), None).to_numpy().tolist() == [
        ["correct", 1, 0, None],
        [None, None, None, "no object found"],
    ]
    assert store.query("SELECT count(*) AS n FROM score WHERE isnan(value)")["n"].tolist() == [0]
    assert store.passports()["scene@1", "colour"].youden == 0.8
    assert store.query("SELECT estimate, verdict FROM effect").to_numpy().tolist() == [[0.05, "partly"]]
    assert [(effect.probe, effect.probe_id) for effect in store.effects("tiny")] == [("scene", None)]


def test_facts_may_come_late(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.open_run("tiny", facts={"torch": "2.15.0"}) as run:
        run.fact({"diffusion": {"dtype": "bf16", "model": {"commit": None, "batch": 16}}})
    store.publish()
    assert store.query("SELECT name, value FROM fact ORDER BY name").to_numpy().tolist() == [
        ["diffusion.dtype", "bf16"],
        ["diffusion.model.batch", "16"],
        ["diffusion.model.commit", "none"],
        ["torch", "2.15.0"],
    ]


def test_how_a_run_ended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for error in (None, KeyboardInterrupt, ValueError):
        try:
            with store.open_run("tiny"):
                if error:
                    raise error
        except (KeyboardInterrupt, ValueError):
            pass
    with store.open_run("tiny") as run:
        run.end("incomplete")
        store.publish()
    assert store.query("SELECT status FROM run ORDER BY id")["status"].tolist() == [
        "complete",
        "interrupted",
        "failed",
        "incomplete",
    ]


def test_secrets_are_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "canary-0123456789")
    store = Store(tmp_path)
    (cell,) = driver.cells("tiny", 1)
    with store.open_run("tiny", argv=["run", "--key=canary-0123456789"], facts={"x": "canary-0123456789"}) as run:
        run.add(replace(made(store, cell, 0), status="error", reason="401 for canary-0123456789"))
    store.publish()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"canary" in path.read_bytes()] == []


@settings(max_examples=15, deadline=None)
@given(some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_prompt_comes_back_from_sql(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    store = Store(tmp_path_factory.mktemp("any"))
    cell = Cell("tiny", (("prompt", text),), Prompt(text), Settings(), "g", "fake", "fake")
    with store.open_run("tiny") as run:
        run.plan([cell], [0])
    store.publish()
    found = store.query("SELECT prompt, level FROM cell JOIN level ON cell_id = id WHERE prompt = ?", [text])
    assert found.to_numpy().tolist() == [[text, text]]


@pytest.mark.parametrize("sql", [
    "SELECT * FROM read_csv('/etc/passwd')",
    "COPY image TO '/tmp/promptlab-escape.csv'",
    "ATTACH '/tmp/promptlab-escape.duckdb'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "DELETE FROM image",
    "DROP VIEW scored",
    "SELECT nothing FROM image",
    "not SQL",
])  # fmt: skip
def test_queries_only_read(finished: Path, sql: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store(finished).query(sql)
    assert "\n" not in str(caught.value)


def test_a_reader_sees_what_was_published_last(home: Path) -> None:
    store = Store(home)
    with store.connect() as old:
        count = "SELECT count(*) FROM run"
        assert old.execute(count).fetchall() == [(1,)]
        driver.run(home, "tiny", 6, 0.0, 0, None)
        assert old.execute(count).fetchall() == [(1,)]
        assert store.query(count).iloc[0, 0] == 2


def test_no_database_yet(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no database at .*; `promptlab run STUDY`"):
        Store(tmp_path).query("SELECT 1")
    Store(tmp_path).publish()
    assert len(Store(tmp_path).query("SELECT * FROM scored")) == 0


def test_the_storage_format_is_that_of_1_5(finished: Path) -> None:
    connection = duckdb.connect(str(finished / "promptlab.duckdb"), read_only=True)
    ((tags,),) = connection.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchall()
    assert tags["storage_version"].startswith("v1.5")
    assert connection.execute("SELECT count(*) FROM duckdb_indexes()").fetchall() == [(0,)]
    assert connection.execute("SELECT count(*) FROM scored").fetchall() == [(24,)]
    connection.close()


def test_the_golden_journal_still_means_the_same(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    store = Store(tmp_path)
    store.publish()
    cell = store.query("SELECT prompt, tier, guidance_scale, scheduler FROM cell ORDER BY position")
    assert cell.to_numpy().tolist() == [["a red cup 🏆 and a كرسي أزرق", "T1", g, None] for g in (1.5, 7.0)]
    levels = store.query(
        "SELECT axis, level, level_number FROM level JOIN cell ON cell.id = cell_id WHERE position = ? ORDER BY axis",
        [0],
    )
    assert levels.astype(object).where(levels.notna(), None).to_numpy().tolist() == [
        ["guidance_scale", "1.5", 1.5],
        ["loud", "true", None],
        ["order", "cup first", None],
        ["scheduler", "none", None],
    ]
    assert store.query("SELECT status FROM image ORDER BY status")["status"].tolist() == ["nsfw_blocked", "ok"]
    # clip@1 saw other pixels than the picture has, so its score is left out.
    assert store.query("SELECT DISTINCT probe FROM score")["probe"].tolist() == ["scene@1"]
    assert store.query("SELECT verdict, n_groups, p_adjusted FROM effect").to_numpy().tolist() == [
        ["supported", 24, 0.04]
    ]
    assert store.query("SELECT count(*) AS n FROM damage")["n"].tolist() == [0]
    facts = store.query("SELECT name, value FROM fact ORDER BY name").to_numpy().tolist()
    assert facts == [["batch_size", "16"], ["deterministic", "true"], ["revision", "none"], ["torch", "2.15.0"]]


def test_a_run_names_its_program_without_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for program in ("/somewhere/promptlab/__main__.py", "/elsewhere/bin/promptlab"):
        monkeypatch.setattr("sys.argv", [program, "run", "a.yaml"])
        with store.open_run("tiny"):
            pass
    store.publish()
    found = store.query("SELECT argv FROM run")["argv"].tolist()
    assert [list(argv) for argv in found] == [["promptlab", "run", "a.yaml"]] * 2
