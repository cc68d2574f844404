"""Real processes, to be killed for real: forked from a server that has imported what they need."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.process import BaseProcess

__all__ = ["finish", "processes"]

processes = multiprocessing.get_context("forkserver" if os.name != "nt" else "spawn")
if os.name != "nt":
    processes.set_forkserver_preload(["driver", "real_run"])


def finish(process: BaseProcess) -> int | None:
    process.join(200)
    return process.exitcode
