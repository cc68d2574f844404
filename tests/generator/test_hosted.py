"""Closed systems, asked through their real SDKs, on a local server that fails by script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from closed_server import KEY, serving
from promptlab.errors import ModelError, StudyError
from promptlab.generator.backends import Job, hosted
from promptlab.records import Settings
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.run.plan import plan_study
from promptlab.store import Store
from promptlab.study.study import parse_study

FAULTS = ("429", "500", "slow", "cut", "base64", "junk")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    yield from serving(monkeypatch)


MODELS = ("openai:gpt-image-1", "gemini:gemini-2.5-flash-image")


@pytest.mark.parametrize("model", MODELS)
def test_every_fault_ends_in_its_status(server: Any, model: str) -> None:
    waits: list[float] = []
    backend = hosted.load(model, timeout=0.5, sleep=waits.append)
    lasting = {f"always {fault}": [fault] * hosted.ATTEMPTS for fault in FAULTS if fault != "slow"}
    server.script = {fault: [fault] for fault in (*FAULTS, "refuse")} | lasting
    prompts = ["ok", *server.script]
    jobs = [Job(text, {}, text, Settings(width=1024, height=1024), 0) for text in prompts]
    made = {one.image_id: one for one in backend.generate(jobs)}
    assert {text: made[text].status for text in ("ok", *FAULTS)} == dict.fromkeys(("ok", *FAULTS), "ok")
    assert made["refuse"].status == "refused" and made["refuse"].reason
    assert {made[f"always {fault}"].status for fault in ("429", "500", "cut")} == {"error"}
    assert made["always junk"].status == "invalid_image"
    assert waits.count(7.0) == 1 + hosted.ATTEMPTS - 1  # Retry-After, not a guess
    assert KEY not in repr(made)
    assert all(key.endswith(KEY) for key in server.keys)


STUDY = """
name: closed
question: Does a closed system keep colours?
prompt: {template: "a photo of {thing}", objects: {thing: {noun: cup, colour: "{paint}"}}}
axes: {COLOUR}
seeds: 4
backend: hosted
model: MODEL
budget_usd: 10.0
SETTINGS
probes: [exposure]
"""


def study(model: str = MODELS[0], settings: str = "settings: {width: 1024, height: 1024}", axes: str = "") -> Any:
    colours = "paint: [red, blue, green, yellow, black, white, pink, orange, purple, brown]"
    text = STUDY.replace("MODEL", model).replace("SETTINGS", settings).replace("COLOUR", colours + axes)
    return parse_study(text)


def test_forty_pictures_and_no_key_in_any_file(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hosted, "load", partial(hosted.load, timeout=0.5, sleep=lambda _: None))
    server.script = {"a photo of a red cup": ["refuse", *FAULTS], "a photo of a blue cup": ["refuse"] * 2}
    store = Store(tmp_path)
    summary = run_study(study(), store, RunOptions(passports_n=0))
    assert sum(summary.made.values()) == 40
    assert summary.made == Counter(ok=37, refused=3)
    calls = len(server.keys)
    assert not run_study(study(), store, RunOptions(passports_n=0)).made and len(server.keys) == calls
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {".jsonl", ".log", ".duckdb", ".png"} <= {path.suffix for path in files}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in "".join(capfd.readouterr())


def test_what_the_system_cannot_follow_is_refused() -> None:
    with pytest.raises(StudyError, match="takes no guidance_scale"):
        plan_study(study(axes=", guidance_scale: [1, 5]"), None)
    with pytest.raises(StudyError, match="takes no height"):
        plan_study(study(MODELS[1]), None)
    with pytest.raises(StudyError, match="1024x1024"):
        plan_study(study(settings=""), None)


def test_no_key_no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="OPENAI_API_KEY"):
        hosted.load("openai:gpt-image-1")
    with pytest.raises(ModelError, match="openai:NAME"):
        hosted.load("midjourney")
