"""Real processes, to be killed for real: forked from a server that has imported what they need."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

__all__ = ["finish", "processes"]

processes = multiprocessing.get_context("forkserver" if os.name != "nt" else "spawn")
if os.name != "nt":
    processes.set_forkserver_preload(["driver", "readers", "real_run"])
    # Python 3.11 does not hand its path to the server, which then leaves out silently what it cannot import.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()


def finish(process: BaseProcess) -> int | None:
    process.join(200)
    return process.exitcode
