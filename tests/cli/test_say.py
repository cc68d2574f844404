"""Progress in a terminal and off it: steps that come a batch at a time, and how long is left."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from promptlab.cli import terminal as module


def told(monkeypatch: pytest.MonkeyPatch, terminal: bool, batch: int, seconds: float, load: float) -> list[str]:
    """What is said of 96 pictures that come `batch` at a time, every so many seconds, the first after `load` more."""
    now, out = [100.0], io.StringIO()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "console", Console(file=out, force_terminal=terminal, width=100, markup=False))
    with module.Terminal() as progress:
        progress.stage("pictures", 96)
        for i in range(96):
            now[0] += 0.001 if i % batch else seconds + (load if i == 0 else 0)
            progress.step()
            if progress._bar and i % batch == 0:
                progress._bar.refresh()
    return out.getvalue().replace("\r", "\n").splitlines()


def test_the_first_batch_says_nothing_and_the_next_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = told(monkeypatch, False, 16, 60.0, 0.0)
    assert first == "pictures: 96"
    assert rest[0] == "pictures: 16/96, 4.0 min left"  # 16 in a minute, 80 to come, of which one minute has gone
    assert rest[-1] == "pictures: 80/96, 0 s left" and len(rest) == 5


def test_pictures_that_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch, False, 1, 5.0, 0.0)
    assert lines[1] == "pictures: 4/96, 7.6 min left" and len(lines) == 20


def test_loading_the_model_counts_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch, False, 16, 30.0, 60.0)
    assert [line.split(", ")[1] for line in lines[1:]] == [
        "7.0 min left",
        "3.5 min left",
        "2.0 min left",
        "60 s left",
        "12 s left",
    ]


def test_a_bar_ends_without_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in told(monkeypatch, True, 16, 60.0, 0.0) if "pictures" in line]
    assert any("17/96" in line and "4.0 min left" in line for line in lines)
    assert "96/96" in lines[-1] and "left" not in lines[-1]
