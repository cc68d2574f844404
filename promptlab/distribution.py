"""Batches handed out, one at a time, to whichever worker is free; a batch whose worker dies goes to another.

The batches of all jobs are dealt once, by the first worker that is ready, and stay with the driver. Pictures come in
the order in which batches end. Workers that die are replaced, with PATIENCE; whatever ends the loop ends them all.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from promptlab.backends import Job
from promptlab.errors import ModelError, PromptlabError
from promptlab.home import Home
from promptlab.records import Image
from promptlab.workers import Batch, Order, ProcessSeat, Seat, WorkerLost, threads_each, usable_cores

__all__ = ["PATIENCE", "Workforce", "distribute", "workforce"]

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
        order = Order(backend, options, home.path, mark, self.threads, self.neighbours)
        return distribute(jobs, partial(self.hire, order), self.count, ready, lost)


@contextmanager
def workforce(workers: int | None, ray: str | None) -> Iterator[Workforce | None]:
    """`workers` processes of this machine, or actors of the Ray cluster at `ray`, as many as it says if None.

    None for one worker or none without Ray: that is a run in one process.
    """
    if ray is not None:
        from promptlab.ray_workers import RaySeat, cluster

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
            yield Image(job.image_id, job.recipe, "error", "the backend dealt it into no batch")
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
            elif asked.method == "deal":
                self.batches = deque(answer)
            else:
                self._hand_out()
                yield answer
        self._hand_out()

    def _hand_out(self) -> None:
        dealing = any(asked.method == "deal" for asked in self.asked.values())
        if self.batches is None and self.free and not dealing:
            self._ask(self.free.popleft(), "deal", self.jobs)
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
