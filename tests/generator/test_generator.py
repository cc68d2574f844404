"""The loop over missing pictures, with a backend that does as it is told, and the plugins it comes from."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptlab import plugins
from promptlab.errors import DiskError, PromptlabError
from promptlab.generator import AHEAD, generate
from promptlab.generator.backends import Job, Made
from promptlab.generator.backends.renderer import load
from promptlab.records import Binding, Cell, Prompt, Settings
from promptlab.store.home import Home
from promptlab.store.pictures import is_degenerate, pixels_hash, save
from promptlab.store.pictures import load as load_picture


def jobs(count: int) -> list[Job]:
    cell = Cell("s", (), Prompt("a red cup"), Settings(), "g", backend="fake")
    return [Job.of(cell, seed) for seed in range(count)]


def keep(pixels: np.ndarray, recipe: dict[str, Any]) -> tuple[str, str]:
    return f"file{recipe['seed']}", f"pixels{recipe['seed']}"


class Fake:
    """Makes noise; `plan[i]` says what job i comes to instead: fields of Made, or an error to raise."""

    name = "fake"

    def __init__(self, plan: dict[int, dict[str, Any] | BaseException] | None = None) -> None:
        self.plan = plan or {}
        self.made = 0

    def provenance(self) -> dict[str, Any]:
        return {}

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        for i, job in enumerate(jobs):
            change = self.plan.get(i, {})
            if isinstance(change, BaseException):
                raise change
            self.made += 1
            pixels = np.random.default_rng(job.seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
            yield replace(Made(job.image_id, pixels, seconds=0.5, clipped=0.25, batch_size=4), **change)

    def close(self) -> None: ...


def test_every_job_becomes_one_image_with_its_facts() -> None:
    wanted = jobs(7)
    images = list(generate(Fake(), [*wanted, wanted[0]], keep))
    assert [image.id for image in images] == [job.image_id for job in wanted]
    assert [(i.file, i.pixels) for i in images] == [(f"file{n}", f"pixels{n}") for n in range(7)]
    assert {(i.status, i.width, i.height, i.seconds, i.clipped, i.batch_size) for i in images} == {
        ("ok", 8, 8, 0.5, 0.25, 4)
    }
    assert images[3].recipe == wanted[3].recipe


def test_pictures_on_disk_are_the_pictures_made(tmp_path: Path) -> None:
    home = Home(tmp_path)
    backend = load()
    claim = (Binding("a", "cup", "red"), Binding("b", "chair", "blue"))
    cell = Cell("s", (), Prompt("a red cup and a blue chair", bindings=claim), Settings(), "g", backend="renderer")
    wanted = [Job.of(cell, seed) for seed in range(3)]
    made = {one.image_id: one.pixels for one in backend.generate(wanted)}
    for image in generate(backend, wanted, lambda pixels, recipe: save(pixels, home, recipe), is_degenerate):
        assert image.status == "ok" and image.file and (image.width, image.height) == (128, 128)
        assert np.array_equal(load_picture(home, image.file), made[image.id])
        assert image.pixels == pixels_hash(made[image.id])


def test_what_failed_keeps_its_status_and_has_no_file() -> None:
    plan: dict[int, Any] = {
        0: {"pixels": None, "status": "nan", "reason": "NaN from the decoder"},
        1: {"pixels": np.zeros((8, 8, 3), np.uint8)},
        2: {"pixels": np.zeros((8, 8), np.uint8)},
        3: {"pixels": None},
        4: {"clipped": float("nan")},
    }
    images = list(generate(Fake(plan), jobs(6), keep, is_degenerate))
    assert [i.status for i in images] == ["nan", "degenerate", "invalid_image", "invalid_image", "ok", "ok"]
    assert [i.file is None for i in images] == [True, False, True, True, False, False]
    assert images[0].reason == "NaN from the decoder" and images[1].reason == "all black"
    assert images[4].clipped is None


def test_a_job_that_the_backend_forgets_is_an_error() -> None:
    class Forgetful(Fake):
        def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
            return super().generate(jobs[:-1])

    images = list(generate(Forgetful(), jobs(3), keep))
    assert [i.status for i in images] == ["ok", "ok", "error"]
    assert images[2].reason == "the backend fake gave no picture"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), PromptlabError("no memory"), RuntimeError("bug")])
def test_a_backend_that_stops_hands_over_what_is_finished(error: BaseException) -> None:
    got = []
    with pytest.raises(type(error)):
        for image in generate(Fake({5: error}), jobs(9), keep):
            got.append(image.recipe["seed"])
    assert got == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("error", [DiskError("full"), OSError(28, "No space left"), MemoryError()])
def test_a_full_disk_stops_the_loop_soon(error: Exception) -> None:
    def fails_at_three(pixels: np.ndarray, recipe: dict[str, Any]) -> tuple[str, str]:
        if recipe["seed"] >= 3:
            raise error
        return keep(pixels, recipe)

    backend, got = Fake(), []
    with pytest.raises(type(error)):
        for image in generate(backend, jobs(1000), fails_at_three):
            got.append(image.recipe["seed"])
    assert got == [0, 1, 2]
    assert backend.made <= 3 + AHEAD + 1


def test_files_are_written_beside_the_next_batch_and_few_wait() -> None:
    gate, running = threading.Event(), []

    def waits(pixels: np.ndarray, recipe: dict[str, Any]) -> tuple[str, str]:
        running.append(recipe["seed"])
        gate.wait(10)
        return keep(pixels, recipe)

    backend = Fake()
    threading.Timer(0.2, gate.set).start()
    first = next(generate(backend, jobs(50), waits))
    assert first.recipe["seed"] == 0
    assert backend.made == AHEAD + 1


def test_a_loop_that_is_left_makes_no_more() -> None:
    backend = Fake()
    loop = generate(backend, jobs(1000), keep)
    next(loop)
    loop.close()  # type: ignore[attr-defined]
    made = backend.made
    time.sleep(0.01)
    assert backend.made == made <= AHEAD + 2


# The renderer: tier T0.


def claims(*pairs: tuple[str, str | None], family: str = "colour") -> Callable[[int], Job]:
    text = " and ".join(f"{colour} {noun}" for noun, colour in pairs)
    bindings = tuple(Binding(noun, noun, colour, family) for noun, colour in pairs)
    cell = Cell("s", (), Prompt(text, bindings=bindings), Settings(), "g", backend="renderer")
    return lambda seed: Job.of(cell, seed)


def test_the_renderer_draws_the_same_again_and_seeds_differ() -> None:
    job = claims(("cup", "red"), ("chair", "blue"))
    backend = load("swap=0.5,burn=0.5")
    wanted = [job(seed) for seed in range(6)]
    once = [one.pixels for one in backend.generate(wanted)]
    again = [one.pixels for one in load("swap=0.5,burn=0.5").generate(wanted[::-1])][::-1]
    for a, b in zip(once, again, strict=True):
        assert np.array_equal(a, b)
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(once))


def test_a_swap_is_the_twin_prompt_at_the_same_seed() -> None:
    right, twin = claims(("cup", "red"), ("chair", "blue")), claims(("cup", "blue"), ("chair", "red"))
    for seed in range(3):
        (swapped,) = load("swap=1").generate([right(seed)])
        (requested,) = load().generate([twin(seed)])
        assert np.array_equal(swapped.pixels, requested.pixels)


def test_errors_come_at_their_rates() -> None:
    wanted = [claims(("cup", "red"), ("chair", "blue"))(seed) for seed in range(60)]
    plain = [one.pixels for one in load().generate(wanted)]
    erring = [one.pixels for one in load(swap=0.3, leak=0.2).generate(wanted)]
    wrong = sum(not np.array_equal(a, b) for a, b in zip(plain, erring, strict=True))
    assert 18 <= wrong <= 42


def test_what_the_renderer_cannot_draw_is_an_error_with_a_reason() -> None:
    wrong = {
        claims(("couch", "red")): "draws no 'couch'",
        claims(("cup", "mauve")): "no colour 'mauve'",
        claims(("cup", "glass"), family="material"): "no material 'glass'",
        claims(*((noun, "red") for noun in ("cup", "chair", "ball", "car"))): "one to three objects, not 4",
        claims(): "not 0",
    }
    for job, reason in wrong.items():
        (one,) = load().generate([job(0)])
        assert one.status == "error" and one.pixels is None and reason in str(one.reason)
    big = replace(claims(("cup", "red"))(0), settings=Settings(height=256, width=128))
    (one,) = load().generate([big])
    assert one.reason == "the renderer draws 128x128, not 128x256"


def test_what_a_prompt_leaves_open_is_drawn() -> None:
    for job in (
        claims(("cup", None)),
        claims(("dog", "sleeping"), family="pose"),
        claims(("cup", "small"), family="size"),
    ):
        (one,) = load().generate([job(0)])
        assert one.status == "ok"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("swop=0.2", "did you mean 'swap'"),
        ("swap=often", "must be a number"),
        ("swap=2", "between 0 and 1"),
        ("swap=0.7,leak=0.7", "sum to 1.4"),
        ("sdxl", "rates such as swap=0.2"),
    ],
)
def test_rates_that_cannot_be(model: str, message: str) -> None:
    with pytest.raises(PromptlabError, match=message):
        load(model)


def test_plugins_are_the_files_of_their_folder() -> None:
    assert plugins.names("backend") == ("diffusion", "folder", "hosted", "renderer")
    assert plugins.load("backend", "renderer", model="leak=1").rates.leak == 1
    for kind, name, options, message in (
        ("backend", "difusion", {}, "did you mean 'diffusion'"),
        ("backend", "guidance", {}, "no backend is called 'guidance'"),
        ("backend", "promptlab.generator.backends.renderer", {}, "is the path of a module"),
        ("probe", "json.decoder", {}, "is the path of a module"),
        ("analysis", "rarity", {}, "no kind of plugin is called 'analysis'"),
        ("backend", "diffusion", {"batchsize": 3}, "did you mean 'batch_size'"),
        ("backends", "diffusion", {}, "did you mean 'backend'"),
    ):
        with pytest.raises(PromptlabError, match=message) as caught:
            plugins.load(kind, name, **options)
        assert "\n" not in str(caught.value)
