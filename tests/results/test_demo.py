"""The demo that ships: whole, small, and what the dashboard shows where nothing was run."""

from __future__ import annotations

from pathlib import Path

from promptlab.resources import demo_folder
from promptlab.results import open_demo, tables
from promptlab.store.repair import examine


def test_the_demo_is_whole_and_small(tmp_path: Path) -> None:
    folder = demo_folder()
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4_000_000
    store = open_demo(tmp_path / "demo")
    assert store is not None and not examine(store.home)
    one = tables.studies(store).set_index("study").loc["demo"]
    assert one["ok"] == one["planned"] == 64 and one["missing"] == 0
    assert len(tables.outcome_shares(store, "demo", "guidance_scale")) and len(tables.leakage(store, "demo"))
    assert not list(folder.glob("*.duckdb"))
