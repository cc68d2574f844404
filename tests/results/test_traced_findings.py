"""Findings of traced studies: the rows are the figures of `promptlab attention`, of the probes that scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.errors import PromptlabError
from promptlab.results.findings import findings
from promptlab.results.findings.attention import attention_figures
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study

STUDY = """\
name: traced
question: Do findings say what the command says?
settings: {num_inference_steps: 4}
prompt:
  template: "a photo of {first} and {second}"
  objects:
    first: {noun: "{noun}", colour: red}
    second: {noun: chair, colour: blue}
axes:
  noun: [cup, ball]
  guidance_scale: [3, 5]
probes: [binding, PROBES]
"""
ALL = "{name: attention, pictures: 4}, {name: ablation, pictures: 4}, {name: padding, pictures: 4}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traced")
    studies = (("traced", 4, ALL), ("part", 3, "{name: padding, pictures: 2}"), ("none", 2, "exposure"))
    for name, steps, probes in studies:  # steps of their own, else they would share pictures and so scores
        text = STUDY.replace("name: traced", f"name: {name}").replace("PROBES", probes)
        text = text.replace("num_inference_steps: 4", f"num_inference_steps: {steps}")
        run_study(parse_study(text), Store(folder), RunOptions(passports_n=0))
    return folder


def test_rows_are_the_figures(home: Path) -> None:
    figures = attention_figures(Store(home), "traced")
    rows = findings(Store(home), "traced").query("module == 'attention_answer'")
    assert len(rows) == len(figures) == 10 and set(rows["tier"]) == {"T1"}
    for (_, row), figure in zip(rows.iterrows(), figures, strict=True):
        assert row["finding"].startswith(figure.says) and row["measure"] == figure.measure
        assert (row["n"], row["n_dropped"]) == (figure.found.n, figure.found.n_dropped)
        if figure.found.estimate is not None:
            assert row["estimate"] == figure.found.estimate
        else:
            assert row["reason"]


def test_a_mean_is_that_of_the_scores(home: Path) -> None:
    store = Store(home)
    by_hand = store.query(
        "SELECT avg(v) AS v FROM (SELECT prompt_group, avg(value) AS v FROM scored WHERE study = 'traced' "
        "AND measure = 'part_share' AND target = 'words' GROUP BY 1)"
    )["v"].iloc[0]
    found = {figure.name: figure.found for figure in attention_figures(store, "traced")}
    assert found["words"].estimate == pytest.approx(by_hand) and found["words"].n == 4
    held = {figure.name: figure.found for figure in attention_figures(store, "traced", where={"guidance_scale": "5"})}
    assert held["words"].n == 2


def test_a_probe_that_did_not_score_has_no_row(home: Path) -> None:
    rows = findings(Store(home), "part").query("module == 'attention_answer'")
    assert set(rows["measure"]) == {"padding.part_share", "padding.part_loss"} and len(rows) == 6
    assert not len(findings(Store(home), "none").query("module == 'attention_answer'"))
    with pytest.raises(PromptlabError, match="was traced"):
        attention_figures(Store(home), "none")
