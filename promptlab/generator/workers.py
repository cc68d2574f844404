"""Several workers on one study: each loads the backend, makes batches, and returns rows; the driver alone journals.

    driver --split_jobs--> batches --ask--> Worker 0: backend, files by hash --> Images --> driver --> journal
                             --ask--> Worker 1: ...

The backend splits the jobs into batches as it would by itself, so their shapes, and with equal numbers of threads
their bits, are those of a run in one process. They are handed out one at a time to whoever is free. A worker that dies
costs its batch, which goes to another, and is replaced. Workers die with their driver.

A seat is where a worker sits: a process of this machine here, an actor of a cluster in `promptlab.generator.workers`.
`promptlab.generator.workers` hands out the batches.

Batches handed out, one at a time, to whichever worker is free; a batch whose worker dies goes to another.

All jobs are split into batches once, by the first worker that is ready, and stay with the driver. Pictures come in
the order in which batches end. Workers that die are replaced, with PATIENCE; whatever ends the loop ends them all.

Workers on many machines, by Ray: a worker is an actor, and Ray says where it lives and which GPU is its own.

The machines share the home, and have promptlab and the model, all under the same paths. Starting, watching and ending
processes is Ray's; who makes which batch is `promptlab.generator.workers`'s, as on one machine.

References:
    Moritz et al. 2018, Ray: A Distributed Framework for Emerging AI Applications (OSDI 2018).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from promptlab import plugins
from promptlab.errors import ModelError, PromptlabError, StoreError
from promptlab.generator import generate
from promptlab.generator.backends import Job
from promptlab.records import Image
from promptlab.store import pictures
from promptlab.store.home import Home

__all__ = [
    "PATIENCE",
    "Batch",
    "Cluster",
    "Order",
    "ProcessSeat",
    "RaySeat",
    "Seat",
    "Worker",
    "WorkerLost",
    "Workforce",
    "cluster",
    "distribute",
    "portable",
    "threads_each",
    "usable_cores",
    "workforce",
]


class WorkerLost(Exception):
    """A worker died; its message says what is known of it."""


@dataclass(frozen=True)
class Order:
    """What every worker of a run is told.

    Attributes:
        options: of the backend's `load`.
        mark: a file of this run; a worker that does not see it does not share the home.
        threads: torch threads of a worker on a CPU.
        plugins: modules that the driver was told of on its command line.
        neighbours: workers that share the devices of a machine; 1 where a cluster gives each its own.
    """

    backend: str
    options: dict[str, Any]
    home: Path
    mark: Path
    threads: int
    neighbours: int = 1
    plugins: tuple[str, ...] = ()


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
        plugins.name_modules(self.order.plugins)
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

    def split_jobs(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """The batches of all jobs."""
        batches: list[list[Job]] = plugins.module("backend", self.order.backend).split_jobs(self.backend, jobs)
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


PATIENCE = 3
"""So many workers may die at one batch, or one after the other while they start."""
START_SECONDS = 900.0
"""How long a run waits while no worker is at work and none gets ready."""
DECISIVE = ("weights", "commit", "dtype", "vae_dtype")
"""What all workers must have in common, of what a backend says about itself."""


@dataclass(frozen=True)
class Workforce:
    """So many workers, of so many torch threads each where they have no GPU; `hire(order, i)` seats worker i."""

    where: str
    count: int
    threads: int
    neighbours: int
    hire: Callable[[Order, int], Seat]

    def facts(self) -> dict[str, Any]:
        """What decides bits and speed of what they make."""
        return {"where": self.where, "count": self.count, "threads": self.threads}

    def make(
        self,
        jobs: Sequence[Job],
        backend: str,
        options: dict[str, Any],
        home: Home,
        mark: Path,
        ready: Callable[[int, dict[str, Any]], None],
        lost: Callable[[str], None],
    ) -> Iterator[Image]:
        """Make `jobs` with `backend`, loaded with `options`; `mark` is a file of this run in the home."""
        order = Order(backend, options, home.path, mark, self.threads, self.neighbours, plugins.named_modules())
        return distribute(jobs, partial(self.hire, order), self.count, ready, lost)


@contextmanager
def workforce(workers: int | None, ray: str | None) -> Iterator[Workforce | None]:
    """`workers` processes of this machine, or actors of the Ray cluster at `ray`, as many as it says if None.

    None for one worker or none without Ray: that is a run in one process.
    """
    if ray is not None:
        with cluster(ray) as there:
            count = workers or there.workers
            threads = 1 if there.gpus else threads_each(there.cpus, count)
            seat = partial(RaySeat, cpus=there.reserved(threads), gpu=bool(there.gpus))
            yield Workforce(f"ray {ray}", count, threads, 1, seat)
    elif workers is None or workers == 1:
        yield None
    else:
        yield Workforce("processes", workers, threads_each(usable_cores(), workers), workers, ProcessSeat)


def distribute(
    jobs: Sequence[Job],
    hire: Callable[[int], Seat],
    count: int,
    ready: Callable[[int, dict[str, Any]], None] = lambda index, provenance: None,
    lost: Callable[[str], None] = lambda message: None,
) -> Iterator[Image]:
    """Make `jobs` with `count` workers and yield what became of each, once for each image id.

    Args:
        hire: gives the seat of worker i.
        ready: told when a worker has loaded, with its provenance.
        lost: told when a worker has died and its batch goes to another.

    Raises PromptlabError when PATIENCE is at an end, or where workers have different models, and whatever a worker
    raises, after the pictures that were finished.
    """
    wanted = {job.image_id: job for job in jobs}
    hall = _Hall(list(wanted.values()), hire, ready, lost)
    try:
        for index in range(min(count, len(wanted))):
            hall.begin(index)
        while wanted and hall.busy:
            for batch in hall.ended():
                for image in batch.images:
                    if wanted.pop(image.id, None):
                        yield image
                if batch.error is not None:
                    raise batch.error
        for job in wanted.values():
            yield Image(job.image_id, job.recipe, "error", "the backend put it into no batch")
    except GeneratorExit:
        raise
    except BaseException:  # Ctrl-C too: first comes what is finished
        yield from (image for batch in hall.leftovers() for image in batch.images if wanted.pop(image.id, None))
        raise
    finally:
        hall.close()


@dataclass(frozen=True)
class _Asked:
    """A question that a worker was asked."""

    index: int
    method: str
    batch: list[Job]


class _Hall:
    """The seats, what each was asked, and the batches that wait."""

    def __init__(
        self,
        jobs: list[Job],
        hire: Callable[[int], Seat],
        ready: Callable[[int, dict[str, Any]], None],
        lost: Callable[[str], None],
    ) -> None:
        self.jobs, self.hire, self.ready, self.lost = jobs, hire, ready, lost
        self.seats: dict[int, Seat] = {}
        self.asked: dict[Future[Any], _Asked] = {}
        self.batches: deque[list[Job]] | None = None
        self.free: deque[int] = deque()
        self.deaths: Counter[str] = Counter()
        self.first: dict[str, Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether anything is still to come; a worker that only starts brings nothing when all is handed out."""
        return self.batches is None or bool(self.batches) or not self._starting

    @property
    def _starting(self) -> bool:
        return all(asked.method == "start" for asked in self.asked.values())

    def begin(self, index: int) -> None:
        """Put a worker into seat `index`."""
        self.seats[index] = self.hire(index)
        self._ask(index, "start")

    def _ask(self, index: int, method: str, batch: list[Job] | None = None) -> None:
        arguments = () if batch is None else (batch,)
        self.asked[self.seats[index].ask(method, *arguments)] = _Asked(index, method, batch or [])

    def ended(self) -> Iterator[Batch]:
        """Wait for the next answers: the batches among them. Hands out work to who is free."""
        done, _ = wait(self.asked, START_SECONDS if self._starting else None, FIRST_COMPLETED)
        if not done:
            raise PromptlabError(
                f"no worker got ready within {START_SECONDS:.0f} s: ask for fewer with --workers, or look whether the "
                "cluster has room for them (ray status)"
            )
        for future in done:
            asked = self.asked.pop(future)
            try:
                answer = future.result()
            except WorkerLost as death:
                self._replace(asked, death)
                continue
            self.free.append(asked.index)
            if asked.method == "start":
                self._greet(asked.index, answer)
            elif asked.method == "split_jobs":
                self.batches = deque(answer)
            else:
                self._hand_out()
                yield answer
        self._hand_out()

    def _hand_out(self) -> None:
        splitting = any(asked.method == "split_jobs" for asked in self.asked.values())
        if self.batches is None and self.free and not splitting:
            self._ask(self.free.popleft(), "split_jobs", self.jobs)
        while self.batches and self.free:
            self._ask(self.free.popleft(), "make", self.batches.popleft())

    def _greet(self, index: int, provenance: dict[str, Any]) -> None:
        del self.deaths[f"worker {index}"]  # a Counter forgets what it never knew
        self.first = self.first or provenance
        for name in DECISIVE:
            if self.first.get(name) != provenance.get(name):
                raise ModelError(
                    f"the models of the workers differ in {name}: {self.first.get(name)!r} on {self.first['host']}, "
                    f"{provenance.get(name)!r} on {provenance['host']}; give all machines the same model"
                )
        self.ready(index, provenance)

    def _replace(self, asked: _Asked, death: WorkerLost) -> None:
        making = asked.method == "make"
        key = asked.batch[0].image_id if making else f"worker {asked.index}"
        self.deaths[key] += 1
        if self.deaths[key] >= PATIENCE:
            where = "at the same batch" if making else "before they were ready"
            raise PromptlabError(
                f"{PATIENCE} workers died {where}, the last: {death}. What is finished is kept; "
                "try a smaller --batch-size, or fewer --workers"
            ) from death
        self.lost(str(death))
        if making and self.batches is not None:
            self.batches.appendleft(asked.batch)
        self.seats.pop(asked.index).close()
        self.begin(asked.index)

    def leftovers(self) -> Iterator[Batch]:
        """Batches that ended and were not fetched."""
        for future, asked in self.asked.items():
            if asked.method == "make" and future.done() and not future.exception():
                yield future.result()

    def close(self) -> None:
        """End all workers."""
        for seat in self.seats.values():
            seat.close()


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to: its living nodes, the CPUs and GPUs of all of them, and the CPUs of
    the node that has most."""

    address: str
    nodes: int
    cpus: int
    gpus: int
    widest: int = 1

    @property
    def workers(self) -> int:
        """One a GPU; without any, one a node."""
        return self.gpus or max(1, self.nodes)

    def reserved(self, threads: int) -> int:
        """CPUs to reserve for a worker of so many threads: never more than a node has, or it would wait for ever."""
        return min(threads, self.widest)


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Connect to the Ray cluster at `address` ("auto", HOST:PORT or ray://HOST:PORT) for the length of the block.

    Raises PromptlabError where Ray is not installed, or no cluster answers.
    """
    # Else Ray sends the folder from which `uv run` was called to every machine, pictures and all.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError as error:
        raise PromptlabError("--ray needs Ray: pip install 'promptlab-t2i[ray]'") from error
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        why = str(error).strip().partition("\n")[0]
        raise PromptlabError(
            f"no Ray cluster at {address} ({why or type(error).__name__}); start one: ray start --head here, "
            "ray start --address=HOST:6379 on the other machines"
        ) from error
    try:
        there = ray.cluster_resources()
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        widest = max((int(node.get("CPU", 0)) for node in alive), default=1)
        yield Cluster(address, len(alive), int(there.get("CPU", 1)), int(there.get("GPU", 0)), widest)
    finally:
        ray.shutdown()


class RaySeat(Seat):
    """A worker in an actor of the cluster that this process is connected to; `cpus` are reserved for it."""

    def __init__(self, order: Order, index: int, cpus: int, gpu: bool) -> None:
        import ray

        super().__init__(index)
        self._deadly = (
            ray.exceptions.RayActorError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.OutOfMemoryError,
        )
        actor: Any = ray.remote(Worker)
        needs = {"num_cpus": cpus, "num_gpus": int(gpu)}
        self._actor = actor.options(**needs, scheduling_strategy="SPREAD", max_restarts=0).remote(order, index)

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self._actor, method).remote(*arguments))
        except self._deadly as error:
            why = str(error).strip().partition("\n")[0]
            raise WorkerLost(f"worker {self.index} died ({why})") from error
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # without Ray's traceback of the other machine

    def _kill(self) -> None:
        import ray

        ray.kill(self._actor)
