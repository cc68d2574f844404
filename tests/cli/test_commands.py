"""The commands that show and export: what they print for people and for machines, and what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from promptlab.cli import main
from promptlab.exchange.export import TABLES, export, safe_text
from promptlab.run import RunOptions, run_study
from promptlab.store import Store
from promptlab.study import parse_study

STUDY = """\
name: drawn
question: Is what the renderer draws found again?
backend: renderer
model: swap=0.0
prompt:
  template: "{lead} {first} and {second}"
  objects:
    first: {noun: cup, colour: "{x}"}
    second: {noun: chair, colour: blue}
  phrases: {lead: "=1+2, a photo of"}
axes:
  x: [red, green]
  guidance_scale: [1, 5]
seeds: 2
probes: [exposure]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("commands")
    (home / "drawn.yaml").write_text(STUDY)
    run_study(parse_study(STUDY), Store(home), RunOptions(passports_n=0))
    return home


def told(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int = 0
) -> str:
    """What a command prints; a refusal is one line."""
    monkeypatch.setattr("sys.argv", ["promptlab", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    assert (end.value.code or 0) == code, captured.err
    if code:
        assert len(captured.err.splitlines()) == 1 and "Traceback" not in captured.err
        return captured.err
    return captured.out


def test_tables_for_machines(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tail = ["--home", str(home), "--json"]
    asked = ["table", "drawn", "means", "--measure", "mean_luma", "--by", "x"]
    means = json.loads(told([*asked, *tail], capsys, monkeypatch))
    assert [row["level"] for row in means] == ["red", "green"] and {row["n"] for row in means} == {4}
    assert json.loads(told(["table", "drawn", "completeness", *tail], capsys, monkeypatch)) == [
        {"status": "ok", "reason": None, "n": 8}
    ]
    (status,) = json.loads(told(["status", *tail], capsys, monkeypatch))
    assert (status["study"], status["ok"], status["last_run"]) == ("drawn", 8, "complete")
    plan = json.loads(told(["plan", str(home / "drawn.yaml"), *tail], capsys, monkeypatch))
    assert (plan["cells"], plan["images"], plan["made"], plan["missing"]) == (4, 8, 8, 0)
    assert "mean_luma" in told(["list", "probes"], capsys, monkeypatch)
    (listed,) = json.loads(told(["list", "--folder", str(home), "--json"], capsys, monkeypatch))
    assert listed["question"] == "Is what the renderer draws found again?"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table", "drown"], "no study called 'drown'.*drawn"),
        (["table", "drawn", "outcome"], "no table is called 'outcome'.*did you mean 'outcomes'"),
        (["table", "drawn", "means"], "needs --measure and --by"),
        (["table", "drawn", "--by", "y"], "no axis 'y': it has guidance_scale, x"),
        (["export", "drawn", "--as", "xlsx"], "no format is called 'xlsx': choose from csv, parquet"),
        (["export", "drown"], "did you mean 'drawn'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_named(
    arguments: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    assert re.search(said, told([*arguments, "--home", str(home)], capsys, monkeypatch, 1))


def test_words_that_the_miniature_never_learned_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("name: words\nquestion: Is it known?\nprompt: {template: a red cupp under an umbrella}\n")
    out = told(["plan", str(path), "--home", str(tmp_path)], capsys, monkeypatch)
    assert "the miniature never learned: 'cupp'; did you mean 'cup'?, 'umbrella'" in out
    plan = json.loads(told(["plan", str(path), "--home", str(tmp_path), "--json"], capsys, monkeypatch))
    assert plan["unknown_words"] == ["cupp", "umbrella"]
    path.write_text("name: words\nquestion: Is it known?\nprompt: {template: a red cup under a tree}\n")
    assert "never learned" not in told(["plan", str(path), "--home", str(tmp_path)], capsys, monkeypatch)


def test_score_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "drawn.yaml"
    path.write_text(STUDY.replace("probes: [exposure]", "probes: []").replace("seeds: 2", "seeds: 1"))
    told(["run", str(path), "--home", str(tmp_path)], capsys, monkeypatch)
    path.write_text(STUDY)
    out = told(["score", str(path), "--home", str(tmp_path)], capsys, monkeypatch)
    assert "0 pictures made" in out and "4 pictures are not made yet" in out
    store = Store(tmp_path)
    assert store.query("SELECT count(*) AS n FROM image")["n"].tolist() == [4]
    assert store.query("SELECT count(DISTINCT image) AS n FROM score")["n"].tolist() == [4]


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_exports_hold_what_the_database_holds(form: str, home: Path, tmp_path: Path) -> None:
    store = Store(home)
    written = export(store, "drawn", tmp_path, form)
    assert [path.name for path in written] == [f"drawn.{table}.{form}" for table in TABLES]
    path = tmp_path / f"drawn.scored.{form}"
    frame = pd.read_parquet(path) if form == "parquet" else pd.read_csv(path)
    known = store.query("SELECT value FROM scored WHERE study = 'drawn'")["value"]
    assert len(frame) == written[path] == len(known)
    assert sorted(frame["value"]) == pytest.approx(sorted(known))
    assert set(frame["axis.x"]) == {"red", "green"} and "levels" not in frame


def test_no_cell_of_a_csv_is_a_formula(home: Path, tmp_path: Path) -> None:
    export(Store(home), "drawn", tmp_path, "csv")
    with (tmp_path / "drawn.scored.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["prompt"][:12] for row in rows} == {"'=1+2, a pho"}
    numbers = {"value", "lower", "upper"}
    for row in rows:
        assert not [v for k, v in row.items() if k not in numbers and v.startswith(("=", "+", "-", "@", "\t"))]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\n=x"])
def test_formulas_are_texts(text: str) -> None:
    assert safe_text(text) == f"'{text}"
    assert safe_text("a cup = b") == "a cup = b" and safe_text(-1.5) == -1.5 and safe_text(None) is None
