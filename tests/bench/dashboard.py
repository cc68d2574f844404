"""How long a person waits for the dashboard: its real server, and headless Chromium that opens pages and clicks.

    uv run python tests/bench/dashboard.py --help
    uv run python tests/bench/dashboard.py --folder ~/large --repeats 3     # minutes; the folder keeps its store

    paint     from the request of a page until its heading is there and its script has ended, the database renewed
              before each, so that nothing is kept of any query
    change    from the click that chooses another value of a filter until the script has ended
    memory    resident memory of the server after so many clicks: the pages in turn, each filter of each page

All of it on a store of 100,000 images and four million scores (`large_store`). Where playwright or Chromium is missing,
Streamlit's AppTest runs the scripts alone in this process: no network, no drawing, and the memory is that of this
process.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from large_store import STUDY, build_store
from promptlab.bench import Measured
from promptlab.resources import dashboard_script
from promptlab.store.home import Home
from visitors import Visitor, visit

__all__ = ["CLICKS", "PICTURES", "Waits", "dashboard_figures", "percentile", "watch_dashboard"]

CLICKS = 500
PICTURES = 100_000


@dataclass
class Waits:
    """Seconds by page; `paints` from the request, `changes` from the click. Memory in MB."""

    driver: str
    start: float = 0.0
    paints: dict[str, list[float]] = field(default_factory=dict)
    changes: dict[str, list[float]] = field(default_factory=dict)
    memory: float = 0.0
    memory_at_start: float = 0.0
    memory_at_most: float = 0.0
    clicks: int = 0


def dashboard_figures(
    repeats: int, folder: Path | None = None, pictures: int = PICTURES, clicks: int = CLICKS, browser: bool = True
) -> list[Measured]:
    """First paint, change of a filter and memory, on a store of `pictures` in `folder` (else in a passing one).

    Raises PromptlabError where a page breaks, DiskError.
    """
    with TemporaryDirectory() as passing:
        home = Home(folder.absolute() if folder else Path(passing))
        built = build_store(home, pictures)
        waits = watch_dashboard(home, STUDY, repeats, clicks, browser)
    facts: dict[str, float | str] = {"by": waits.driver, "pictures": built["pictures"], "scores": built["scores"]}
    steps = {name: seconds for name, seconds in built.items() if name.endswith("_s")}
    store = (
        [Measured("dashboard: its store", sum(steps.values()), "s to build", detail={**facts, **steps})]
        if steps
        else []
    )
    return [
        *store,
        Measured(
            "dashboard: first paint, p95", percentile(waits.paints), "s", 2.0, detail=facts | _worst(waits.paints)
        ),
        Measured("dashboard: filter, p95", percentile(waits.changes), "s", 0.5, detail=_worst(waits.changes)),
        Measured(
            f"dashboard: memory after {waits.clicks} clicks",
            waits.memory,
            "MB",
            600.0,
            detail={"at_start": waits.memory_at_start, "at_most": waits.memory_at_most},
        ),
    ]


def _worst(seconds: dict[str, list[float]]) -> dict[str, float | str]:
    """The median of all, and the slowest of each page."""
    slowest: dict[str, float | str] = {page: max(some) for page, some in seconds.items()}
    return {"n": sum(map(len, seconds.values())), "median": percentile(seconds, 0.5), **slowest}


def percentile(seconds: dict[str, list[float]], share: float = 0.95) -> float:
    """The quantile of all pages' waits together, in seconds."""
    import numpy as np

    return float(np.quantile([one for some in seconds.values() for one in some], share))


def watch_dashboard(home: Home, study: str, repeats: int, clicks: int = CLICKS, browser: bool = True) -> Waits:
    """Open every page of the dashboard of `home` so many times, then click. Raises PromptlabError for a broken page."""
    began = time.perf_counter()
    with visit(home, study, browser) as visitor:
        waits = Waits(visitor.name)
        names = sorted(page.stem for page in dashboard_script().with_name("app_pages").glob("*.py"))
        for page in names:  # what a server imports once in its life is no page's
            visitor.open(page)
        waits.start = time.perf_counter() - began
        waits.memory_at_start = waits.memory_at_most = visitor.memory()
        for _ in range(repeats):
            for page in names:
                os.utime(home.database)
                waits.paints.setdefault(page, []).append(visitor.open(page))
        os.utime(home.database)
        for page, filter_, turn in _walk(names, visitor):
            if waits.clicks >= clicks:
                break
            took = visitor.turn(page) if filter_ is None else visitor.change(filter_, turn)
            waits.clicks += took is not None
            if filter_ is not None and took is not None:
                waits.changes.setdefault(page, []).append(took)
            waits.memory_at_most = max(waits.memory_at_most, visitor.memory())
        waits.memory = visitor.memory()
    return waits


def _walk(names: list[str], visitor: Visitor) -> Iterator[tuple[str, int | None, int]]:
    """Page after page, and on each all its filters; again and again."""
    turn = 0
    while True:
        turn += 1
        for page in names:
            yield page, None, turn
            for filter_ in range(visitor.filters()):
                yield page, filter_, turn


def main() -> None:
    """Measure, and print each figure beside its goal."""
    from promptlab.cli.maintain import show_figure

    parser = argparse.ArgumentParser(description="How long a person waits for the dashboard, and what memory it takes.")
    parser.add_argument("--repeats", type=int, default=3, help="how often each page is opened; default 3")
    parser.add_argument("--folder", type=Path, help="where the store is kept, and found again")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"images in the store; default {PICTURES}")
    parser.add_argument("--clicks", type=int, default=CLICKS, help=f"default {CLICKS}")
    parser.add_argument("--no-browser", action="store_true", help="run the pages' scripts in this process")
    given = parser.parse_args()
    for one in dashboard_figures(given.repeats, given.folder, given.pictures, given.clicks, not given.no_browser):
        show_figure(one)


if __name__ == "__main__":
    main()
