"""Overlapped scoring: the same scores to the last bit, whatever fails, stops or dies on the way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import real_run
from drawn_study import DRAWN
from processes import finish, processes
from promptlab.analyzer.probes import Sample
from promptlab.analyzer.probes.exposure import Exposure
from promptlab.errors import ModelError
from promptlab.generator.backends import ELSEWHERE, Job, Made, renderer
from promptlab.progress import Silent
from promptlab.records import Score
from promptlab.run import Summary, run_study
from promptlab.run.options import RunOptions
from promptlab.run.score import can_overlap
from promptlab.store import Store
from promptlab.study.study import parse_study
from stores import fingerprint, troubles

PROBES = "exposure, binding, clip_similarity, clip_contrast, diversity"


class RecordedProgress(Silent):
    """Remembers its stages."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []

    def stage(self, what: str, total: int) -> None:
        self.stages.append((what, total))


def run(
    home: Path, overlap: bool | None, seeds: int = 5, probes: str = PROBES, progress: Silent | None = None
) -> Summary:
    text = DRAWN.format(scales="[1, 5]", seeds=seeds, probes=probes, model="swap=0.4")
    return run_study(parse_study(text), Store(home), RunOptions(passports_n=0, overlap=overlap), progress)


def scores(home: Path) -> list[str]:
    return fingerprint(home)["score"]


@pytest.fixture
def gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fifth picture is no picture, and one twin of each pair comes long before the other."""
    generate = renderer.Renderer.generate

    def odd(self: Any, jobs: Sequence[Job]) -> Iterator[Made]:
        for i, made in enumerate(generate(self, sorted(jobs, key=lambda job: job.image_id))):
            yield Made(made.image_id, None, "nan", "for the test") if i % 5 == 0 else made

    monkeypatch.setattr(renderer.Renderer, "generate", odd)


def test_the_same_rows_both_ways(tmp_path: Path) -> None:
    progress = RecordedProgress()
    early = run(tmp_path / "overlapped", True, progress=progress)
    late = run(tmp_path / "afterwards", False)
    assert fingerprint(tmp_path / "overlapped") == fingerprint(tmp_path / "afterwards")
    assert early.scores == late.scores and late.overlapped == 0 and 0 < early.overlapped < early.scores
    stages = [what for what, _ in progress.stages]
    assert len(set(stages)) == len(stages), "one line a stage"
    assert ("probe diversity", 40) in progress.stages, "what looks at whole families comes afterwards"


def test_pictures_that_fail_and_twins_that_are_late(tmp_path: Path, gaps: None) -> None:
    early, late = run(tmp_path / "overlapped", True), run(tmp_path / "afterwards", False)
    assert early.failed == late.failed == 8 and early.overlapped > 0
    assert scores(tmp_path / "overlapped") == scores(tmp_path / "afterwards") and early.scores == late.scores


def test_what_is_there_is_not_asked_again(tmp_path: Path) -> None:
    run(tmp_path / "overlapped", True, seeds=3)
    more = run(tmp_path / "overlapped", True, seeds=7)
    run(tmp_path / "afterwards", False, seeds=3)
    same = run(tmp_path / "afterwards", False, seeds=7)
    assert (
        more.scores == same.scores
        and more.overlapped > 0
        and scores(tmp_path / "overlapped") == scores(tmp_path / "afterwards")
    )
    again = run(tmp_path / "overlapped", True, seeds=7)
    assert again.scores == again.overlapped == 0


def test_a_probe_that_cannot_work_ends_the_run_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", False)
    messages: dict[bool, str] = {}
    for overlap in (True, False):
        home = tmp_path / f"broken{overlap}"
        with monkeypatch.context() as patch:
            patch.setattr(Exposure, "score", lambda *_: (_ for _ in ()).throw(ModelError("the judge is gone")))
            with pytest.raises(ModelError) as error:
                run(home, overlap)
        messages[overlap] = str(error.value)
        assert [image.status for image in Store(home).images().values()] == ["ok"] * 40 and not troubles(home)
        assert run(home, overlap).made == {}
        assert scores(home) == scores(tmp_path / "whole")
    assert messages[True] == messages[False] == "the judge is gone" and whole.scores


def test_a_probe_that_crashes_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Exposure.score

    def crash(self: Exposure, samples: Sequence[Sample]) -> Iterator[Score]:
        if any(sample.seed == 2 for sample in samples):
            raise RuntimeError("not this one")
        yield from score(self, samples)

    monkeypatch.setattr(Exposure, "score", crash)
    early, late = (run(tmp_path / str(overlap), overlap, probes="exposure") for overlap in (True, False))
    assert early.scores == late.scores and early.overlapped > 0
    assert scores(tmp_path / "True") == scores(tmp_path / "False")


def test_what_can_overlap() -> None:
    class Judge:
        accelerated = True

    plain, judge = Exposure(), Judge()
    for provenance, free in (
        ({"device": "cpu"}, (False, False)),
        ({}, (False, False)),
        ({"device": "NVIDIA H100"}, (True, False)),
        ({"device": "cpu", "host": "another machine"}, (True, True)),
        ({"device": ELSEWHERE}, (True, True)),
    ):
        assert (can_overlap(plain, provenance), can_overlap(judge, provenance)) == free, provenance  # type: ignore[arg-type]


def test_on_a_plain_cpu_scoring_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path / "cpu", None, probes="exposure").overlapped == 0
    monkeypatch.setattr(renderer.Renderer, "provenance", lambda self: {"device": "a GPU"})
    assert run(tmp_path / "gpu", None, probes="exposure").overlapped > 0


STUDY = DRAWN.format(scales="[1, 5]", seeds=12, probes="exposure, binding", model="swap=0.4")


def start(home: Path, env: dict[str, str] | None = None) -> Any:
    study = home.parent / "drawn.yaml"
    study.write_text(STUDY)
    argv = ["run", str(study), "--home", str(home), "--passports", "0", "--overlap"]
    process = processes.Process(target=real_run.child, args=(argv, env, f"{home}.out"))
    process.start()
    return process


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize(("nth", "action", "code"), [(60, "SIGKILL", -9), (60, "SIGINT", 130), (60, "ENOSPC", 5)])
def test_a_run_that_dies_finds_the_missing_scores(nth: int, action: str, code: int, tmp_path: Path) -> None:
    whole, home = tmp_path / "whole", tmp_path / "home"
    assert finish(start(whole)) == 0
    assert finish(start(home, {"PROMPTLAB_CRASH_AT": f"journal.written:{nth}", "PROMPTLAB_CRASH_WITH": action})) == code
    assert troubles(home) == [] and "Traceback" not in Path(f"{home}.out").read_text()
    assert finish(start(home)) == 0
    assert fingerprint(home) == fingerprint(whole)


def test_ctrl_c_waits_for_one_batch_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    score = Exposure.score

    def slow(self: Exposure, samples: Sequence[Sample]) -> Iterator[Score]:
        calls.append(time.monotonic())
        time.sleep(0.5)
        yield from score(self, samples)

    class Stops(Silent):
        steps = 0

        def step(self, count: int = 1) -> None:
            self.steps += count
            if self.steps == 70:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Exposure, "score", slow)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, True, seeds=10, probes="exposure", progress=Stops())
    ended = time.monotonic()
    time.sleep(0.6)
    assert 1 <= len(calls) <= 3 and calls[-1] < ended, "a batch began after the end"
    assert not troubles(tmp_path)
