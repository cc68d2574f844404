"""Every analysis that a study's axes allow, on a study that was drawn: the same numbers as the analyses themselves."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import promptlab
from promptlab.errors import PromptlabError
from promptlab.resources import shipped_folder
from promptlab.results import Results
from promptlab.results.findings import findings
from promptlab.results.queries import balanced, kept_prompts, study_axes, study_scores
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study
from promptlab.study.tokens import open_tokens

TWO = """\
name: two
question: Is what the renderer draws found again?
backend: renderer
model: "neglect=0.5"
prompt:
  template: "{first} and {second}"
  objects:
    first: {noun: "{a}", colour: red}
    second: {noun: "{b}", colour: blue}
axes:
  pair: {zip: [{a: cup, b: chair}, {a: car, b: hat}, {a: ball, b: lamp}]}
  order: {order: [first, second]}
  guidance_scale: [1, 3, 5, 7, 9]
  num_inference_steps: [10, 20]
probes: [binding, exposure]
"""
ONE = """\
name: one
question: Is a thing found wherever it stands?
model: miniature
settings: {num_inference_steps: 4}
prompt:
  template: "{thing}"
  objects:
    thing: {noun: "{noun}", colour: red}
axes:
  noun: [cup, ball]
  length: {tokens: {to: [40, 100], needle: thing, at: [1, 20, 85]}}
exclude: [{length: 40, length_at: 85}]
probes: [binding]
"""
ALIKE = """\
name: alike
question: Is an axis what it looks like?
backend: renderer
prompt:
  template: "{first} and {second}, {text} {scene} {scene_at} {scene_arm}"
  objects:
    first: {noun: cup, colour: red}
    second: {noun: chair, colour: blue}
axes:
  text: ["first, second", "second, first"]
  scene: ["30"]
  scene_at: ["1", "20", "85"]
  scene_arm: [ours, filler]
probes: [binding, exposure]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("findings")
    for text in (TWO, ONE):
        run_study(parse_study(text), Store(folder), RunOptions(passports_n=0))
    return folder


@pytest.fixture(scope="module")
def two(home: Path) -> Results:
    return Results(Store(home), "two")


@pytest.fixture(scope="module")
def rows(two: Results) -> pd.DataFrame:
    return two.findings().set_index("finding")


def test_what_the_axes_allow_is_there(two: Results, rows: pd.DataFrame) -> None:
    assert set(rows["module"]) == {"burn", "order", "convergence", "specificity"} and set(rows["tier"]) == {"T0"}
    assert rows.index.is_unique or set(rows.index[rows.index.duplicated()]) == {"change from w = 1 to 9"}
    assert (rows["estimate"].notna() | rows["reason"].notna()).all()
    pd.testing.assert_frame_equal(two.findings().set_index("finding"), rows)


def test_a_renderer_that_hears_no_guidance_does_not_burn(rows: pd.DataFrame) -> None:
    vector = rows[rows["measure"].astype(str).str.startswith("exposure.") & (rows["module"] == "burn")]
    changes = vector.loc["change from w = 1 to 9"]
    assert len(changes) == 6 and (changes["n_prompts"] == 3).all()
    point = vector[vector.index.str.startswith("w* at which")].iloc[0]
    assert pd.isna(point["estimate"]) and "not exceeded up to 9" in point["reason"]


def test_primacy_is_by_hand_what_it_says(two: Results, rows: pd.DataFrame) -> None:
    scores = two.sql(
        """
        SELECT prompt_group, levels['order'] AS named, target, avg(value) AS there FROM scored
        WHERE study = 'two' AND measure = 'noun' AND status = 'ok' GROUP BY ALL
        """
    )
    first = scores["named"].str.split(", ").str[0] == scores["target"]
    by_hand = (
        scores[first].groupby("prompt_group")["there"].mean() - scores[~first].groupby("prompt_group")["there"].mean()
    )
    assert rows.loc["primacy", "estimate"] == pytest.approx(by_hand.mean()) and rows.loc["primacy", "n_prompts"] == 3
    assert -0.5 <= rows.loc["first is left, less 1/2", "estimate"] <= 0.5
    assert rows.loc["first's share of area, less 1/2", "n"] > 0


def test_where_holds_axes_fixed(two: Results, rows: pd.DataFrame) -> None:
    assert "several cells" in rows.loc["compounding", "reason"]
    one = two.findings({"guidance_scale": 5, "order": "first, second", "num_inference_steps": 10})
    assert set(one["module"]) <= {"specificity"} and "several cells" not in str(one["reason"].iloc[0])
    with pytest.raises(PromptlabError, match=r"no level '6' of 'guidance_scale': it has 1, 3, 5, 7, 9"):
        two.findings({"guidance_scale": 6})
    with pytest.raises(PromptlabError, match=r"no axis 'ordr'.*did you mean 'order'"):
        two.findings({"ordr": 6})


def test_a_level_is_compared_on_the_cells_that_others_have() -> None:
    levels = [{"w": "1", "x": "a"}, {"w": "5", "x": "a"}, {"w": "5", "x": "b"}, {"w": "1", "x": "a"}]
    rows = pd.DataFrame({"prompt_group": ["p", "p", "p", "q"], "levels": levels, "value": [1, 2, 3, 4]})
    assert balanced(rows, "w")["value"].tolist() == [1, 2]
    assert balanced(rows, "x")["value"].tolist() == [2, 3]
    assert list(balanced(rows[:0], "w").columns) == ["prompt_group", "levels", "value"]


def test_what_is_cut_off_changes_no_pixel(home: Path) -> None:
    """Two nouns behind the limit, in the same filler: two prompts, one picture."""
    rows = findings(Store(home), "one").set_index("finding")
    equal = rows.loc["pictures alike up to the limit are equal"]
    assert equal["estimate"] == 1 and equal["n"] == 1 and set(rows["tier"]) == {"T1"}
    for name in ("step at the limit", "slope per 10 tokens, inside", "mean recall, inside"):
        assert rows.loc[f"recall: {name}", "n_prompts"] == 2
    assert "recall" not in rows.index


def test_an_axis_is_what_the_study_says_and_not_what_its_levels_look_like(tmp_path: Path) -> None:
    """Plain values that look like orders, places of a needle and arms of a ladder have none of those findings."""
    run_study(parse_study(ALIKE), Store(tmp_path), RunOptions(passports_n=0))
    assert {column.kind for column in study_axes(Store(tmp_path), "alike")} == {"values"}
    assert set(findings(Store(tmp_path), "alike")["module"]) <= {"specificity"}
    assert set(findings(Store(tmp_path), "alike")["finding"]) == {"compounding"}


def test_what_is_kept_ends_at_the_limit() -> None:
    tokens = open_tokens(shipped_folder() / "pipeline" / "tokenizer")
    long = "a red cup " * 40
    assert tokens.ids(long) == tokens.ids(long + "and a dog") != tokens.ids("a dog " + long)
    assert tokens.ids("a red cup") != tokens.ids("a red cup and") and len(tokens.ids(long)) == 77


def test_pictures_are_compared_under_the_same_settings_alone(home: Path) -> None:
    kept = kept_prompts(study_scores(Store(home), "one"))
    assert len(kept) == 10 and kept["kept"].nunique() == 9
    assert not len(kept_prompts(study_scores(Store(home), "two"))), "the renderer reads no tokens"


def test_the_table_is_printed(home: Path) -> None:
    from typer.testing import CliRunner

    from promptlab.cli import app

    for what in ("findings", "mixed"):
        done = CliRunner().invoke(app, ["table", "two", what, "--home", str(home), "--json"])
        assert done.exit_code == 0, done.output
    assert len(promptlab.load("two", home).mixed()) == 0
