"""Handing out batches: every image once, whichever worker dies, up to MAX_DEATHS. Workers are threads here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plays.scripted import MODULE, jobs, worker_spec
from promptlab import plugins
from promptlab.errors import ModelError, PromptlabError, StoreError
from promptlab.generator import generate, workers
from promptlab.generator.backends import Job, Made
from promptlab.generator.models.batches import Batches, batches_of, group
from promptlab.generator.workers import MAX_DEATHS, Worker, WorkerHandle, WorkerLost, WorkerSpec, distribute
from promptlab.records import Cell, Image, Prompt, Settings
from promptlab.store.home import Home
from promptlab.store.pictures import save


@pytest.fixture(autouse=True)
def worker_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables that a worker sets in its process, which is this one here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(plugins.VARIABLE, MODULE)


class ThreadWorker(WorkerHandle):
    """A worker in a thread of this process; `dies(index, method, jobs)` says when it does."""

    def __init__(self, spec: WorkerSpec, index: int, dies: Callable[[int, str, Any], bool] = lambda *_: False) -> None:
        super().__init__(index)
        self.worker, self.dies = Worker(spec, index), dies

    def _call(self, method: str, *arguments: Any) -> Any:
        if self.dies(self.index, method, arguments):
            raise WorkerLost(f"worker {self.index} died")
        return getattr(self.worker, method)(*arguments)

    def _kill(self) -> None: ...


def alone(home: Path, wanted: list[Job]) -> dict[str, Image]:
    """The images that one process makes."""
    worker = Worker(worker_spec(home, "plain"), 0)
    worker.start()
    made = generate(worker.backend, wanted, lambda pixels, recipe: save(pixels, Home(home), recipe))
    return {image.id: image for image in made}


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_job_is_made_once(workers: int, tmp_path: Path) -> None:
    wanted, reported = jobs(23), []
    one = alone(tmp_path / "one", wanted)
    many = list(
        distribute(
            [*wanted, wanted[3]],
            lambda index: ThreadWorker(worker_spec(tmp_path / "many", "plain"), index),
            workers,
            lambda index, provenance: reported.append((index, provenance["weights"])),
        )
    )
    assert len(many) == 23 and {image.id: (image.file, image.pixels) for image in many} == {
        key: (image.file, image.pixels) for key, image in one.items()
    }
    assert set(reported) <= {(index, "none") for index in range(workers)} and reported


@pytest.mark.parametrize("method", ["start", "split_jobs", "make"])
def test_a_dead_worker_is_replaced(method: str, tmp_path: Path) -> None:
    deaths, messages = iter([True, True]), []

    def dies(index: int, called: str, arguments: Any) -> bool:
        return index == 0 and called == method and next(deaths, False)

    made = distribute(
        jobs(9),
        lambda index: ThreadWorker(worker_spec(tmp_path / "h", "plain"), index, dies),
        1,
        on_lost=messages.append,
    )
    assert [image.status for image in made] == ["ok"] * 9
    assert messages == ["worker 0 died"] * 2


@pytest.mark.parametrize(("method", "where"), [("start", "before they were ready"), ("make", "at the same batch")])
def test_a_run_ends_after_max_deaths(method: str, where: str, tmp_path: Path) -> None:
    deaths: list[int] = []

    def dies(index: int, called: str, arguments: Any) -> bool:
        poisoned = called == method and (called == "start" or arguments[0][0].seed == 4)
        deaths.extend([index] * poisoned)
        return poisoned

    made = []
    with pytest.raises(PromptlabError, match=where) as caught:
        for image in distribute(jobs(12), lambda i: ThreadWorker(worker_spec(tmp_path / "h", "plain"), i, dies), 1):
            made.append(image.recipe["seed"])
    assert "\n" not in str(caught.value) and len(deaths) == MAX_DEATHS
    assert made == ([] if method == "start" else [0, 1, 2, 3])


def test_an_error_comes_after_what_is_finished(tmp_path: Path) -> None:
    made = []
    with pytest.raises(PromptlabError, match="no more at seed 6"):
        for image in distribute(jobs(12), lambda i: ThreadWorker(worker_spec(tmp_path / "h", "fail=6"), i), 1):
            made.append(image.recipe["seed"])
    assert made == [0, 1, 2, 3, 4, 5]


def test_workers_must_be_of_one_kind_and_share_the_home(tmp_path: Path) -> None:
    def open_worker(index: int) -> WorkerHandle:
        return ThreadWorker(worker_spec(tmp_path / "h", "differ" if index else "slow=0.05"), index)

    with pytest.raises(ModelError, match=r"differ in weights: '(none|random)'"):
        list(distribute(jobs(40), open_worker, 2))
    stray = WorkerSpec("scripted", {}, tmp_path, tmp_path / "no such run", 1)
    with pytest.raises(StoreError, match="does not see this run"):
        list(distribute(jobs(4), lambda index: ThreadWorker(stray, index), 1))


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(ThreadWorker):
        def _call(self, method: str, *arguments: Any) -> Any:
            gone.wait(20)

        def _kill(self) -> None:
            gone.set()

    gone = threading.Event()
    monkeypatch.setattr(workers, "START_SECONDS", 0.05)
    with pytest.raises(PromptlabError, match=r"no worker got ready within .* --workers"):
        list(distribute(jobs(4), lambda index: Never(worker_spec(tmp_path / "h", "plain"), index), 2))


def test_batches_are_split_as_in_one_process() -> None:
    """For every size and mix, a batch made alone has the rows, order and padding that it has in the whole run."""
    cells = [
        Cell("s", (), Prompt(text), Settings(scale, steps), "g")
        for text in ("a", "b", "c")
        for scale in (0.0, 1.0, 3.0)
        for steps in (2, 3)
    ]
    wanted = [Job.of(cell, seed) for seed in range(3) for cell in cells]
    for size in (1, 2, 4, 7, 64):
        seen: list[Any] = []

        def make(shape: Any, rows: Any, size: int, ahead: Any, seen: list[Any] = seen) -> list[Made]:
            seen.append((shape, rows, size))
            return [Made("") for _ in rows]

        whole = [one.image_id for one in Batches(make, size).run(group(wanted))]
        cut, seen[:] = list(seen), []
        shares = batches_of(group(wanted), Batches(make, size).rows_of)
        parts = [one.image_id for share in shares for one in Batches(make, size).run(group(share))]
        assert seen == cut and parts == whole and sorted(parts) == sorted(job.image_id for job in wanted)


def test_a_worker_gives_up_where_no_picture_fits() -> None:
    """Batches come one by one, and the count goes on."""
    batches = Batches(lambda *_: (_ for _ in ()).throw(MemoryError()), 1)
    with pytest.raises(PromptlabError, match="5 pictures in a row"):
        for job in jobs(20):
            list(batches.run(group([job])))
