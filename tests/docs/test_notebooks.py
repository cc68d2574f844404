"""The notebooks run from top to bottom, and their figures draw what the analysis functions give."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import promptlab
from places import STUDIES, SUPPORT
from promptlab.records import OUTCOMES
from promptlab.results import Results, open_demo
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.study.study import load_study

NAMES = ("attribute_binding", "guidance", "query_the_database")
GUARD = """
import sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("default", module="ipykernel")
sys.path.insert(0, {tests!r})
import socket
from loopback import guarded_connect
socket.socket.connect = guarded_connect(socket.socket.connect)
socket.socket.connect_ex = guarded_connect(socket.socket.connect_ex)
"""
"""What the tests forbid here is forbidden in the kernel, which is another process."""
DUMP = "import json; print(json.dumps(figure.to_dict()))"


def book(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((STUDIES / f"{name}.ipynb").read_text("utf-8"))
    return read


def code(name: str) -> list[str]:
    return ["".join(cell["source"]) for cell in book(name)["cells"] if cell["cell_type"] == "code"]


def drawn(figure: dict[str, Any]) -> pd.DataFrame:
    """The one data set of a chart."""
    (rows,) = figure["datasets"].values()
    return pd.DataFrame(rows)


def expected(name: str, found: Results) -> pd.DataFrame:
    """What the figure of a notebook must hold, by the analysis functions."""
    if name == "guidance":
        names = ("binding.correct", "clip_similarity.clip_cosine", "exposure.clipped_share", "exposure.colourfulness")
        return pd.concat([found.curve(one, "guidance_scale").assign(measure=one) for one in names])
    shares = found.outcomes("guidance_scale")
    kinds = OUTCOMES if name == "attribute_binding" else ("correct",)
    return shares[shares["outcome"].isin(kinds)]


def check(name: str, figure: dict[str, Any], found: Results) -> None:
    rows, truth = drawn(figure), expected(name, found)
    if name == "query_the_database":
        hand, rows = rows[rows["by"] == "by hand"], rows[rows["by"] == "promptlab"]
        same = hand[["level", "share", "n"]].reset_index(drop=True)
        pd.testing.assert_frame_equal(same, truth[["level", "share", "n"]].reset_index(drop=True), check_dtype=False)
        assert (hand["low"] <= hand["share"]).all() and (hand["share"] <= hand["high"]).all()
    assert len(rows) == len(truth) > 1
    common = [column for column in rows if column in truth]
    assert {"level", "low", "high", "n"} <= set(common)
    left, right = (frame[common].reset_index(drop=True) for frame in (rows, truth))
    pd.testing.assert_frame_equal(left, right, check_dtype=False)
    assert set(truth["tier"]).pop() in json.dumps(figure["title"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = open_demo(tmp_path_factory.mktemp("demo"))
    assert store is not None
    return store.home.path


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Outputs by notebook and cell, from a kernel, where nothing was run: one for all, emptied between notebooks."""
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("kernel")
    whole = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(GUARD.format(tests=str(SUPPORT)))])
    for name in NAMES:
        notebook = nbformat.reads((STUDIES / f"{name}.ipynb").read_text("utf-8"), as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(DUMP, id="dump"))
        for cell in notebook.cells:
            cell.id = f"{name}-{cell.id}"
        whole.cells += [nbformat.v4.new_code_cell("%reset -f"), *notebook.cells]
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
            patch.setenv(variable, str(folder / variable))
        patch.setenv("PROMPTLAB_HOME", str(folder / "nothing"))
        there = {"metadata": {"path": str(folder)}}
        NotebookClient(whole, timeout=None, kernel_name="python3", resources=there).execute()
    assert not (folder / "nothing").exists(), "reading writes nothing"
    return {cell.id: cell.outputs for cell in whole.cells if cell.cell_type == "code"}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_the_demo_where_nothing_was_run(name: str, executed: dict[str, list[Any]], demo: Path) -> None:
    said = executed[f"{name}-load"][0].text
    assert "this is the demo that ships" in said
    drawings = [output["data"]["image/svg+xml"] for output in executed[f"{name}-figure"] if "data" in output]
    assert len(drawings) == 1 and drawings[0].startswith("<svg") and drawings[0].count('role="graphics-symbol"') > 1
    check(name, json.loads(executed[f"{name}-dump"][0].text), promptlab.load("demo", demo))
    shown = re.search(r"study demo in (.+)/promptlab.duckdb", said)
    assert shown and not Path(shown[1]).exists(), "the demo goes with the process"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the studies of both names are finished: the demo's cells, so that its pictures serve them too."""
    store = open_demo(tmp_path_factory.mktemp("own"))
    assert store is not None
    for name in ("attribute_binding", "guidance"):
        study = load_study(STUDIES / "demo.yaml").model_copy(update={"name": name})
        assert not run_study(study, store, RunOptions(passports_n=0)).made
    return store.home.path


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_the_study_that_was_run(
    name: str, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cell by cell in this process: warnings are errors and there is no network."""
    monkeypatch.setenv("PROMPTLAB_HOME", str(own))
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in code(name):
        exec(compile(cell, name, "exec"), names)
    study = "guidance" if name == "guidance" else "attribute_binding"
    said = capsys.readouterr().out
    assert f"study {study} in {own}" in said and "demo" not in said
    check(name, names["figure"].to_dict(), promptlab.load(study, own))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_short_and_carries_no_results(name: str) -> None:
    """Outputs are somebody's results and make every change long; whoever opens a notebook runs it."""
    cells = book(name)["cells"]
    assert 10 <= len(cells) <= 16 and cells[0]["cell_type"] == "markdown"
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert {"load", "figure"} <= {cell["id"] for cell in cells}
    words = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert not [word for word in ("`n`", "95 %", "T1", "`ok`", "promptlab") if word not in words]


def test_loading_falls_back_to_the_demo_only_when_asked(tmp_path: Path, demo: Path) -> None:
    found = promptlab.load("attribute_binding", tmp_path, demo=True)
    assert found.demo and found.study == "demo" and found.store.home.path not in (tmp_path, demo)
    assert promptlab.load(None, tmp_path, demo=True).demo and not list(tmp_path.iterdir())
    assert promptlab.load("guidance", demo, demo=True).demo, "another study was run there"
    here = promptlab.load("demo", demo, demo=True)
    assert not here.demo and here.store.home.path == demo


def test_listing_studies_looks_at_studies_alone(tmp_path: Path) -> None:
    from promptlab.cli.results import _studies

    assert {Path(row["file"]).suffix for row in _studies(STUDIES)} == {".yaml"}
    kept = tmp_path / ".ipynb_checkpoints" / "smoke-checkpoint.yaml"
    kept.parent.mkdir()
    kept.write_text((STUDIES / "smoke.yaml").read_text("utf-8"))
    assert not _studies(tmp_path)
