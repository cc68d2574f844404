"""Several workers: the pictures of one process, whoever makes them, whoever dies on the way, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from places import SUPPORT
from plays.scripted import MODULE
from promptlab import plugins
from promptlab.errors import ModelError, PromptlabError
from promptlab.generator.workers import portable, threads_each, workforce
from promptlab.progress import Silent
from promptlab.run import Summary, run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study
from stores import image_lines, troubles

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")

STUDY = """\
name: shared
question: Do two make what one makes?
backend: {backend}
model: "{model}"
prompt:
  template: "a photo of {{first}} and {{second}}"
  objects:
    first: {{noun: cup, colour: "{{colour}}"}}
    second: {{noun: chair, colour: blue}}
axes:
  colour: [red, green]
  guidance_scale: [0, 1, 5]
seeds: {seeds}
settings: {{num_inference_steps: 2}}
"""


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted backend is known here and in started processes."""
    monkeypatch.setenv(plugins.VARIABLE, MODULE)


class RecordedProgress(Silent):
    """Records lines and steps."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0

    def say(self, line: str) -> None:
        self.lines.append(line)

    def step(self, count: int = 1) -> None:
        self.steps += count


def run(
    home: Path,
    backend: str,
    model: str,
    workers: int | None,
    seeds: int = 2,
    batch_size: int | None = None,
    progress: Silent | None = None,
) -> Summary:
    study = parse_study(STUDY.format(backend=backend, model=model, seeds=seeds))
    return run_study(study, Store(home), RunOptions(batch_size=batch_size, passports_n=0, workers=workers), progress)


def hashes(home: Path) -> dict[str, tuple[str | None, str | None, str]]:
    return {key: (image.file, image.pixels, image.status) for key, image in Store(home).images().items()}


@pytest.fixture(autouse=True)
def pids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder into which processes of the scripted backend write their ids."""
    folder = tmp_path / "pids"
    folder.mkdir()
    monkeypatch.setenv("SCRIPTED_PIDS", str(folder))
    return folder


def started(pids: Path) -> set[int]:
    return {int(file.name) for file in pids.iterdir()}


def all_gone(ids: set[int], seconds: float = 20.0) -> bool:
    """Whether all these processes have ended, or do soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(i) and psutil.Process(i).status() != psutil.STATUS_ZOMBIE for i in ids):
            return True
        time.sleep(0.02)
    return False


def test_errors_of_others_travel_as_words() -> None:
    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    assert portable(ModelError("x")).args == ("x",)
    assert type(portable(Odd(1, 2))) is RuntimeError and "Odd: 1 and 2" in str(portable(Odd(1, 2)))


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [threads_each(8, n) for n in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(8, 4) == 3
    with workforce(1, None) as one, workforce(None, None) as none, workforce(4, None) as four:
        assert one is none is None
        assert four is not None and four.facts() == {"where": "processes", "count": 4, "threads": 3}


# Real processes.


def test_a_killed_worker_costs_nothing(tmp_path: Path, pids: Path) -> None:
    progress = RecordedProgress()
    summary = run(tmp_path / "two", "scripted", f"kill=1@{tmp_path}", 2, batch_size=4, progress=progress)
    assert summary.made == {"ok": 12} and progress.steps == 12
    assert len(progress.lines) == 1 and "died (exit code -9" in progress.lines[0]
    one = run(tmp_path / "one", "scripted", f"kill=1@{tmp_path}", None, batch_size=4)  # it has died already
    assert one.made == {"ok": 12} and hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert all_gone(started(pids) - {os.getpid()})


def test_a_worker_that_cannot_load_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(PromptlabError, match=r"3 workers died before they were ready, the last: worker [01] died"):
        run(tmp_path, "scripted", "die", 2, seeds=1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nobody_outlives_the_driver(how: signal.Signals, tmp_path: Path, pids: Path) -> None:
    """Killed, or stopped by Ctrl-C, which a terminal sends to all of them; what was finished is kept."""
    study, home = tmp_path / "shared.yaml", tmp_path / "home"
    study.write_text(STUDY.format(backend="scripted", model="slow=0.02", seeds=200))
    command = [sys.executable, "-m", "promptlab", "run", study, "--home", home, "--workers", "2", "--batch-size", "4"]
    paths = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as driver:
        while driver.poll() is None and not (len(started(pids)) == 2 and sum(image_lines(home).values()) >= 8):
            time.sleep(0.05)
        assert driver.poll() is None, driver.stdout and driver.stdout.read()
        if how == signal.SIGINT:
            os.killpg(driver.pid, how)
        else:
            driver.kill()
        output, _ = driver.communicate(timeout=60)
    assert driver.returncode == (130 if how == signal.SIGINT else -9)
    assert all_gone(started(pids))
    assert "Traceback" not in output
    if how == signal.SIGINT:
        assert output.splitlines()[-1].startswith("promptlab: interrupted")
    kept = image_lines(home)
    assert sum(kept.values()) >= 8 and set(kept.values()) == {1}
    assert troubles(home) == []


def test_two_workers_make_the_same_bits(tmp_path: Path) -> None:
    """The miniature, guidance 0, 1 and 5, batches of 4 and a last one that is padded; threads are equal."""
    two = run(tmp_path / "two", "diffusion", "miniature", 2, batch_size=4)
    threads = Store(tmp_path / "two").query("SELECT value FROM fact WHERE name = 'diffusion.threads'")["value"].tolist()
    one = run(tmp_path / "one", "diffusion", "miniature", None, batch_size=4)
    assert Store(tmp_path / "one").query("SELECT value FROM fact WHERE name = 'diffusion.threads'")[
        "value"
    ].tolist() == (threads)
    assert two.made == one.made == {"ok": 12}
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_a_backend_that_cannot_be_dealt_works_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plays import scripted

    monkeypatch.delattr(scripted, "split_jobs")
    progress = RecordedProgress()
    assert run(tmp_path, "scripted", "plain", 2, progress=progress).made == {"ok": 12}
    assert progress.lines == ["the backend scripted works in one process"]
