"""Plans: what a design can find, refused with advice that holds; and a plan that a run takes over from its caller."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drawn_study import DRAWN
from promptlab.cli import app
from promptlab.errors import PromptlabError, StudyError
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.run.plan import families_of, plan_facts, plan_study, power_table
from promptlab.stats.power import smallest_detectable
from promptlab.store import Store
from promptlab.study.study import Study, parse_study

STUDY = """\
name: detecting
question: Can this find what it looks for?
backend: renderer
prompt:
  template: "a photo of {{first}} and {{second}}"
  objects: {{first: {{noun: "{{a}}", colour: red}}, second: {{noun: chair, colour: blue}}}}
axes:
  a: [cup, car, hat, ball, box, tree]
  order: {{order: [first, second]}}
  guidance_scale: [1, 5]
exclude: [{{a: hat, guidance_scale: 5}}]
seeds: {seeds}
probes: [binding, exposure]
contrasts:
  - {{name: order, measure: {measure}, axis: order, levels: ["second, first", "first, second"], family: {family}{more}}}
"""


def study(more: str = "", measure: str = "binding.correct", family: str = "exploratory", seeds: int = 4) -> Study:
    return parse_study(STUDY.format(more=more, measure=measure, family=family, seeds=seeds))


def study_any() -> Study:
    text = STUDY.format(more="", measure="binding.correct", family="exploratory", seeds=1)
    return parse_study(text.split("contrasts:")[0])


def test_families_are_those_that_pair() -> None:
    plan = plan_study(study(), None)
    contrast = plan.study.contrasts[0]
    assert plan.groups == 6 and families_of(contrast, plan.cells) == 6
    assert families_of(contrast.model_copy(update={"where": {"guidance_scale": 5}}), plan.cells) == 5
    across = contrast.model_copy(update={"axis": "guidance_scale", "levels": (1, 5.0)})
    assert families_of(across, plan.cells) == 5


def test_a_design_that_cannot_is_refused_with_one_that_can() -> None:
    with pytest.raises(StudyError) as caught:
        plan_study(study(", detect: 0.2"), None)
    message = str(caught.value)
    assert caught.value.exit_code == 2 and re.match(r"study.yaml:\d+:\d+: ", message)
    able = smallest_detectable(6, 4)
    assert able is not None and f"{able:.2f} or more" in message and "6 prompt families, 4 seeds" in message
    n = int(re.search(r"take (\d+) families", message)[1])  # type: ignore[index]
    enough, less = smallest_detectable(n, 4), smallest_detectable(n - 1, 4)
    assert enough is not None and less is not None and enough <= 0.2 < less
    m = int(re.search(r"or (\d+) seeds", message)[1])  # type: ignore[index]
    enough, less = smallest_detectable(6, m), smallest_detectable(6, m - 1)
    assert enough is not None and less is not None and enough <= 0.2 < less


def test_a_design_that_can_is_planned_and_an_old_run_is_scored() -> None:
    assert plan_study(study(", detect: 0.9"), None).study.contrasts[0].detect == 0.9
    assert plan_study(study(", detect: 0.01"), None, make=False).cells


def test_what_no_seeds_can_find_says_so() -> None:
    # the sd of the effect over prompts alone keeps 6 families from it
    with pytest.raises(StudyError, match=r"it would take \d+ families(\n|$)"):
        plan_study(study(", detect: 0.05"), None)


def test_only_rates_can_be_promised() -> None:
    with pytest.raises(StudyError, match=r"exposure\.mean_luma is no rate"):
        plan_study(study(", detect: 0.2", "exposure.mean_luma"), None)


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "much"])
def test_detect_is_a_share(value: str) -> None:
    with pytest.raises(StudyError, match="detect"):
        study(f", detect: {value}")


def test_the_table_of_a_plan() -> None:
    table = power_table(6, 4)
    assert [(one.families, one.seeds) for one in table] == [(6, 4), (6, 8), (12, 4), (12, 8), (24, 4), (24, 8)]
    assert all(one.detectable == smallest_detectable(one.families, one.seeds) for one in table)
    facts = plan_facts(plan_study(study(), None))
    assert facts["power"][0] == {"families": 6, "seeds": 4, "detectable": smallest_detectable(6, 4)}
    assert plan_study(study_any(), None).power == ()


def test_simulate_shows_why_the_prompt_is_the_unit() -> None:
    command = ["simulate", "--studies", "60", "--seeds", "1", "--seeds", "16", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    one, many = json.loads(done.stdout)
    assert many["over_pictures"] > 0.2 > many["over_prompts"] and one["seeds"] == 1
    assert many["over_prompts_low"] <= 0.05 <= many["over_prompts_high"]
    assert "over pictures" in CliRunner().invoke(app, [*command[:-1]]).stdout


QUICK = RunOptions(passports_n=0)


def drawn(seeds: int = 2, name: str = "drawn") -> Study:
    text = DRAWN.format(scales="[1, 5]", seeds=seeds, probes="exposure", model="swap=0.0")
    return parse_study(text.replace("name: drawn", f"name: {name}"))


def test_a_run_takes_over_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, store = drawn(), Store(tmp_path)
    plan = plan_study(study, store)
    with monkeypatch.context() as patch:
        patch.setattr("promptlab.run.plan_study", lambda *_, **__: pytest.fail("planned twice"))
        assert run_study(study, store, QUICK, plan=plan).made == {"ok": 16}
    assert set(store.images()) == set(plan.jobs) and plan.images == 16


def test_what_was_made_since_the_plan_is_not_made_twice(tmp_path: Path) -> None:
    study, store = drawn(seeds=3), Store(tmp_path)
    plan = plan_study(study, store)
    assert run_study(drawn(seeds=2, name="another"), Store(tmp_path), QUICK).made == {"ok": 16}
    summary = run_study(study, store, QUICK, plan=plan)
    assert summary.made == {"ok": 8} and (summary.plan.made, len(summary.plan.missing)) == (16, 8)
    assert not run_study(study, store, QUICK, plan=plan).made
    for file in tmp_path.glob("images/**/*.png"):
        file.unlink()
    assert run_study(study, store, QUICK, plan=plan).made == {"ok": 24}, "what is gone since is made again"


def test_a_plan_of_something_else_is_refused(tmp_path: Path) -> None:
    study, store = drawn(), Store(tmp_path / "here")
    plan = plan_study(study, store)
    for other, home, options, what in (
        (drawn(seeds=3), store, QUICK, "study"),
        (study, Store(tmp_path / "elsewhere"), QUICK, "store"),
        (study, store, RunOptions(make=False), "make"),
    ):
        with pytest.raises(PromptlabError, match=f"plan is of another .*{what}"):
            run_study(other, home, options, plan=plan)
    assert not list(tmp_path.glob("*/runs/**/*.jsonl"))
