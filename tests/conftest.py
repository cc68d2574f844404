"""Every test runs without network, without a hub, and far from the data of this copy."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback import guarded_connect

# Before anything imports torch or a hub client: both read these once. Processes that tests start inherit them.
# One thread a process: the suite is two of them, and four threads on two cores wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A server that forks has no thread besides its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Where Python may not keep what it compiled, each of hundreds of started processes would compile torch again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ["HF_HUB_OFFLINE"] = "1"
# A suite in the background of a shell inherits deafness to Ctrl-C, and what it starts would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def own_main() -> None:
    """Streamlit's AppTest puts a page in the place of the main module, which started processes would then run."""
    sys.modules["__main__"] = MAIN


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever names no home gets an empty one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPTLAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Sockets connect to this machine alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded_connect(getattr(socket.socket, name)))
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a finished study, to be read only."""
    import driver

    home = tmp_path_factory.mktemp("finished") / "home"
    driver.run(home, "tiny", 6, 0.0, 0, None)
    return home


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny pipeline of random weights by its name in `tiny_families.BUILDERS`, to be read only."""
    from functools import cache

    from tiny_families import write_family

    return cache(lambda name: write_family(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of `shown_home`, to be read only."""
    import shown_home

    return shown_home.build(tmp_path_factory.mktemp("shown") / "home")


@pytest.fixture(scope="session")
def address(shown: Path) -> Iterator[str]:
    """Where a dashboard shows it: one server for every test of this process."""
    from browsing import serve

    with serve(shown) as base:
        yield base


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from browsing import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield chromium
        chromium.close()


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(finished, tmp_path / "home"))
