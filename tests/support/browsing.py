"""A dashboard as a person starts it, and a browser that visits it: what tests of pages share."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from places import DASHBOARDS

__all__ = ["CHROMIUM", "NAMES", "PAGES", "Visit", "serve"]

PAGES = DASHBOARDS / "app_pages"
NAMES = sorted(path.stem for path in PAGES.glob("*.py"))
PATIENCE = 200_000
"""Milliseconds for what a busy machine may take; nothing waits longer than it must."""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def serve(home: Path) -> Iterator[str]:
    """`promptlab dashboard` on a home, at the address that this gives; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "promptlab", "dashboard", "--home", str(home), "--no-browser", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
        base = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{base}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield base
        subprocess.run(["pkill", "-P", str(process.pid)], check=False)
        process.terminate()


class Visit:
    """A browser page that remembers every complaint and every request elsewhere."""

    def __init__(self, browser: Any, base: str) -> None:
        self.base, self.page = base, browser.new_page(viewport={"width": 1300, "height": 900})
        self.page.set_default_timeout(PATIENCE)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self._hear(f"{m.type}: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self._hear(str(error)))
        self.page.on("dialog", lambda dialog: (self._hear(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda r: self._request(r.url))

    def _hear(self, what: str) -> None:
        if "404 (Not Found)" not in what:  # Streamlit looks for its own base path below a page's address
            self.complaints.append(what)

    def _request(self, url: str) -> None:
        if not url.startswith((self.base, self.base.replace("http", "ws"), "data:", "blob:")):
            self._hear(f"request to {url}")

    def open(self, path: str) -> None:
        self.page.goto(f"{self.base}/{path}")
        self.settle()

    def settle(self) -> None:
        """Wait until the page is drawn."""
        self.page.wait_for_selector("h1", timeout=PATIENCE)
        self.page.wait_for_function(
            "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'",
            timeout=PATIENCE,
        )

    def check(self) -> None:
        assert self.page.evaluate("window.hurt") is None, "a prompt was run"
        assert self.page.locator("[data-testid=stException]").count() == 0
        assert self.complaints == []
