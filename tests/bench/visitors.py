"""Who measures the dashboard: headless Chromium at the real server, or Streamlit's AppTest in this process.

Chromium needs playwright, and an executable on the path. AppTest runs the scripts of the pages alone: no network, no
drawing, selectboxes as the only filters, and the memory of this process.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Protocol

from promptlab.errors import PromptlabError
from promptlab.resources import dashboard_script
from promptlab.store.home import Home

__all__ = ["Visitor", "visit"]

HOME_PAGE = "studies"
PATIENCE = 120.0
"""Seconds after which a page counts as broken."""
SETTLED = 150
"""Milliseconds that a list of choices has to unfold; they are nobody's wait."""
_WATCH = """() => {
  if (window.promptlab) return;
  const seen = window.promptlab = {};
  const running = () => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState !== 'notRunning';
  const now = () => performance.now();
  const click = () => Object.assign(seen, {began: now(), moved: now(), ended: null, ran: false});
  click();
  document.addEventListener('click', click, true);
  new MutationObserver(() => {
    seen.moved = now();
    if (running()) seen.ran = true;
    else if (seen.ran) { seen.ended = seen.moved; seen.ran = false; }
  }).observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
  seen.done = () => {
    // a script may end before the page ever shows that it runs; then the last change was its last
    if (seen.ended === null && !running() && now() - seen.moved > 500) seen.ended = seen.moved;
    return seen.ended !== null;
  };
}
"""
_READY = """() =>
document.querySelector('h1') !== null
    && document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'
"""
_MAIN = "[data-testid=stMain] "
_FILTERS = f"{_MAIN}[data-testid=stSelectbox], {_MAIN}[data-testid=stMultiSelect], {_MAIN}[data-testid=stButtonGroup]"


class Visitor(Protocol):
    """Someone at the dashboard. Seconds are what they waited."""

    name: str

    def open(self, page: str) -> float:
        """Ask for a page by its address."""

    def turn(self, page: str) -> float:
        """Go to a page by its link."""

    def filters(self) -> int:
        """How many filters the page has now."""

    def change(self, filter_: int, turn: int) -> float | None:
        """Choose another value of a filter, by `turn` another one; None where there is no other."""

    def memory(self) -> float:
        """Resident memory of the server, in MB."""


def visit(home: Home, study: str, browser: bool = True) -> AbstractContextManager[Visitor]:
    """Someone at the dashboard of `home` who looks at `study`; by Chromium where it is, and `browser` is wanted."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser and chromium is not None and find_spec("playwright") is not None:
        return _browser(home, study, chromium)
    return _scripts(home, study)


@contextmanager
def _served(home: Home) -> Iterator[tuple[str, Callable[[], float]]]:
    """The dashboard as a person starts it: its address, and how much memory it takes in MB."""
    import psutil

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "promptlab", "dashboard", "--home", str(home.path), "--no-browser"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, "--port", str(port)], **quiet) as process:
        try:
            base, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
            while True:
                try:
                    urllib.request.urlopen(f"{base}/_stcore/health", timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > until:
                        raise PromptlabError("the dashboard does not start: see `promptlab dashboard`") from None
                    time.sleep(0.05)
            server = psutil.Process(process.pid).children()[0]
            yield base, lambda: server.memory_info().rss / 1e6
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
            process.terminate()


class _Chromium:
    """Headless Chromium at the real server."""

    name = "Chromium"

    def __init__(self, page: Any, base: str, study: str, memory: Callable[[], float]) -> None:
        self._page, self._base, self._study = page, base, study
        self.memory = memory

    def open(self, page: str) -> float:
        began = time.perf_counter()
        self._page.goto(f"{self._base}/{'' if page == HOME_PAGE else page}?study={self._study}")
        self._page.wait_for_function(_READY, timeout=PATIENCE * 1000)
        seconds = time.perf_counter() - began
        self._check(page)
        self._page.evaluate(_WATCH)
        return seconds

    def _check(self, page: str) -> None:
        if self._page.locator("[data-testid=stException]").count():
            raise PromptlabError(f"page {page} of the dashboard shows an error")

    def turn(self, page: str) -> float:
        links = self._page.locator("[data-testid=stSidebarNavLink]")
        took = self._waited(links.nth(self._places[page]).click)
        self._check(page)
        return took

    @cached_property
    def _places(self) -> dict[str, int]:
        links = self._page.locator("[data-testid=stSidebarNavLink]").evaluate_all("all => all.map(a => a.pathname)")
        return {link.strip("/") or HOME_PAGE: i for i, link in enumerate(links)}

    def filters(self) -> int:
        return int(self._page.locator(_FILTERS).count())

    def change(self, filter_: int, turn: int) -> float | None:
        one = self._page.locator(_FILTERS).nth(filter_)
        if one.get_attribute("data-testid") == "stButtonGroup":
            buttons = one.locator("button")
            return self._waited(buttons.nth(turn % buttons.count()).click)
        one.locator("input").click()
        options = self._page.locator("[role=option][aria-selected=false]")
        self._page.wait_for_timeout(SETTLED)
        there = options.count()
        if not there:
            self._page.keyboard.press("Escape")
            return None
        return self._waited(options.nth(turn % there).click)

    def _waited(self, click: Callable[[], None]) -> float:
        click()
        # asked seldom: at every frame, as is usual, the browser would draw frames for the one who measures alone
        self._page.wait_for_function("() => window.promptlab.done()", timeout=PATIENCE * 1000, polling=50)
        return float(self._page.evaluate("() => (window.promptlab.ended - window.promptlab.began) / 1000"))


@contextmanager
def _browser(home: Home, study: str, chromium: str) -> Iterator[_Chromium]:
    from playwright.sync_api import sync_playwright

    with _served(home) as (base, memory), sync_playwright() as driver:
        quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        running = driver.chromium.launch(executable_path=chromium, args=quiet)
        page = running.new_page(viewport={"width": 1300, "height": 900})
        yield _Chromium(page, base, study, memory)
        running.close()


class _Scripts:
    """Streamlit's AppTest: the scripts of the pages in this process."""

    name = "AppTest"

    def __init__(self, study: str) -> None:
        self._study = study
        self._test: Any = None

    def open(self, page: str) -> float:
        from streamlit.testing.v1 import AppTest

        path = dashboard_script().with_name("app_pages") / f"{page}.py"
        self._test = AppTest.from_file(str(path), default_timeout=PATIENCE)
        self._test.query_params["study"] = self._study
        return self._timed(self._test, page)

    turn = open

    def _timed(self, what: Any, page: str = "") -> float:
        began = time.perf_counter()
        what.run()
        if self._test.exception:
            raise PromptlabError(f"page {page} of the dashboard shows an error: {self._test.exception[0].message}")
        return time.perf_counter() - began

    def filters(self) -> int:
        return len(self._test.main.selectbox)

    def change(self, filter_: int, turn: int) -> float | None:
        one = self._test.main.selectbox[filter_]
        if len(one.options) < 2:
            return None
        return self._timed(one.select_index((one.index + turn) % len(one.options)))

    def memory(self) -> float:
        import psutil

        return float(psutil.Process().memory_info().rss / 1e6)


@contextmanager
def _scripts(home: Home, study: str) -> Iterator[_Scripts]:
    before = os.environ.get("PROMPTLAB_HOME")
    os.environ["PROMPTLAB_HOME"] = str(home.path)
    sys.path.insert(0, str(dashboard_script().parent))
    try:
        yield _Scripts(study)
    finally:
        sys.path.remove(str(dashboard_script().parent))
        os.environ.pop("PROMPTLAB_HOME")
        if before is not None:
            os.environ["PROMPTLAB_HOME"] = before
