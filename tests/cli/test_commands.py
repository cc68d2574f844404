"""The commands that show and export: what they print for people and for machines, and what they refuse."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from promptlab.cli import main, terminal
from promptlab.exchange.export import TABLES, export, safe_text
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study

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


WIDE = pd.DataFrame(
    {
        "study": ["drawn"] * 3,
        "contrast": ["guidance", "order", "a contrast with a long name of many words"],
        "estimate": [0.5, 0.0, None],
        "low": [0.25, None, None],
        "high": [0.75, None, None],
        "empty": [None] * 3,
        **{f"number_{i}": [float(i), 2.0, 3.0] for i in range(8)},
        "reason": [None, "one prompt", "nothing was scored"],
    }
)


def printed(frame: pd.DataFrame, width: int, capsys: pytest.CaptureFixture[str], wide: bool = False) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal, "console", Console(width=width, highlight=False, markup=False, soft_wrap=True))
        terminal.print_frame(frame, wide)
    return capsys.readouterr().out


def test_a_narrow_table_keeps_what_matters_and_names_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(WIDE, 80, capsys)
    table = [line for line in text.splitlines() if "│" in line]
    assert max(map(len, table)) <= 80 and "empty" not in text and "in every row: study drawn" in text
    assert "0.5 [0.25, 0.75]" in table[0] and "0, no interval" in table[1]
    assert "order: one prompt" in text and "a contrast with a long name of many words: nothing was scored" in text
    assert not any(part in text for part in ("nan", "None", "[0, 0]"))
    (left_out,) = [line for line in text.splitlines() if line.startswith("left out for width: ")]
    shown = {f"number_{i}" for i in range(8) if f"number_{i}" not in left_out}
    assert 0 < len(shown) < 8 and all(name in text for name in shown) and "--wide, --csv or --json" in left_out


def test_a_wide_table_shows_every_column_on_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(WIDE, 80, capsys, wide=True).splitlines()
    assert len(lines) == 2 + 3 and all(f"number_{i}" in lines[0] for i in range(8))
    assert "a contrast with a long name of many words" in lines[-1] and "nothing was scored" in lines[-1]
    assert printed(WIDE, 400, capsys).splitlines() == lines, "where all fit, nothing is left out"


def test_a_single_row_that_does_not_fit_is_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(WIDE.head(1), 60, capsys).splitlines()
    assert "estimate [low, high]: 0.5 [0.25, 0.75]" in lines and "number_7: 7" in lines


def test_a_table_as_csv(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["table", "drawn", "means", "--measure", "mean_luma", "--by", "x", "--home", str(home)]
    rows = list(csv.DictReader(told([*asked, "--csv"], capsys, monkeypatch).splitlines()))
    known = json.loads(told([*asked, "--json"], capsys, monkeypatch))
    assert [row["level"] for row in rows] == ["red", "green"] and list(rows[0]) == list(known[0])
    assert [float(row["mean"]) for row in rows] == [pytest.approx(row["mean"]) for row in known]
    assert "choose one" in told([*asked, "--csv", "--json"], capsys, monkeypatch, 1)


ONE_PROMPT = """
name: single
question: What can one prompt say?
backend: renderer
model: swap=0.5
prompt:
  template: "a photo of {first} and {second}"
  objects: {first: {noun: cup, colour: red}, second: {noun: chair, colour: blue}}
axes: {guidance_scale: [1, 5]}
seeds: 8
probes: [binding]
contrasts:
  - {name: more, measure: binding.correct, axis: guidance_scale, levels: [5, 1], family: confirmatory}
"""


def test_one_prompt_has_no_interval_and_the_terminal_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "single.yaml"
    path.write_text(ONE_PROMPT)
    text = told(["run", str(path), "--home", str(tmp_path), "--passports", "0"], capsys, monkeypatch)
    (line,) = [line for line in text.splitlines() if line.startswith("  more, correct: ")]
    assert re.match(
        r"  more, correct: [+-]\d\.\d{3}, no interval, 1 prompt; one prompt: an interval .* at least 2", line
    )
    (sentence,) = [line for line in text.splitlines() if line.startswith("Prompts like")]
    assert ", 1 prompt);" in sentence and "nan" not in text
    table = told(["table", "single", "effects", "--home", str(tmp_path)], capsys, monkeypatch)
    assert "no interval" in table and "one prompt: an interval and a p-value need at least 2" in table


def test_help_lists_every_command_under_a_heading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = told(["--help"], capsys, monkeypatch)
    heads = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["Options:", "Study:", "Look:", "Hand on:", "Maintain:"]
    assert not [line for line in text.splitlines()[1:] if line.endswith("...")], "a line of help is cut off"
    assert "schema" not in text and "miniature" in text and "Show the version and exit." in text


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
