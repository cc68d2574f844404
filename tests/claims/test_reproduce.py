"""Published results run again: the studies that ship, on stand-ins, and the verdict against a planted truth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from places import BENCHMARKS, STUDIES
from promptlab.claims.published import as_measured, compare, sentences
from promptlab.errors import StudyError
from promptlab.records import Prompt
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.grid import count_images, expand
from promptlab.study.study import GivenSettings, Study, load_study, parse_study

PUBLISHED = STUDIES / "published"
FILES = sorted(PUBLISHED.glob("*.yaml"))
PAIRS = (("red", "cup", "blue", "chair"), ("blue", "cup", "red", "chair"), ("green", "car", "pink", "hat"))


@pytest.fixture(autouse=True)
def benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lists of the same forms and names as the published ones, in the words of the drawn world."""
    place = tmp_path / "benchmarks"
    lines = [f"a {a} {m} and a {b} {n}" for a, m, b, n in PAIRS]
    photos = [f"a photo of {line}" for line in lines]
    rows = [
        {
            "tag": "color_attr",
            "prompt": photo,
            "include": [{"class": m, "count": 1, "color": a}, {"class": n, "count": 1, "color": b}],
        }
        for photo, (a, m, b, n) in zip(photos, PAIRS, strict=True)
    ]
    rows.append({"tag": "single_object", "prompt": "a photo of a dog", "include": [{"class": "dog", "count": 1}]})
    for name, text in {
        "t2i_compbench/color_val.txt": "\r\n".join(lines),
        "tiam/2_colored_entities/prompts.txt": "\n".join(photos),
        "geneval/evaluation_metadata.jsonl": "\n".join(map(json.dumps, rows)),
    }.items():
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text(text + "\n")
    monkeypatch.setenv("PROMPTLAB_BENCHMARKS", str(place))
    return place


def small(study: Study, **changes: object) -> Study:
    """As few steps, pixels and seeds as a stand-in needs."""
    settings = study.settings.model_dump(exclude_unset=True) | {"num_inference_steps": 2, "height": 128, "width": 128}
    update = {"settings": GivenSettings(**settings), "seeds": study.seeds[:2], **changes}
    return study.model_copy(update=update)


def test_there_are_the_three_self_checks() -> None:
    assert Counter(path.stem.split("_")[0] for path in FILES) == {"geneval": 2, "t2i": 1, "tiam": 1}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_published_study_runs_end_to_end_on_the_miniature(path: Path, tmp_path: Path) -> None:
    written = load_study(path)
    assert written.name == path.stem and all(result.source for result in written.published)
    study = as_measured(written, "binding.correct" if "t2i" in path.stem else None, "miniature")
    study = small(study, probes=tuple(use for use in study.probes if not use.name.startswith("clip")))
    store = Store(tmp_path / "home")
    summary = run_study(study, store, RunOptions(passports_n=0))
    assert sum(summary.made.values()) == 6 and summary.made["ok"] + summary.made["degenerate"] == 6
    compared = compare(study, store)
    assert [c.published.name for c in compared] == [result.name for result in written.published]
    for comparison in compared:
        assert comparison.tier == "T1" and comparison.interval.n == summary.made["ok"]
        told = "\n".join(sentences(comparison, written))
        assert f"published {comparison.published.value:g} +- {comparison.published.tolerance:g}" in told
        assert str(comparison.verdict) in told and "stands in for" in told
    assert store.query("SELECT DISTINCT prompt FROM cell")["prompt"].nunique() == 3


TRUTH = """
published:
  - {name: right, measure: binding.correct, value: 1.0, tolerance: 0.02, source: drawn}
  - {name: wrong, measure: binding.correct, value: 0.5, tolerance: 0.1, source: drawn}
  - {name: swapped, measure: binding.swap, value: 0.0, tolerance: 0.1, source: drawn, where: {tag: color_attr}}
"""
DRAWN = """
name: drawn
question: Does the renderer draw what is asked?
backend: renderer
model: "swap=0.0"
prompt: {template: "{text}"}
axes: {text: {prompts: geneval/evaluation_metadata.jsonl, only: {tag: color_attr}}}
seeds: 4
probes: [binding]
"""


def test_inside_and_outside_against_drawn_truth(tmp_path: Path) -> None:
    study, store = parse_study(DRAWN + TRUTH), Store(tmp_path / "home")
    run_study(study, store, RunOptions(passports_n=0))
    right, wrong, swapped = compare(study, store)
    assert (right.verdict, wrong.verdict, swapped.verdict) == ("inside", "outside", "inside")
    assert (right.interval.estimate, right.interval.n, right.interval.n_groups) == (1.0, 12, 2)  # twins are one family
    assert "here: 1.000 [" in "\n".join(sentences(right, study)) and "tier T0" in "\n".join(sentences(right, study))


def test_what_was_not_measured_is_neither(tmp_path: Path) -> None:
    text = DRAWN.replace("seeds: 4", "seeds: 1\nsettings: {height: 64, width: 64}") + TRUTH
    study, store = parse_study(text), Store(tmp_path / "home")
    run_study(study, store, RunOptions(passports_n=0))  # the renderer refuses the size, so there is no picture
    assert {c.verdict for c in compare(study, store)} == {None}
    pictures = tmp_path / "pictures"
    from elsewhere import picture, take_in

    picture(pictures / "a red cup and a blue chair_000000.png")
    taken = take_in(pictures, tmp_path, probes=("binding",)).study
    asked = taken.model_copy(update={"published": study.published[:1]})
    run_study(asked, store, RunOptions(passports_n=0))
    (comparison,) = compare(asked, store)
    told = "\n".join(sentences(comparison, asked))
    assert comparison.verdict is None and comparison.reasons[0][1] == 1
    assert "neither inside nor outside" in told and "the scene parser reads 128x128" in told


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(StudyError, match="has no published results"):
        as_measured(parse_study(DRAWN))
    with pytest.raises(StudyError, match=r"nothing here measures what was published \(BLIP-VQA"):
        as_measured(load_study(PUBLISHED / "t2i_compbench_color_sd2.yaml"))
    asked = as_measured(parse_study(DRAWN + TRUTH), "exposure.mean_luma", "other")
    assert {result.measure for result in asked.published} == {"exposure.mean_luma"} and asked.model == "other"
    assert [use.name for use in asked.probes] == ["binding", "exposure"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("binding.correct, value: 1.0", "bindings.correct, value: 1.0", "did you mean 'binding'"),
        ("name: wrong", "name: right", "stands twice"),
        ("{tag: color_attr}}", "{tag: colours}}", "is no level of 'tag'"),
        ("tolerance: 0.02", "tolerance: 0", "more than 0"),
        (", source: drawn}", "}", "'source' is missing"),
        ("value: 1.0", "valeu: 1.0", "did you mean 'value'"),
    ],
)
def test_mistakes_in_published_results(old: str, new: str, message: str) -> None:
    assert old in TRUTH
    with pytest.raises(StudyError, match=message):
        parse_study(DRAWN + TRUTH.replace(old, new, 1))


def test_the_published_studies_on_their_own_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    if not BENCHMARKS.is_dir():
        pytest.skip(f"no benchmarks at {BENCHMARKS}")
    monkeypatch.setenv("PROMPTLAB_BENCHMARKS", str(BENCHMARKS))
    studies = {path.stem: load_study(path) for path in FILES if "tiam" not in path.stem}
    counts = {name: count_images(study) for name, study in studies.items()}
    assert counts == {"geneval_color_attr_sd15": 400, "geneval_color_attr_sdxl": 400, "t2i_compbench_color_sd2": 3000}
    prompts: list[Prompt] = [cell.prompt for cell in expand(studies["geneval_color_attr_sdxl"])]
    assert all(len(prompt.bindings) == 2 for prompt in prompts)
    with pytest.raises(StudyError, match=r"there is no tiam/2_colored_entities/prompts\.txt"):
        load_study(PUBLISHED / "tiam_colored_pairs_sd14.yaml")


def test_the_command(tmp_path: Path) -> None:
    bright = DRAWN.replace("seeds: 4", "seeds: 1").replace("[binding]", "[exposure]")
    first = "\n".join(TRUTH.splitlines()[:3]).replace("binding.correct", "exposure.mean_luma")
    (tmp_path / "drawn.yaml").write_text(bright + first)
    command = [sys.executable, "-m", "promptlab", "reproduce", "drawn.yaml", "--home", "home"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "drawn, right: published 1 +- 0.02 (drawn)" in done.stdout and "outside" in done.stdout
    plain = subprocess.run([*command[:3], "run", "no.yaml"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert plain.returncode == 2
