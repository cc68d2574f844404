"""The real command on the real miniature, killed for real: what it leaves, the same command goes on from."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import pytest

import real_run
from processes import finish, processes
from promptlab.store.home import Home
from promptlab.store.repair import examine
from stores import fingerprint, image_lines, troubles

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")

KILLS = 25
STUDY = """\
name: killed
question: Is anything lost when the run is killed?
prompt:
  template: "a photo of {first} and {second}"
  objects:
    first: {noun: cup, colour: "{colour}"}
    second: {noun: chair, colour: blue}
axes:
  colour: [red, green, yellow]
  assignment: {swap: [first, second]}
  guidance_scale: [1, 5]
seeds: 2
settings: {num_inference_steps: 2, height: 64, width: 64}
probes: [exposure, binding]
contrasts:
  - {name: guidance, measure: exposure.colourfulness, axis: guidance_scale, levels: [5, 1], family: confirmatory}
"""
PICTURES = 24


def start(home: Path, env: dict[str, str] | None = None) -> BaseProcess:
    """`promptlab run` into `home`."""
    study = home.parent / "killed.yaml"
    if not study.exists():
        study.write_text(STUDY)
    argv = ["run", str(study), "--home", str(home), "--batch-size", "4", "--passports", "0"]
    process = processes.Process(target=real_run.child, args=(argv, env, f"{home}.out"))
    process.start()
    return process


def journals(home: Path) -> set[Path]:
    return set(home.glob("runs/killed/*.jsonl"))


class Whole(NamedTuple):
    """What an uninterrupted run leaves, and the seconds from its first journal line to its end."""

    results: dict[str, list[str]]
    seconds: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    home = tmp_path_factory.mktemp("whole") / "home"
    assert finish(start(home)) == 0  # the first one warms up caches of the disk
    home = home.with_name("again")
    process = start(home)
    while not journals(home) and process.is_alive():
        time.sleep(0.002)
    began = time.monotonic()
    assert finish(process) == 0
    seconds = time.monotonic() - began
    assert not [finding for finding in examine(Home(home))]
    found = fingerprint(home)
    assert len(found["files"]) == PICTURES and len(found["effect"]) == 1
    return Whole(found, seconds)


@pytest.mark.timeout(1200)
def test_the_command_killed_at_25_random_moments(tmp_path: Path, whole: Whole) -> None:
    """Killed and resumed until done: the same tables and pictures, nothing lost that was journalled, nothing twice."""
    rng = random.Random(20261124)
    seconds = whole.seconds
    kills = rounds = 0
    while kills < KILLS:
        home = tmp_path / f"home{rounds}"
        rounds += 1
        kept: Counter[str] = Counter()
        while True:
            before = journals(home)
            process = start(home)
            while process.is_alive() and journals(home) == before:
                time.sleep(0.002)
            began = time.monotonic()
            if kills < KILLS:
                process.join(rng.uniform(0, seconds))
                process.kill()
            code = finish(process)
            assert code in (0, -9), Path(f"{home}.out").read_text()
            lines = image_lines(home)
            assert kept <= lines, "a journalled picture is lost"
            kept = lines
            assert troubles(home) == []
            if code == 0:
                if not before:  # never killed: so long does a run take now
                    seconds = time.monotonic() - began
                break
            kills += 1
        assert fingerprint(home) == whole.results
        assert set(image_lines(home).values()) == {1}, "a journalled picture was made again"


@pytest.mark.parametrize(
    ("point", "action", "code"),
    [("picture.renamed:7", "SIGINT", 130), ("journal.written:5", "ENOSPC", 5), ("publish.built", "SIGKILL", -9)],
)
def test_the_command_dies_in_one_line_and_goes_on(
    point: str, action: str, code: int, tmp_path: Path, whole: Whole
) -> None:
    home = tmp_path / "home"
    assert finish(start(home, {"PROMPTLAB_CRASH_AT": point, "PROMPTLAB_CRASH_WITH": action})) == code
    said = Path(f"{home}.out").read_text()
    assert "Traceback" not in said
    if code > 0:
        assert said.splitlines()[-1].startswith("promptlab: ")
    assert troubles(home) == []
    assert finish(start(home)) == 0
    assert fingerprint(home) == whole.results


def test_twenty_commands_at_once(tmp_path: Path, whole: Whole) -> None:
    """One runs, the others say so and leave with exit code 4."""
    home = tmp_path / "home"
    started = [start(home) for _ in range(20)]
    assert Counter(finish(process) for process in started) == {0: 1, 4: 19}
    assert fingerprint(home) == whole.results
    assert Path(f"{home}.out").read_text().count("is in use by process") == 19
