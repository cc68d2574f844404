"""How fast two workers are against one that has all cores, in turns on the same batches.

Loading is left out: it is paid once a run. Both sides are processes, so that both pay for handing over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptlab.backends import Job
from promptlab.workers import Order, ProcessSeat, Seat, usable_cores

__all__ = ["worker_rates"]


def worker_rates(jobs: Sequence[Job], batch_size: int, repeats: int) -> list[tuple[float, float]]:
    """Pictures a second of two workers that share the cores, and of one that has them all, for each repeat."""
    cores = usable_cores()
    with TemporaryDirectory() as folder:
        home = Path(folder)
        order = Order("diffusion", {"model": "miniature", "batch_size": batch_size}, home, home, cores)
        halves = replace(order, threads=max(1, cores // 2), neighbours=2)
        seats: list[Seat] = [ProcessSeat(order, 0), ProcessSeat(halves, 0), ProcessSeat(halves, 1)]
        try:
            for started in [seat.ask("start") for seat in seats]:
                started.result()
            batches = seats[0].ask("deal", list(jobs)).result()
            for warm in [seat.ask("make", batches[0]) for seat in seats]:
                warm.result()
            return [(_rate(seats[1:], batches), _rate(seats[:1], batches)) for _ in range(repeats)]
        finally:
            for seat in seats:
                seat.close()


def _rate(seats: Sequence[Seat], batches: Sequence[list[Job]]) -> float:
    """Pictures a second; whoever is free takes the next batch."""
    began, made, queue = time.perf_counter(), 0, list(reversed(batches))
    asked: dict[Future[Any], Seat] = {}
    free = list(seats)
    while queue or asked:
        while queue and free:
            seat = free.pop()
            asked[seat.ask("make", queue.pop())] = seat
        for future in wait(asked, return_when=FIRST_COMPLETED).done:
            free.append(asked.pop(future))
            made += len(future.result().images)
    return made / (time.perf_counter() - began)
