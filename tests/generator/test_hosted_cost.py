"""Closed systems cost money: what a plan counts, what a run may spend, and what stops it."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from closed_server import KEY, serving
from promptlab.cli import main
from promptlab.errors import ModelError, StudyError
from promptlab.generator.backends import hosted
from promptlab.generator.backends.hosted import LIST, Budget, list_price
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.run.plan import plan_facts, plan_study
from promptlab.store import Store
from promptlab.study.study import Study, parse_study, with_budget

OPENAI, GEMINI = "openai:gpt-image-1", "gemini:gemini-2.5-flash-image"
STUDY = """\
name: paid
question: What may a run spend?
prompt: {template: "a photo of {thing}", objects: {thing: {noun: "{noun}", colour: "{paint}"}}}
axes:
  paint: [red, blue, green, yellow, black, white, pink, orange, purple, brown]
  noun: [cup]
backend: hosted
probes: [exposure]
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(hosted, "load", partial(hosted.load, timeout=0.5, sleep=lambda _: None))
    yield from serving(monkeypatch)


def text(model: str = OPENAI, *lines: str) -> str:
    sized = ("settings: {width: 1024, height: 1024}",) if model.startswith("openai") else ()
    return "\n".join((STUDY + f"model: {model}", *sized, *lines, ""))


def study(model: str = OPENAI, *lines: str) -> Study:
    return parse_study(text(model, *lines))


def test_list_prices() -> None:
    assert len({(p.model, p.quality, p.size) for p in LIST}) == len(LIST) == 10
    assert all(p.usd > 0 and p.date and p.source for p in LIST)
    # what no quality was asked for may cost the dearest
    assert [p.usd for p in (list_price(OPENAI, 1024, 1024), list_price(OPENAI, 1536, 1024)) if p] == [0.167, 0.25]
    assert (price := list_price(GEMINI, 512, 512)) and price.usd == 0.039
    assert list_price(OPENAI, 512, 512) is None and list_price("openai:unheard-of", 1024, 1024) is None


def test_a_budget_is_never_overdrawn() -> None:
    budget = Budget(1.0)
    taken: list[bool] = []

    def calls() -> None:
        for i in range(100):
            if budget.take(0.1):
                taken.append(True)
                budget.settle(0.1, charged=i % 3 == 0)

    threads = [threading.Thread(target=calls) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # ten tenths fit, and calls that cost nothing kept no room from another
    assert budget.spent == pytest.approx(1.0) and len(taken) > 10
    assert not budget.take(0.1) and not Budget(1.0).take(None) and Budget().take(None)


def test_a_call_waits_for_one_that_may_cost_nothing() -> None:
    budget, got = Budget(1.0), []
    assert budget.take(1.0)
    other = threading.Thread(target=lambda: got.append(budget.take(1.0)))
    other.start()
    other.join(0.05)
    assert other.is_alive() and not got
    budget.settle(1.0, charged=False)
    other.join(5)
    assert got == [True]


def test_a_plan_counts_dollars(server: Any) -> None:
    plan = plan_study(study(), None)
    assert (
        plan.cost
        and plan.cost.usd == pytest.approx(1.67)
        and "2025-05" in plan.cost.basis
        and "high" in plan.cost.basis
    )
    assert plan_facts(plan)["cost_usd"] == pytest.approx(1.67) and plan_facts(plan)["budget_usd"] is None
    assert (cost := plan_study(study(GEMINI), None).cost) and cost.usd == pytest.approx(0.39)
    priced = plan_study(study(OPENAI, "price_per_image: 0.02"), None).cost
    assert priced and priced.usd == pytest.approx(0.2) and "price_per_image" in priced.basis
    with pytest.raises(StudyError, match=r"no list price of 'openai:new'.*price_per_image"):
        plan_study(study("openai:new"), None)
    assert (cost := plan_study(study("openai:new", "price_per_image: 1.0"), None).cost) and cost.usd == 10.0


def test_an_estimate_over_the_budget_is_refused() -> None:
    with pytest.raises(StudyError, match=r"^study paid: 10 missing .*\$1\.67 .* over the budget of \$1\.66;.*--budget"):
        plan_study(study(OPENAI, "budget_usd: 1.66"), None)
    assert plan_study(study(OPENAI, "budget_usd: 1.67"), None).cost
    assert plan_study(study(OPENAI, "budget_usd: 1.66"), None, make=False).cost is None  # to score costs nothing


def test_nobody_pays_by_accident(server: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"\$1\.67 .*--budget 1\.67"):
        run_study(study(), Store(tmp_path), RunOptions(passports_n=0))
    assert not server.keys and not Store(tmp_path).images()


def test_budgets_are_for_what_costs() -> None:
    free = "name: free\nquestion: Does it cost?\nprompt: {template: a cup}\n"
    for line in ("budget_usd: 1.0", "price_per_image: 1.0"):
        with pytest.raises(StudyError, match="only backend: hosted costs money"):
            parse_study(free + line + "\n")
    with pytest.raises(StudyError, match="--budget: pictures of the backend diffusion cost nothing"):
        with_budget(parse_study(free), 1.0)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(StudyError, match="above 0"):
            with_budget(study(), wrong)


def test_a_run_stops_before_it_passes_the_budget(server: Any, tmp_path: Path) -> None:
    paid_for_nothing = {"a photo of a red cup": ["junk", "base64"], "a photo of a blue cup": ["429", "500", "refuse"]}
    server.script = {key: list(faults) for key, faults in paid_for_nothing.items()}
    store = Store(tmp_path)
    limited = study(OPENAI, "budget_usd: 1.67")
    summary = run_study(limited, store, RunOptions(passports_n=0, batch_size=1))
    # ten pictures were affordable: two broken ones were paid for, a refusal and errors were not
    assert summary.made == {"ok": 8, "refused": 1} and summary.stopped
    assert "1 pictures stay missing" in summary.stopped and "$1.67" in summary.stopped
    assert summary.scores and len(store.images()) == 9
    again = run_study(limited, store, RunOptions(passports_n=0))
    assert again.made == {"ok": 1} and not again.stopped and len(again.plan.missing) == 1


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (OPENAI, "401"),
        (OPENAI, "403"),
        (OPENAI, "404"),
        (OPENAI, "empty"),
        (GEMINI, "401"),
        (GEMINI, "403"),
        (GEMINI, "no key"),
    ],
)
def test_a_closed_door_ends_the_run_at_once(server: Any, tmp_path: Path, model: str, fault: str) -> None:
    server.all = fault
    store = Store(tmp_path)
    with pytest.raises(ModelError, match=f"^{model} answers HTTP .*_API_KEY") as caught:
        run_study(study(model, "budget_usd: 9.0"), store, RunOptions(passports_n=0))
    assert "\n" not in str(caught.value) and KEY not in "".join(traceback.format_exception(caught.value))
    assert 1 <= len(server.keys) <= hosted.CALLS and not store.images()


def test_what_was_paid_for_is_kept_when_the_door_closes(server: Any, tmp_path: Path) -> None:
    server.script = {"a photo of a pink cup": ["empty"]}
    store = Store(tmp_path)
    with pytest.raises(ModelError, match="insufficient_quota"):
        run_study(study(OPENAI, "budget_usd: 9.0"), store, RunOptions(passports_n=0))
    assert {image.status for image in store.images().values()} == {"ok"}
    assert len(store.images()) == len(server.keys) - 1


def test_always_invalid_ends_as_invalid(server: Any, tmp_path: Path) -> None:
    server.script = {"a photo of a red cup": ["junk"] * hosted.ATTEMPTS}
    summary = run_study(study(OPENAI, "budget_usd: 9.0"), Store(tmp_path), RunOptions(passports_n=0))
    assert summary.made == {"ok": 9, "invalid_image": 1} and not summary.stopped


def test_gemini_through_a_run(server: Any, tmp_path: Path) -> None:
    server.script = {"a photo of a red cup": ["refuse"], "a photo of a blue cup": ["429", "cut"]}
    store = Store(tmp_path)
    summary = run_study(study(GEMINI, "budget_usd: 9.0"), store, RunOptions(passports_n=0))
    assert summary.made == {"ok": 9, "refused": 1} and summary.scores
    assert all(image.recipe["model"] == GEMINI for image in store.images().values())


def test_two_studies_pay_once(server: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = study(OPENAI, "budget_usd: 9.0")
    run_study(first, store, RunOptions(passports_n=0))
    calls = len(server.keys)
    second = run_study(parse_study(text().replace("name: paid", "name: thrifty")), store, RunOptions(passports_n=0))
    assert (second.plan.made, len(second.plan.missing), len(server.keys)) == (10, 0, calls)


def test_no_sdk_one_line(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, model in (("openai", OPENAI), ("google.genai", GEMINI)):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ModelError, match=r'needs the package .*pip install "promptlab-t2i\[hosted\]"'):
            hosted.load(model)


def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit code and both outputs of the real command; no traceback, no key."""
    monkeypatch.setattr("sys.argv", ["promptlab", *words])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capfd.readouterr()
    assert KEY not in out + err + "".join(traceback.format_exception(end.value)) and "Traceback" not in err
    return int(end.value.code or 0), out, err


def test_forty_cells_by_the_command(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_cli = partial(command, capfd, monkeypatch)
    file = tmp_path / "paid.yaml"
    file.write_text(text().replace("[cup]", "[cup, chair, ball, car]"))
    here = (str(file), "--home", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY")
    code, out, _ = run_cli("plan", *here)
    assert code == 0 and "OPENAI_API_KEY is not set" in out and "cost: about $6.68" in out
    code, _, err = run_cli("run", *here, "--budget", "7")
    assert code == 1 and "OPENAI_API_KEY" in err and len(err.splitlines()) == 1
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    code, _, err = run_cli("run", *here)
    assert code == 2 and "--budget 6.68" in err and len(err.splitlines()) == 1
    code, _, err = run_cli("plan", *here, "--budget", "6.67")
    assert code == 2 and "over the budget of $6.67" in err and len(err.splitlines()) == 1
    assert not server.keys
    server.all = "401"
    code, _, err = run_cli("run", *here, "--budget", "7")
    assert code == 1 and "HTTP 401" in err and len(err.splitlines()) == 1
    server.all = "ok"
    faults = ("429", "500", "slow", "cut", "base64", "junk", "refuse")
    server.script = {f"a photo of a {colour} cup": [fault] for colour, fault in zip(COLOURS, faults, strict=False)}
    # slow, cut, base64 and junk may be paid for twice: $6.68 and four more
    code, out, err = run_cli("run", *here, "--budget", "7.4")
    assert code == 3 and "1 refused" in err and "budget" not in err.split("again:")[0] and "spent of $7.40" in out
    store = Store(tmp_path)
    assert sorted(image.status for image in store.images().values()) == ["ok"] * 39 + ["refused"]
    code, out, _ = run_cli("run", *here)
    assert code == 0 and "0 are missing" in out
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".jsonl", ".log", ".duckdb", ".png"} <= {path.suffix for path in files}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


COLOURS = ("red", "blue", "green", "yellow", "black", "white", "pink")


def test_the_command_ends_with_3_when_the_budget_does(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "paid.yaml"
    file.write_text(text())
    server.script = {"a photo of a red cup": ["junk"]}
    code, out, err = command(capfd, monkeypatch, "run", str(file), "--home", str(tmp_path), "--budget", "1.67")
    assert code == 3 and "1 pictures stay missing" in err and "about $1.67 spent of $1.67" in out
    assert len(err.splitlines()) == 1 and f"again: promptlab run {file} --budget 1.67" in err


def test_a_published_study_is_reproduced_within_a_budget(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = "published: [{name: bright, measure: exposure.mean_luma, value: 50, tolerance: 50, source: drawn}]"
    (tmp_path / "paid.yaml").write_text(text(OPENAI, published))

    def reproduce(*more: str) -> tuple[int, str]:
        command = ["promptlab", "reproduce", str(tmp_path / "paid.yaml"), "--home", str(tmp_path / "home"), *more]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return int(end.value.code or 0), output.out + output.err

    code, output = reproduce()
    assert code == 2 and "allow it by --budget 1.67" in output and not server.keys
    code, output = reproduce("--budget", "1.67")
    assert code == 0 and "bright: published 50" in output and "here: not measured" not in output
