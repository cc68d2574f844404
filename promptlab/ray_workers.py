"""Workers on many machines, by Ray: a worker is an actor, and Ray says where it lives and which GPU is its own.

The machines share the home, and have promptlab and the model, all under the same paths. Starting, watching and ending
processes is Ray's; who makes which batch is `promptlab.distribution`'s, as on one machine.

References:
    Moritz et al. 2018, Ray: A Distributed Framework for Emerging AI Applications (OSDI 2018).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from promptlab.errors import PromptlabError
from promptlab.workers import Order, Seat, Worker, WorkerLost

__all__ = ["Cluster", "RaySeat", "cluster"]


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
