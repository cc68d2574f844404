"""Several workers on one study: processes of this machine, or actors of a Ray cluster.

    driver --split_jobs--> batches --make--> Worker 0: backend, files by hash --> Images --> driver --> journal
                                   --make--> Worker 1: ...

Each worker loads the backend, makes batches and returns records. The driver alone writes the journal. The first worker
that is ready splits all jobs into batches once, as the backend would in one process. The shapes are therefore those of
a run in one process, and with equal numbers of threads so are the bits. The driver keeps the batches and hands them,
one at a time, to whichever worker is free. Images come in the order in which batches end.

A worker that dies is replaced, and its batch goes to another, up to MAX_DEATHS times. Workers end with their driver.

With Ray a worker is an actor, and Ray decides which machine and which GPU it gets. The machines share the home,
and have promptlab and the model under the same paths.

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
    "MAX_DEATHS",
    "Batch",
    "Cluster",
    "ProcessWorker",
    "RayWorker",
    "Worker",
    "WorkerHandle",
    "WorkerLost",
    "WorkerSpec",
    "Workforce",
    "cluster",
    "distribute",
    "portable",
    "threads_each",
    "usable_cores",
    "workforce",
]


class WorkerLost(Exception):
    """A worker died. The message says which one and, where it is known, why."""


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to start; all workers of a run get the same.

    Attributes:
        options: arguments of the backend's `load`.
        run_file: a file of this run; a worker that does not see it does not share the home.
        threads: torch threads of a worker on a CPU.
        neighbours: workers that share the devices of a machine; 1 where a cluster gives each its own.
        plugins: plugin modules named on the driver's command line.
    """

    backend: str
    options: dict[str, Any]
    home: Path
    run_file: Path
    threads: int
    neighbours: int = 1
    plugins: tuple[str, ...] = ()


@dataclass
class Batch:
    """The result of a batch: a record for each finished image, and the error that stopped the rest, if any."""

    images: list[Image] = field(default_factory=list)
    error: Exception | None = None


class Worker:
    """Makes batches with one backend, in a process of its own. Loads nothing before `start`."""

    def __init__(self, spec: WorkerSpec, index: int) -> None:
        self.spec = spec
        self.index = index
        self.home = Home(spec.home)

    def start(self) -> dict[str, Any]:
        """Load the backend. Returns its provenance, with the host and the process id.

        Raises StoreError if this machine does not share the home, and whatever the backend's `load` raises.
        """
        if not self.spec.run_file.exists():
            raise StoreError(
                f"{socket.gethostname()} does not see this run at {self.spec.home}: workers on other machines need "
                "--home on a disk that all of them share, under one path"
            )
        os.environ["OMP_NUM_THREADS"] = str(self.spec.threads)  # torch, which is not imported yet, reads it once
        plugins.name_modules(self.spec.plugins)
        options = dict(self.spec.options)
        if "device" in plugins.parameters("backend", self.spec.backend):
            options |= self._device()
        self.backend = plugins.load("backend", self.spec.backend, **options)
        return {**self.backend.provenance(), "host": socket.gethostname(), "pid": os.getpid()}

    def _device(self) -> dict[str, str]:
        """The CUDA device of this worker; nothing on a machine without one."""
        import torch

        if not torch.cuda.is_available():
            return {}
        devices = torch.cuda.device_count()
        if self.spec.neighbours > devices:
            sharing = self.spec.neighbours
            raise PromptlabError(f"{sharing} workers for {devices} CUDA devices: ask for --workers {devices} or fewer")
        device = self.index % devices
        torch.cuda.set_device(device)
        return {"device": f"cuda:{device}"}

    def split_jobs(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Split all jobs into batches, as the backend would in one process."""
        batches: list[list[Job]] = plugins.module("backend", self.spec.backend).split_jobs(self.backend, jobs)
        return batches

    def make(self, jobs: Sequence[Job]) -> Batch:
        """Make one batch. Files go into the home; records, and the error that ended the batch, go to the caller."""
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
    """An error that can be sent to another process: ours unchanged, any other as a RuntimeError with its traceback."""
    if isinstance(error, PromptlabError) or type(error) in (OSError, MemoryError, RuntimeError):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))


class WorkerHandle:
    """The driver's side of one worker. If the worker dies, the futures of `call` raise WorkerLost."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"promptlab-worker-{index}")

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Start `Worker.method(*arguments)` and return its future at once."""
        return self._thread.submit(self._call, method, *arguments)

    def close(self) -> None:
        """End the worker at once, whatever it is doing."""
        self._kill()
        self._thread.shutdown(cancel_futures=True)

    def _call(self, method: str, *arguments: Any) -> Any:
        raise NotImplementedError

    def _kill(self) -> None:
        raise NotImplementedError


class ProcessWorker(WorkerHandle):
    """A worker in a process of this machine."""

    def __init__(self, spec: WorkerSpec, index: int) -> None:
        super().__init__(index)
        # A fresh interpreter: CUDA and threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec, index), daemon=True)
        with _ctrl_c_waits():
            self._process.start()
        theirs.close()  # else the pipe would not break with the worker

    def _call(self, method: str, *arguments: Any) -> Any:
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
        """End the worker at once, and wait until its process has ended."""
        super().close()
        self._process.join()
        self._pipe.close()


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block. Processes started inside never receive it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Any, spec: WorkerSpec, index: int) -> None:
    """Run a worker's process: call each method that the driver names, and send the answer back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    worker = Worker(spec, index)
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
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(cores: int, workers: int) -> int:
    """Torch threads of each worker: the value of OMP_NUM_THREADS, else an equal share of the cores."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(setting) if setting.isdigit() else cores // workers)


MAX_DEATHS = 3
"""Deaths at one batch, or of one worker while it starts, after which the run ends."""
START_SECONDS = 900.0
"""How long a run waits while all workers are still starting."""
DECISIVE = ("weights", "commit", "dtype", "vae_dtype")
"""Keys of the provenance that must be equal for all workers."""


@dataclass(frozen=True)
class Workforce:
    """The workers of a run, before they start.

    Attributes:
        where: "processes", or "ray" and the address of the cluster.
        threads: torch threads of each worker on a CPU.
        neighbours: see `WorkerSpec`.
        open_worker: starts worker i, as `open_worker(spec, i)`.
    """

    where: str
    count: int
    threads: int
    neighbours: int
    open_worker: Callable[[WorkerSpec, int], WorkerHandle]

    def facts(self) -> dict[str, Any]:
        """What decides the bits and the speed of the images, as a fact of the run."""
        return {"where": self.where, "count": self.count, "threads": self.threads}

    def make(
        self,
        jobs: Sequence[Job],
        backend: str,
        options: dict[str, Any],
        home: Home,
        run_file: Path,
        on_ready: Callable[[int, dict[str, Any]], None],
        on_lost: Callable[[str], None],
    ) -> Iterator[Image]:
        """Make `jobs` with `backend`, loaded with `options`. `run_file` is a file of this run in the home."""
        spec = WorkerSpec(backend, options, home.path, run_file, self.threads, self.neighbours, plugins.named_modules())
        return distribute(jobs, partial(self.open_worker, spec), self.count, on_ready, on_lost)


@contextmanager
def workforce(workers: int | None, ray: str | None) -> Iterator[Workforce | None]:
    """The workers that a run asks for, or None for a run in one process.

    Args:
        workers: their number. With Ray, None means one a GPU, or one a node without GPUs; otherwise 1 and None both
            mean a run in one process.
        ray: address of a Ray cluster; None starts processes on this machine.
    """
    if ray is not None:
        with cluster(ray) as ray_cluster:
            count = workers or ray_cluster.workers
            threads = 1 if ray_cluster.gpus else threads_each(ray_cluster.cpus, count)
            open_worker = partial(RayWorker, cpus=ray_cluster.reserved(threads), gpu=bool(ray_cluster.gpus))
            yield Workforce(f"ray {ray}", count, threads, 1, open_worker)
    elif workers is None or workers == 1:
        yield None
    else:
        yield Workforce("processes", workers, threads_each(usable_cores(), workers), workers, ProcessWorker)


def distribute(
    jobs: Sequence[Job],
    open_worker: Callable[[int], WorkerHandle],
    count: int,
    on_ready: Callable[[int, dict[str, Any]], None] = lambda index, provenance: None,
    on_lost: Callable[[str], None] = lambda message: None,
) -> Iterator[Image]:
    """Make `jobs` with `count` workers and yield one record for each image id.

    Args:
        open_worker: starts worker i.
        on_ready: called with a worker's index and provenance once it has loaded the backend.
        on_lost: called with a message when a worker has died and its batch goes to another.

    Raises PromptlabError after MAX_DEATHS deaths, ModelError if the workers have different models, and whatever a
    worker raises. The images that were finished come first.
    """
    wanted = {job.image_id: job for job in jobs}
    pool = _WorkerPool(list(wanted.values()), open_worker, on_ready, on_lost)
    try:
        for index in range(min(count, len(wanted))):
            pool.begin(index)
        while wanted and pool.has_work:
            for batch in pool.wait_for_batches():
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
        yield from (image for batch in pool.leftovers() for image in batch.images if wanted.pop(image.id, None))
        raise
    finally:
        pool.close()


@dataclass(frozen=True)
class _Call:
    """A call to a worker that has not been answered yet. `batch` is empty unless the method is `make`."""

    index: int
    method: str
    batch: list[Job]


class _WorkerPool:
    """The workers, their unanswered calls, and the batches that nobody has taken yet."""

    def __init__(
        self,
        jobs: list[Job],
        open_worker: Callable[[int], WorkerHandle],
        on_ready: Callable[[int, dict[str, Any]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.jobs, self.open_worker, self.on_ready, self.on_lost = jobs, open_worker, on_ready, on_lost
        self.workers: dict[int, WorkerHandle] = {}
        self.calls: dict[Future[Any], _Call] = {}
        self.batches: deque[list[Job]] | None = None
        self.free: deque[int] = deque()
        self.deaths: Counter[str] = Counter()
        self.first_provenance: dict[str, Any] | None = None

    @property
    def has_work(self) -> bool:
        """Whether batches are waiting or being made. A worker that is only starting brings none once all are taken."""
        return self.batches is None or bool(self.batches) or not self._starting

    @property
    def _starting(self) -> bool:
        return all(call.method == "start" for call in self.calls.values())

    def begin(self, index: int) -> None:
        """Start worker `index`."""
        self.workers[index] = self.open_worker(index)
        self._call(index, "start")

    def _call(self, index: int, method: str, batch: list[Job] | None = None) -> None:
        arguments = () if batch is None else (batch,)
        self.calls[self.workers[index].call(method, *arguments)] = _Call(index, method, batch or [])

    def wait_for_batches(self) -> Iterator[Batch]:
        """Wait for the next answers, hand out work to free workers, and yield the finished batches."""
        done, _ = wait(self.calls, START_SECONDS if self._starting else None, FIRST_COMPLETED)
        if not done:
            raise PromptlabError(
                f"no worker got ready within {START_SECONDS:.0f} s: ask for fewer with --workers, or look whether the "
                "cluster has room for them (ray status)"
            )
        for future in done:
            call = self.calls.pop(future)
            try:
                answer = future.result()
            except WorkerLost as death:
                self._replace(call, death)
                continue
            self.free.append(call.index)
            if call.method == "start":
                self._accept(call.index, answer)
            elif call.method == "split_jobs":
                self.batches = deque(answer)
            else:
                self._hand_out()
                yield answer
        self._hand_out()

    def _hand_out(self) -> None:
        splitting = any(call.method == "split_jobs" for call in self.calls.values())
        if self.batches is None and self.free and not splitting:
            self._call(self.free.popleft(), "split_jobs", self.jobs)
        while self.batches and self.free:
            self._call(self.free.popleft(), "make", self.batches.popleft())

    def _accept(self, index: int, provenance: dict[str, Any]) -> None:
        """Take on a worker that has loaded. Raises ModelError if its model differs from the first worker's."""
        del self.deaths[f"worker {index}"]  # a Counter forgets what it never knew
        first = self.first_provenance = self.first_provenance or provenance
        for name in DECISIVE:
            if first.get(name) != provenance.get(name):
                raise ModelError(
                    f"the models of the workers differ in {name}: {first.get(name)!r} on {first['host']}, "
                    f"{provenance.get(name)!r} on {provenance['host']}; give all machines the same model"
                )
        self.on_ready(index, provenance)

    def _replace(self, call: _Call, death: WorkerLost) -> None:
        """Start a worker in place of a dead one, and put its batch back. Raises PromptlabError after MAX_DEATHS."""
        making = call.method == "make"
        key = call.batch[0].image_id if making else f"worker {call.index}"
        self.deaths[key] += 1
        if self.deaths[key] >= MAX_DEATHS:
            where = "at the same batch" if making else "before they were ready"
            raise PromptlabError(
                f"{MAX_DEATHS} workers died {where}, the last: {death}. What is finished is kept; "
                "try a smaller --batch-size, or fewer --workers"
            ) from death
        self.on_lost(str(death))
        if making and self.batches is not None:
            self.batches.appendleft(call.batch)
        self.workers.pop(call.index).close()
        self.begin(call.index)

    def leftovers(self) -> Iterator[Batch]:
        """Finished batches that nobody has collected."""
        for future, call in self.calls.items():
            if call.method == "make" and future.done() and not future.exception():
                yield future.result()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            worker.close()


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to.

    Attributes:
        nodes: number of nodes that are alive.
        cpus, gpus: of all nodes together.
        widest: CPUs of the node that has the most.
    """

    address: str
    nodes: int
    cpus: int
    gpus: int
    widest: int = 1

    @property
    def workers(self) -> int:
        """The usual number of workers: one a GPU, or one a node without GPUs."""
        return self.gpus or max(1, self.nodes)

    def reserved(self, threads: int) -> int:
        """CPUs to reserve for a worker of `threads` threads: at most those of the widest node, else it never starts."""
        return min(threads, self.widest)


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Connect to the Ray cluster at `address` ("auto", HOST:PORT or ray://HOST:PORT) until the end of the block.

    Raises PromptlabError if Ray is not installed or no cluster answers.
    """
    # Else Ray sends the folder from which `uv run` was called to every machine, images and all.
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
        resources = ray.cluster_resources()
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        widest = max((int(node.get("CPU", 0)) for node in alive), default=1)
        yield Cluster(address, len(alive), int(resources.get("CPU", 1)), int(resources.get("GPU", 0)), widest)
    finally:
        ray.shutdown()


class RayWorker(WorkerHandle):
    """A worker in an actor of the connected Ray cluster, which reserves `cpus` CPUs, and a GPU if `gpu`, for it."""

    def __init__(self, spec: WorkerSpec, index: int, cpus: int, gpu: bool) -> None:
        import ray

        super().__init__(index)
        self._fatal_errors = (
            ray.exceptions.RayActorError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.ObjectLostError,
            ray.exceptions.OutOfMemoryError,
        )
        actor: Any = ray.remote(Worker)
        needs = {"num_cpus": cpus, "num_gpus": int(gpu)}
        self._actor = actor.options(**needs, scheduling_strategy="SPREAD", max_restarts=0).remote(spec, index)

    def _call(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self._actor, method).remote(*arguments))
        except self._fatal_errors as error:
            why = str(error).strip().partition("\n")[0]
            raise WorkerLost(f"worker {self.index} died ({why})") from error
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # without Ray's traceback of the other machine

    def _kill(self) -> None:
        import ray

        ray.kill(self._actor)
