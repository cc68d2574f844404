"""Processes that really die, and what the next run makes of what they leave."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import driver
import readers
from processes import finish, processes
from promptlab.store._fault_points import POINTS, crash_point
from promptlab.store.home import Home
from promptlab.store.repair import examine
from stores import fingerprint, image_lines, troubles

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")

CODES = {"SIGKILL": -signal.SIGKILL, "SIGINT": 130, "ENOSPC": 5, "MemoryError": 1}


def start(home: Path, *more: str, env: dict[str, str] | None = None) -> BaseProcess:
    """Begin a run that fills `home` and writes `ack <image id>` to `home`.out; test_kill.py starts the real command."""
    process = processes.Process(target=driver.child, args=([str(home), "tiny", *more], env, str(home) + ".out"))
    process.start()
    return process


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, list[str]]]:
    known: dict[int, dict[str, list[str]]] = {}

    def of(cells: int) -> dict[str, list[str]]:
        if cells not in known:
            home = tmp_path_factory.mktemp("reference") / "home"
            assert finish(start(home, "--cells", str(cells))) == 0
            assert not [f for f in examine(Home(home))]
            known[cells] = fingerprint(home)
        return known[cells]

    return of


def test_kills_at_25_random_moments(tmp_path: Path, reference: Callable[[int], dict[str, list[str]]]) -> None:
    """Killed and resumed until done, the results are those of an uninterrupted run."""
    rng = random.Random(20261123)
    kills = rounds = 0
    while kills < 25:
        home = tmp_path / f"home{rounds}"
        rounds += 1
        while True:
            before = set(home.glob("runs/tiny/*.jsonl"))
            process = start(home, "--cells", "60", "--every", "3")
            while process.is_alive() and set(home.glob("runs/tiny/*.jsonl")) == before:
                time.sleep(0.002)
            if kills < 25:
                time.sleep(rng.uniform(0, 0.1))
                process.kill()
            code = finish(process)
            out = Path(str(home) + ".out").read_text()
            acknowledged = {line[4:] for line in out.splitlines() if line.startswith("ack ") and len(line) == 36}
            assert acknowledged <= image_lines(home).keys(), "an acknowledged image is lost"
            assert troubles(home) == []
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        assert fingerprint(home) == reference(60)
        assert set(image_lines(home).values()) == {1}, "an acknowledged image was made again"


@pytest.mark.parametrize("action", CODES)
@pytest.mark.parametrize("point", POINTS)
def test_every_crash_point_recovers(
    point: str, action: str, tmp_path: Path, reference: Callable[[int], dict[str, list[str]]]
) -> None:
    home = tmp_path / "home"
    nth = 1 if action == "MemoryError" else 2
    armed = {"PROMPTLAB_CRASH_AT": f"{point}:{nth}", "PROMPTLAB_CRASH_WITH": action}
    assert finish(start(home, env=armed)) == CODES[action]
    assert troubles(home) == []
    assert finish(start(home)) == 0
    assert fingerprint(home) == reference(4)
    assert set(image_lines(home).values()) == {1}
    assert [
        f.what for f in examine(Home(home), deep=False) if f.what not in ("open run", "torn end", "temporary file")
    ] == []


def test_a_crash_point_is_inert_until_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    crash_point("journal.written")
    monkeypatch.setenv("PROMPTLAB_CRASH_AT", "journal.writen")
    with pytest.raises(ValueError, match="no crash point is called"):
        crash_point("journal.written")
    monkeypatch.setenv("PROMPTLAB_CRASH_AT", "journal.written:2")
    monkeypatch.setenv("PROMPTLAB_CRASH_WITH", "EIO")
    monkeypatch.setattr("promptlab.store._fault_points._passed", {})
    crash_point("journal.written")
    with pytest.raises(OSError, match="Input/output"):
        crash_point("journal.written")


def test_twenty_starts_at_once(tmp_path: Path) -> None:
    """One runs, nineteen leave with exit code 4."""
    home = tmp_path / "home"
    started = [start(home, "--gate", str(tmp_path / "gate")) for _ in range(20)]
    while sum(process.is_alive() for process in started) > 1:
        time.sleep(0.02)
    (tmp_path / "gate").touch()
    assert Counter(finish(process) for process in started) == {0: 1, 4: 19}


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for _ in range(5):
        owner = start(home, "--pause", "0.5", "--cells", "60")
        while not list(home.glob("runs/tiny/*.jsonl")):
            time.sleep(0.01)
        owner.kill()
        owner.join()
    assert finish(start(home)) == 0


def test_readers_never_meet_a_lock(tmp_path: Path) -> None:
    """Eight readers and a notebook that keeps the file open, all through a run that publishes after every batch."""
    home, stop = tmp_path / "home", tmp_path / "stop"
    assert finish(start(home, "--cells", "2")) == 0
    reports = [tmp_path / f"report{i}" for i in range(9)]
    targets = [readers.read_all_along] * 8 + [readers.hold_open]
    places = [str(home)] * 8 + [str(Home(home).database)]
    running = [
        processes.Process(target=target, args=(place, str(stop), str(report)))
        for target, place, report in zip(targets, places, reports, strict=True)
    ]
    for reader in running:
        reader.start()
    try:
        assert finish(start(home, "--cells", "60", "--every", "1")) == 0
    finally:
        stop.touch()
    for reader in running:
        assert finish(reader) == 0
    assert [report.read_text()[:2] for report in reports] == ["ok"] * 9
    assert all(int(report.read_text().split()[2]) >= 4 for report in reports[:8])
