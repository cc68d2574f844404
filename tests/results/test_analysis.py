"""Results as frames: what they say of a study that was drawn, what they refuse, and how little loading costs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import promptlab
from drawn_study import DRAWN
from judges import random_parser
from promptlab.errors import PromptlabError, StoreError
from promptlab.records import Score
from promptlab.results import Results, tables
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.stats.hypotheses import benjamini_hochberg
from promptlab.store import Store
from promptlab.study.study import parse_study

CONTRASTS = """\
contrasts:
  - {name: lighter, measure: exposure.mean_luma, axis: assignment, levels: [swapped, as_written]}
  - {name: fuller, measure: exposure.colourfulness, axis: assignment, levels: [swapped, as_written]}
  - {name: held, measure: exposure.mean_luma, axis: guidance_scale, levels: [1, 5], family: confirmatory}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Results:
    home = tmp_path_factory.mktemp("analysis")
    probes = f'exposure, {{name: binding, parser: "{random_parser()}"}}'
    text = DRAWN.format(model="swap=0.5", scales="[1, 5]", seeds=2, probes=probes)
    run_study(parse_study(text + CONTRASTS), Store(home), RunOptions(passports_n=0))
    loaded: Results = promptlab.load("drawn", home)
    return loaded


def test_names(found: Results) -> None:
    assert found.axes()["guidance_scale"] == ["1", "5"] and set(found.axes()["assignment"]) == {"as_written", "swapped"}
    measures = found.measures().set_index("measure")
    assert measures.loc["exposure.mean_luma", "n"] == 16 and measures.loc["binding.correct", "upper"] == 1
    assert found.studies()["study"].tolist() == ["drawn"]
    assert found.completeness()[["status", "n"]].to_numpy().tolist() == [["ok", 16]]


def test_a_curve_is_the_mean_with_its_n(found: Results) -> None:
    curve = found.curve("exposure.mean_luma", "guidance_scale")
    assert curve["number"].tolist() == [1.0, 5.0] and curve["n"].tolist() == [8, 8] and set(curve["tier"]) == {"T0"}
    by_hand = found.sql(
        "SELECT avg(value) AS mean FROM scored WHERE measure = 'mean_luma' AND levels['guidance_scale'] = '5'"
    )["mean"].iloc[0]
    assert curve["mean"].iloc[1] == pytest.approx(by_hand)
    assert (curve["low"] <= curve["mean"]).all() and (curve["mean"] <= curve["high"]).all()
    assert found.curve("mean_luma", "assignment")["number"].isna().all()
    pd.testing.assert_frame_equal(found.curve("mean_luma", "guidance_scale"), curve)


def test_effects_say_tier_and_q_of_the_exploratory_alone(found: Results) -> None:
    effects = found.effects().set_index("contrast")
    assert set(effects["tier"]) == {"T0"} and {"estimate", "low", "high", "n_groups"} <= set(effects.columns)
    assert pd.isna(effects.loc["held", "q"]) and pd.notna(effects.loc["held", "p_adjusted"])
    explored = effects.loc[["fuller", "lighter"]]
    assert explored["q"].tolist() == pytest.approx(benjamini_hochberg(explored["p"].tolist()).tolist())
    assert explored["p_adjusted"].isna().all()


def test_the_mixed_model_of_the_contrasts(found: Results) -> None:
    rows, beside = found.mixed().set_index("contrast"), found.effects().set_index("contrast")
    assert set(rows.index) == set(beside.index) and set(rows["tier"]) == {"T0"}
    for name in rows.index:
        assert rows.loc[name, "estimate"] == pytest.approx(beside.loc[name, "estimate"])
        assert rows.loc[name, "over_prompts"] == beside.loc[name, "estimate"]
        assert rows.loc[name, "n_pairs"] == beside.loc[name, "n_pairs"] and rows.loc[name, "n_seeds"] == 2


def test_outcomes_leakage_ranking_and_passports_are_the_tables(found: Results) -> None:
    pd.testing.assert_frame_equal(
        found.outcomes("assignment"), tables.outcome_shares(found.store, "drawn", "assignment")
    )
    pd.testing.assert_frame_equal(found.leakage("pair"), tables.leakage(found.store, "drawn", "pair"))
    assert len(found.ranking("exposure.mean_luma", "assignment")) == 2
    assert not len(found.passports())


def test_of_several_probes_one_is_asked(found: Results, tmp_path: Path) -> None:
    """What `blip_vqa` and raters say of the same measure is not what `binding` says."""
    shutil.copytree(found.store.home.path, tmp_path / "home")
    store = Store(tmp_path / "home")
    images = found.sql("SELECT DISTINCT image, levels['guidance_scale'] AS w FROM scored").to_numpy().tolist()
    with store.open_run("drawn") as run:
        for image, w in images:
            for probe, label in (("blip_vqa", "correct" if w == "5" else "fused"), ("human", "a")):
                run.add(Score(image, probe, f"{probe}-1-0", "correct", "", float(label == "correct"), label))
    store.publish()
    both = promptlab.load("drawn", tmp_path / "home")
    pd.testing.assert_frame_equal(
        both.ranking("binding.correct", "guidance_scale"), found.ranking("binding.correct", "guidance_scale")
    )
    judged = both.ranking("blip_vqa.correct", "guidance_scale")
    assert judged["level"].tolist() == ["5", "1"] and judged["mean"].tolist() == [1.0, 0.0]
    told = both.images(measures=())["outcome"].tolist()
    assert told == found.images(measures=())["outcome"].tolist() and "a" not in told
    assert set(both.images(measures=(), probe="blip_vqa")["outcome"]) == {"correct", "fused"}
    with pytest.raises(PromptlabError, match=r"no outcome by 'blip_vqq': it has those by .* did you mean 'blip_vqa'"):
        both.images(probe="blip_vqq")


def test_pictures_are_filtered_ordered_and_paged(found: Results) -> None:
    everything = found.images(measures=["exposure.mean_luma"])
    assert len(everything) == 16 and all(Path(path).is_file() for path in everything["path"])
    some = found.images({"guidance_scale": 5, "assignment": "swapped"}, order="mean_luma", descending=True)
    assert len(some) == 4 and {levels["guidance_scale"] for levels in some["levels"]} == {"5"}
    luma = some["exposure.mean_luma"].tolist()
    assert luma == sorted(luma, reverse=True)
    by_hand = found.sql("SELECT image, value FROM scored WHERE measure = 'mean_luma'").set_index("image")["value"]
    assert luma == pytest.approx([by_hand[image] for image in some["image"]])
    pages = [found.images(measures=(), limit=6, offset=k)["image"].tolist() for k in (0, 6, 12)]
    assert [image for page in pages for image in page] == everything["image"].tolist()
    outcome = str(everything["outcome"].dropna().iloc[0])
    alike = found.images({"outcome": outcome, "seed": 0}, measures=())
    here = everything[(everything["outcome"] == outcome) & (everything["seed"] == 0)]
    assert alike["image"].tolist() == here["image"].tolist()
    assert not len(found.images({"status": "missing"}))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda f: f.curve("mean_luna", "assignment"), "no measure 'mean_luna'"),
        (lambda f: f.curve("exposure.mean_luma", "assignmen"), "did you mean 'assignment'"),
        (lambda f: f.curve("binding.mean_luma", "assignment"), "no measure 'binding.mean_luma'"),
        (lambda f: f.images({"steps": 3}), "no axis 'steps'"),
        (lambda f: f.images(limit=0), "limit 0"),
        (lambda f: Results(f.store).effects(), "needs a study"),
        (lambda f: promptlab.load("drawm", f.store.home.path), "did you mean 'drawn'"),
    ],
)
def test_wrong_names_say_what_is_there(found: Results, ask: object, said: str) -> None:
    with pytest.raises(PromptlabError, match=said):
        ask(found)  # type: ignore[operator]


def test_hostile_values_are_values(found: Results) -> None:
    assert not len(found.images({"outcome": "x' OR 1=1 --"}))


def test_nothing_was_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        promptlab.load("x", tmp_path)


def test_importing_loads_nothing() -> None:
    code = "import promptlab, sys; assert not {'pandas', 'numpy', 'duckdb', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute"):
        _ = promptlab.lode
