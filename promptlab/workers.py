"""Several workers on one study: each loads the backend, makes batches, and returns rows; the driver alone journals.

    driver --deal--> batches --ask--> Worker 0: backend, files by hash --> Images --> driver --> journal
                             --ask--> Worker 1: ...

Batches are dealt by the backend as it would cut all jobs itself, so their shapes, and with equal numbers of threads
their bits, are those of a run in one process. They are handed out one at a time to whoever is free. A worker that dies
costs its batch, which goes to another, and is replaced. Workers die with their driver.

A seat is where a worker sits: a process of this machine here, an actor of a cluster in `promptlab.ray_workers`.
`promptlab.distribution` hands out the batches.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptlab import pictures, plugins
from promptlab.backends import Job
from promptlab.errors import PromptlabError, StoreError
from promptlab.generator import generate
from promptlab.home import Home
from promptlab.records import Image

__all__ = ["Batch", "Order", "ProcessSeat", "Seat", "Worker", "WorkerLost", "portable", "threads_each", "usable_cores"]


class WorkerLost(Exception):
    """A worker died; its message says what is known of it."""


@dataclass(frozen=True)
class Order:
    """What every worker of a run is told.

    Attributes:
        options: of the backend's `load`.
        mark: a file of this run; a worker that does not see it does not share the home.
        threads: torch threads of a worker on a CPU.
        neighbours: workers that share the devices of a machine; 1 where a cluster gives each its own.
    """

    backend: str
    options: dict[str, Any]
    home: Path
    mark: Path
    threads: int
    neighbours: int = 1


@dataclass
class Batch:
    """What became of a batch: a record for each picture that was finished, and what stopped the rest, if anything."""

    images: list[Image] = field(default_factory=list)
    error: Exception | None = None


class Worker:
    """Makes batches of one backend. Nothing is loaded before `start`."""

    def __init__(self, order: Order, index: int) -> None:
        self.order = order
        self.index = index
        self.home = Home(order.home)

    def start(self) -> dict[str, Any]:
        """Load the backend: its provenance, and where it is at work.

        Raises StoreError where this machine does not share the home, and what the backend's `load` raises.
        """
        if not self.order.mark.exists():
            raise StoreError(
                f"{socket.gethostname()} does not see this run at {self.order.home}: workers on other machines need "
                "--home on a disk that all of them share, under one path"
            )
        os.environ["OMP_NUM_THREADS"] = str(self.order.threads)  # torch, which is not imported yet, reads it once
        options = dict(self.order.options)
        if "device" in plugins.parameters("backend", self.order.backend):
            options |= self._device()
        self.backend = plugins.load("backend", self.order.backend, **options)
        return {**self.backend.provenance(), "host": socket.gethostname(), "pid": os.getpid()}

    def _device(self) -> dict[str, str]:
        """A CUDA device of its own, where there are any."""
        import torch

        if not torch.cuda.is_available():
            return {}
        there = torch.cuda.device_count()
        if self.order.neighbours > there:
            given = self.order.neighbours
            raise PromptlabError(f"{given} workers for {there} CUDA devices: ask for --workers {there} or fewer")
        device = self.index % there
        torch.cuda.set_device(device)
        return {"device": f"cuda:{device}"}

    def deal(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """The batches of all jobs."""
        batches: list[list[Job]] = plugins.part("backend", self.order.backend, "deal")(self.backend, jobs)
        return batches

    def make(self, jobs: Sequence[Job]) -> Batch:
        """Make one batch: files into the home, records to the caller. Errors are handed over with what is finished."""
        batch = Batch()
        try:
            for image in generate(self.backend, jobs, self._save, pictures.is_degenerate):
                batch.images.append(image)
        except Exception as error:
            batch.error = portable(error)
        return batch

    def _save(self, pixels: Any, recipe: dict[str, Any]) -> tuple[str, str]:
        self.home.check_space()
        return pictures.save(pixels, self.home, recipe)


def portable(error: Exception) -> Exception:
    """An error that arrives whole in another process: ours as it is, of others the type and the traceback in words."""
    if isinstance(error, PromptlabError) or type(error) in (OSError, MemoryError, RuntimeError):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))


class Seat:
    """Where a worker sits. `ask` calls a method of it and returns at once; a dead worker's answer is WorkerLost."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"promptlab-worker-{index}")

    def ask(self, method: str, *arguments: Any) -> Future[Any]:
        """The answer of `Worker.method(*arguments)`, later."""
        return self._thread.submit(self._ask, method, *arguments)

    def close(self) -> None:
        """End the worker, whatever it does."""
        self._kill()
        self._thread.shutdown(cancel_futures=True)

    def _ask(self, method: str, *arguments: Any) -> Any:
        raise NotImplementedError

    def _kill(self) -> None:
        raise NotImplementedError


class ProcessSeat(Seat):
    """A worker in a process of this machine."""

    def __init__(self, order: Order, index: int) -> None:
        super().__init__(index)
        # A fresh interpreter: CUDA and threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, order, index), daemon=True)
        with _ctrl_c_waits():
            self._process.start()
        theirs.close()  # else the pipe would not break with the worker

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((method, arguments))
            good, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(10)
            code = self._process.exitcode
            hint = "; killed by the system, as it does where memory is short" if code == -9 else ""
            raise WorkerLost(f"worker {self.index} died (exit code {code}{hint})") from error
        if not good:
            raise answer
        return answer

    def _kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """End the worker, whatever it does."""
        super().close()
        self._process.join()
        self._pipe.close()


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C reaches this process after the block, and never one that is born in it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Any, order: Order, index: int) -> None:
    """The life of a worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    worker = Worker(order, index)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, getattr(worker, method)(*arguments)
        except Exception as error:
            answer = False, portable(error)
        pipe.send(answer)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(cores: int, workers: int) -> int:
    """Torch threads of each of so many workers: what OMP_NUM_THREADS says, else an equal share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(given) if given.isdigit() else cores // workers)
