"""Running a study: what is there is not made again, what is new is, and the contrasts come out as planted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drawn_study import DRAWN
from promptlab.errors import LockedError, ModelError, StudyError
from promptlab.records import ContrastEffect, Measure
from promptlab.results import tables
from promptlab.results.contrasts import contrast_effects
from promptlab.run import Summary, run_study
from promptlab.run.options import RunOptions
from promptlab.run.plan import plan_study
from promptlab.run.tracing import Models
from promptlab.store import Store
from promptlab.study.study import parse_study

STUDY = f"""{DRAWN}\
contrasts:
  - {{{{name: swapping, measure: exposure.mean_luma, axis: assignment, levels: [swapped, as_written],
     family: confirmatory}}}}
"""


def run(home: Path, scales: str = "[1, 5]", seeds: int = 2, probes: str = "exposure", model: str = "truth") -> Summary:
    text = STUDY.format(scales=scales, seeds=seeds, probes=probes, model="swap=0.0" if model == "truth" else model)
    if not probes:
        text = text.split("contrasts:")[0]
    return run_study(parse_study(text), Store(home), RunOptions(passports_n=0))


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert first.made == {"ok": 16} and first.scores == 16 * 6 and first.failed == 0
    (log,) = tmp_path.glob("runs/drawn/*.log")
    assert "exposure-" in log.read_text("utf-8")
    again = run(tmp_path)
    assert not again.made and not again.scores and again.plan.made == 16
    more = run(tmp_path, scales="[1, 5, 9]")
    assert more.made == {"ok": 8} and more.plan.made == 16
    seed = run(tmp_path, scales="[1, 5, 9]", seeds=3)
    assert seed.made == {"ok": 12}
    store = Store(tmp_path)
    counts = store.query("SELECT count(*) AS n, count(DISTINCT image) AS d FROM scored WHERE measure = 'mean_luma'")
    assert counts.to_numpy().tolist() == [[36, 36]]
    assert store.query("SELECT sum(missing) AS n FROM completeness")["n"].tolist() == [0]


def test_a_probe_added_later_makes_no_picture(tmp_path: Path) -> None:
    assert run(tmp_path, probes="").scores == 0
    later = run(tmp_path, probes="exposure")
    assert not later.made and later.scores == 16 * 6


def test_a_study_that_is_running_is_locked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.open_run("drawn"), pytest.raises(LockedError, match="drawn"):
        run(tmp_path)


def test_nothing_is_left_by_a_study_that_cannot_be(tmp_path: Path) -> None:
    study = parse_study(STUDY.format(scales="[1]", seeds=1, probes="exposure", model="swap=2"))
    with pytest.raises(Exception, match="swap"):
        run_study(study, Store(tmp_path), RunOptions(passports_n=0))
    with pytest.raises(StudyError):
        parse_study("name: x")


def test_contrasts_pair_by_prompt_and_seed(tmp_path: Path) -> None:
    summary = run(tmp_path, seeds=3)
    (effect,) = summary.effects
    assert (effect.n_groups, effect.n_pairs, effect.n_dropped) == (2, 12, 0)
    scores = Store(tmp_path).query(
        "SELECT prompt_group, levels['assignment'] AS arm, avg(value) AS mean FROM scored "
        "WHERE measure = 'mean_luma' GROUP BY ALL"
    )
    table = scores.pivot(index="prompt_group", columns="arm", values="mean")
    assert effect.estimate == pytest.approx(float((table["swapped"] - table["as_written"]).mean()))
    assert effect.p_adjusted == effect.p
    stored = tables.effects(Store(tmp_path), "drawn")
    assert stored["estimate"].tolist() == [pytest.approx(effect.estimate)]
    again = contrast_effects(Store(tmp_path), summary.plan.study)
    assert again == summary.effects


@pytest.mark.parametrize("passports_n", [0, 20])
def test_the_answer_ends_in_a_sentence(tmp_path: Path, passports_n: int) -> None:
    from promptlab.cli.study import show_answer
    from promptlab.cli.terminal import console

    study = parse_study(STUDY.format(scales="[1, 5]", seeds=2, probes="exposure, binding", model="swap=0.0"))
    store = Store(tmp_path)
    summary = run_study(study, store, RunOptions(passports_n=passports_n))
    with console.capture() as captured:
        show_answer(study, store, summary)
    text = captured.get()
    assert 'Prompts like "a photo of a red cup and a blue chair" came out right in' in text and "swapping" in text
    assert ("no passport" in text) == (passports_n == 0)
    shares = tables.outcome_shares(store, "drawn").set_index("outcome")
    assert shares.loc["correct", "share"] > 0.8 and shares["n"].max() == 16


def test_the_plan_counts_before_anything_is_made(tmp_path: Path) -> None:
    study = parse_study(STUDY.format(scales="[1, 5]", seeds=2, probes="exposure", model="swap=0.0"))
    plan = plan_study(study, Store(tmp_path))
    assert (plan.planned, plan.images, plan.made, len(plan.missing), plan.groups) == (16, 16, 0, 16, 2)
    run(tmp_path)
    after = plan_study(study, Store(tmp_path))
    assert (after.made, len(after.missing)) == (16, 0) and after.seconds is not None


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\nquestion: why\npromt: {}\n")

    def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "promptlab", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    bad = cli("run", "bad.yaml", "--home", "home")
    assert bad.returncode == 2 and "bad.yaml:3:1" in bad.stderr and "prompt" in bad.stderr
    assert "Traceback" not in bad.stderr
    assert cli("init", "mine").returncode == 0
    assert cli("validate", "studies/mine.yaml").returncode == 0
    assert cli("init", "mine").returncode == 2
    assert cli("status", "--home", "home").returncode == 0


def test_each_column_has_its_own_corrected_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from promptlab.cli.study import show_answer
    from promptlab.cli.terminal import console

    study = parse_study(STUDY.format(scales="[1, 5]", seeds=1, probes="exposure, binding", model="swap=0.0"))
    store = Store(tmp_path)
    summary = run_study(study, store, RunOptions(passports_n=0))
    shares = tables.outcome_shares(store, "drawn", "guidance_scale")
    for level, corrected in (("1", 0.11), ("5", 0.55)):
        shares.loc[(shares["level"] == level) & (shares["outcome"] == "correct"), "corrected"] = corrected
    monkeypatch.setattr(tables, "outcome_shares", lambda *_: shares)
    with console.capture() as captured:
        show_answer(study, store, summary)
    (line,) = [line for line in captured.get().splitlines() if line.startswith("correct, corrected")]
    assert "11%" in line and "55%" in line


def test_a_contrast_may_ask_about_one_object(tmp_path: Path) -> None:
    text = STUDY.format(scales="[1]", seeds=2, probes="binding", model="swap=1.0").split("contrasts:")[0]
    text = text.replace("axes:", "axes:\n  objects: {alone: [first, second]}")
    text += """contrasts:
  - {name: interferes, measure: binding.colour, target: first, axis: objects, levels: [together, first],
     where: {assignment: as_written}}
"""
    summary = run_study(parse_study(text), Store(tmp_path), RunOptions(passports_n=0))
    (effect,) = summary.effects
    assert (effect.target, effect.n_groups, effect.n_pairs) == ("first", 2, 4)
    assert effect.mean_b is not None and effect.mean_b >= 0.75 and effect.estimate is not None
    assert effect.estimate <= -0.5, "together their colours are exchanged, alone there is nothing to exchange"


def test_a_contrast_about_what_nobody_scored_says_so(tmp_path: Path) -> None:
    text = STUDY.format(scales="[1, 5]", seeds=1, probes="exposure", model="swap=0.0")
    text += "  - {name: luma, measure: exposure.mean_luma, target: first, axis: guidance_scale, levels: [5, 1]}\n"
    _, about_first = run_study(parse_study(text), Store(tmp_path), RunOptions(passports_n=0)).effects
    assert about_first.estimate is None and about_first.reason == (
        "no score of mean_luma at these levels is about first: it is about the whole picture; leave out the target"
    )


def test_the_answer_in_words_says_direction_and_interval() -> None:
    from promptlab.cli.study import in_words

    study = parse_study(STUDY.format(scales="[1, 5]", seeds=2, probes="exposure", model="swap=0.0"))
    (contrast,) = study.contrasts
    known = {"accuracy": Measure("accuracy", "", "1 or 0", 0, 1), "mean_luma": Measure("mean_luma", "", "0 to 1")}

    def sentences(measure: str, *numbers: float | None, says: str | None = "naming the chair first") -> list[str]:
        named = study.model_copy(update={"contrasts": (contrast.model_copy(update={"says": says}),)})
        effect = ContrastEffect("drawn", contrast.name, "p", "p-1-00000000", measure, "", *numbers, n_groups=24)
        return in_words(named, Summary(plan_study(study, None), effects=(effect,), measures=known))

    assert sentences("accuracy", -0.06, -0.1, -0.02) == ["Naming the chair first lowers accuracy by 6 points [2, 10]."]
    assert sentences("mean_luma", 0.31, 0.2, 0.4) == ["Naming the chair first raises mean luma by 0.31 [0.2, 0.4]."]
    assert sentences("accuracy", 0.01, -0.04, 0.06) == [
        "Naming the chair first: no change of accuracy that 24 prompts show (+1 points [-4, +6])."
    ]
    assert sentences("accuracy", 0.3, 0.2, 0.4, says=None) == [
        "Assignment swapped, not as_written, raises accuracy by 30 points [20, 40]."
    ]
    assert sentences("accuracy", None, None, None) == []


def test_a_traced_model_is_closed_when_a_probe_cannot_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Open(Models):
        closed = 0

        def close(self) -> None:
            Open.closed += 1
            super().close()

    def refuse(*_: object) -> None:
        raise ModelError("the judge is gone")

    monkeypatch.setattr("promptlab.run.score.Models", Open)
    run(tmp_path / "fine")
    assert Open.closed == 1
    monkeypatch.setattr("promptlab.analyzer.probes.exposure.Exposure.score", refuse)
    with pytest.raises(ModelError, match="the judge is gone"):
        run(tmp_path / "broken")
    assert Open.closed == 2
