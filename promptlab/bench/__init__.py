"""promptlab against what a user would write by hand, on this machine, in one run.

    generate    images a second of the miniature's grid, in automatic and in float32 settings, against the stock
                pipeline called prompt by prompt; and the share of the machine's limit that the denoiser reaches
    score       scores a second: our CLIP probe, and torchmetrics' CLIPScore called image by image
    overhead    share of a study's wall time that is not spent making its images
    plan        seconds to plan 100,000 cells
    store       seconds to journal, scan and publish 100,000 images
    start       seconds until `promptlab --help` answers
    workers     images a second: two workers that share the cores, and one that has them all

Both ways run models of the shipped miniature's size, in float32, and fetch nothing. Their speeds are taken in turns, a
batch of one and the same work of the other, so that whatever else the machine does hits both. A figure is the median of
its repeats. Only ratios say something about another machine. Loading is left out of `workers`: it is paid once a run;
both sides are processes, so that both pay for handing over.

Models of real shape on a GPU are in `promptlab.bench.gpu`; the dashboard is measured by `tests/bench/dashboard.py`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptlab.errors import PromptlabError, nearest
from promptlab.generator.backends import Job
from promptlab.generator.workers import Order, ProcessSeat, Seat, usable_cores
from promptlab.records import Cell, Image, Prompt, Settings, content_id
from promptlab.store import Store

__all__ = ["BENCHES", "Measured", "bench", "machine", "picture_loop", "score_loop", "worker_rates"]


@dataclass(frozen=True)
class Measured:
    """One measured number: what it should be, if anything, and whether it is."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False
    detail: dict[str, float | str] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


Picture = NDArray[np.uint8]


def picture_loop() -> Callable[[str, Settings, int], Picture]:
    """One picture a call, of a prompt, settings and a seed: uint8 (height, width, 3)."""
    import torch
    from diffusers import StableDiffusionPipeline

    from promptlab.checkpoints.files import quiet
    from promptlab.resources import shipped_folder

    with quiet():
        pipeline = StableDiffusionPipeline.from_pretrained(shipped_folder() / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")

    def picture(prompt: str, settings: Settings, seed: int) -> Picture:
        made = pipeline(
            prompt,
            guidance_scale=settings.guidance_scale,
            num_inference_steps=settings.num_inference_steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
        ).images[0]
        return (made * 255).round().astype(np.uint8)  # type: ignore[no-any-return]

    return picture


def score_loop() -> Callable[[Picture, str], float]:
    """CLIPScore of a picture, uint8 (height, width, 3), and a text, by a transformers CLIP of random weights."""
    import torch

    try:
        from torchmetrics.functional.multimodal import clip_score
    except ImportError as error:
        raise PromptlabError("the score benchmark needs torchmetrics: pip install torchmetrics") from error
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    from promptlab.miniature.clip import clip_config
    from promptlab.resources import shipped_folder

    ours = clip_config(4, 4)
    text, vision, width = ours["text_cfg"], ours["vision_cfg"], ours["embed_dim"]
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 4, "num_attention_heads": 4}
    ids = {"bos_token_id": text["eos_id"] - 1, "eos_token_id": text["eos_id"], "pad_token_id": text["pad_id"]}
    config = CLIPConfig(
        text_config={**shape, **ids, "vocab_size": text["vocab_size"], "max_position_embeddings": 77},
        vision_config={**shape, "image_size": vision["image_size"], "patch_size": 16},
        projection_dim=width,
    )
    side = vision["image_size"]
    pictures = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = CLIPProcessor(pictures, CLIPTokenizer.from_pretrained(shipped_folder() / "pipeline" / "tokenizer"))

    class Plain(CLIPModel):  # type: ignore[misc]
        """transformers 5 gives features in a record; torchmetrics takes tensors."""

        def get_text_features(self, *args: Any, **more: Any) -> Any:
            return _tensor(super().get_text_features(*args, **more))

        def get_image_features(self, *args: Any, **more: Any) -> Any:
            return _tensor(super().get_image_features(*args, **more))

    model = Plain(config).eval()

    def score(pixels: Picture, text: str) -> float:
        with torch.no_grad():
            picture = torch.from_numpy(pixels).permute(2, 0, 1)
            return float(clip_score(picture, text, lambda: (model, processor)))

    return score


def _tensor(features: Any) -> Any:
    return getattr(features, "pooler_output", features)


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
            batches = seats[0].ask("split_jobs", list(jobs)).result()
            for warm in [seat.ask("make", batches[0]) for seat in seats]:
                warm.result()
            return [(_rate(seats[1:], batches), _rate(seats[:1], batches)) for _ in range(repeats)]
        finally:
            for seat in seats:
                seat.close()


def _rate(seats: Sequence[Seat], batches: Sequence[list[Job]]) -> float:
    """Pictures a second; whoever is free takes the next batch."""
    began, made, queue = time.perf_counter(), 0, list(reversed(batches))
    pending: dict[Future[Any], Seat] = {}
    free = list(seats)
    while queue or pending:
        while queue and free:
            seat = free.pop()
            pending[seat.ask("make", queue.pop())] = seat
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            free.append(pending.pop(future))
            made += len(future.result().images)
    return made / (time.perf_counter() - began)


CELLS = 100_000
SCORED = 256
STEPS = 25
BATCH = 16
GRID = ((1.0, 3.0, 5.0, 7.5), ("red", "blue", "green", "yellow"), range(4))
"""Guidance scales, colours of the cup, seeds."""


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import os
    import platform

    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": usable,
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def bench(name: str, repeats: int) -> list[Measured]:
    """Run one benchmark. Raises PromptlabError for an unknown name."""
    if name == "dashboard":
        raise PromptlabError("the dashboard is measured in a clone: uv run python tests/bench/dashboard.py")
    if name not in BENCHES:
        known = ", ".join(BENCHES)
        raise PromptlabError(f"no benchmark is called {name!r}: choose from all, {known}{nearest(name, BENCHES)}")
    return BENCHES[name](repeats)


class _Watch:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return self._last - last


def _grid() -> list[tuple[Cell, int]]:
    scales, colours, seeds = GRID
    cells = [
        Cell("bench", (), Prompt(f"a photo of a {colour} cup and a blue chair"), Settings(scale, STEPS), colour)
        for scale, colour in product(scales, colours)
    ]
    return [(cell, seed) for cell in cells for seed in seeds]


def _generate(repeats: int) -> list[Measured]:
    from promptlab.bench.images import image_figures

    return image_figures(repeats, [Job.of(*cell_and_seed) for cell_and_seed in _grid()], BATCH)


def _ratio(name: str, what: str, rates: list[tuple[float, float]], goal: float, detail: dict[str, Any]) -> Measured:
    ours, theirs = (median(side) for side in zip(*rates, strict=True))
    speeds = {f"{what}_a_second": ours, f"{what}_a_second_by_hand": theirs}
    return Measured(name, median(a / b for a, b in rates), "times as fast", goal, True, speeds | detail)


def _score(repeats: int) -> list[Measured]:
    from promptlab.analyzer import BATCH as PROBE_BATCH
    from promptlab.analyzer.passports import samples_of
    from promptlab.analyzer.probes.clip_similarity import load

    reference, probe = score_loop(), load("miniature")
    sides = 4
    rates: list[tuple[float, float]] = []
    for repeat in range(repeats + 1):  # the first warms both up
        # As in a study, every prompt has several pictures; no prompt comes back in another repeat.
        firsts = [sample.prompt for sample in samples_of("correct", SCORED // sides, 1000 + repeat)]
        samples = list(samples_of("correct", SCORED, repeat))
        samples = [replace(sample, prompt=firsts[i // sides]) for i, sample in enumerate(samples)]
        seconds = [0.0, 0.0]
        for start in range(0, SCORED, PROBE_BATCH):
            some, watch = samples[start : start + PROBE_BATCH], _Watch()
            list(probe.score(some))
            seconds[0] += watch()
            for sample in some:
                reference(sample.pixels, sample.prompt.text)
            seconds[1] += watch()
        rates.append((SCORED / seconds[0], SCORED / seconds[1]))
    return [_ratio("score", "scores", rates[1:], 3.0, {"pictures": SCORED, "pictures_a_prompt": sides})]


def _overhead(repeats: int) -> list[Measured]:
    from promptlab.generator.backends.diffusion import load
    from promptlab.run import RunOptions, run_study
    from promptlab.study import parse_study

    for library in ("open_clip", "pandas"):  # a loop by hand imports its libraries too
        import_module(library)
    load("miniature", BATCH).close()
    study = parse_study(_STUDY, "bench.yaml")
    shares, details = [], []
    for _ in range(repeats):
        with TemporaryDirectory() as folder:
            store, watch = Store(folder), _Watch()
            summary = run_study(
                study, store, RunOptions(passports_n=0)
            )  # passports are made once in the life of a probe
            wall = watch()
            made = sum(image.seconds or 0 for image in store.images().values())
        stages = summary.seconds
        shares.append(1 - made / wall)
        rest = wall - sum(stages.values())
        details.append((wall, made, stages["generate"] - made, stages["score"], rest))
    names = ("seconds", "pictures", "loading_and_writing", "probes", "plan_statistics_publish")
    detail = {name: median(column) for name, column in zip(names, zip(*details, strict=True), strict=True)}
    return [Measured("overhead", median(shares), "of wall time", 0.1, False, {**detail, "made": summary.plan.images})]


_STUDY = """
name: bench
question: What does promptlab cost beside its pictures?
prompt:
  template: "a photo of {first} and {second}"
  objects: {first: {noun: cup, colour: "{colour}"}, second: {noun: chair, colour: blue}}
axes:
  colour: [red, green, yellow, black]
  guidance_scale: [1, 3, 5, 7.5]
seeds: 4
probes: [binding, clip_similarity]
"""

_LARGE = """
name: large
question: How long does it take to plan a hundred thousand cells?
prompt: {template: "a photo of {thing}", objects: {thing: {noun: cup, colour: "{word}"}}}
axes:
  word: [WORDS]
  guidance_scale: {range: {start: 1, stop: 10, step: 1}}
  num_inference_steps: {range: {start: 11, stop: 20, step: 1}}
"""


def _plan(repeats: int) -> list[Measured]:
    from promptlab.run.plan import plan_study
    from promptlab.study import parse_study

    words = ", ".join(f"shade{i}" for i in range(CELLS // 100))
    study = parse_study(_LARGE.replace("WORDS", words), "bench.yaml")
    seconds = []
    for _ in range(repeats):
        with TemporaryDirectory() as folder:
            watch = _Watch()
            plan = plan_study(study, Store(folder), CELLS)
            seconds.append(watch())
    detail: dict[str, float | str] = {"cells": len(plan.cells), "pictures": plan.images}
    return [Measured("plan", median(seconds), "s", 5.0, False, detail)]


def _images(count: int) -> Iterator[Image]:
    prompt = Prompt("a photo of a red cup")
    for i in range(count):
        recipe = Cell("bench", (), prompt, Settings(), "cup").recipe(i)
        digest = content_id(i) * 2
        yield Image(content_id(recipe), recipe, "ok", None, digest, digest, 128, 128, 0.3, 0.01, BATCH)


def _store(repeats: int) -> list[Measured]:
    seconds: dict[str, list[float]] = {"journal": [], "scan": [], "publish": []}
    for _ in range(repeats):
        with TemporaryDirectory() as folder:
            images = list(_images(CELLS))
            for name in {image.file[:2] for image in images if image.file}:
                (Path(folder) / "images" / name).mkdir(parents=True)
            for image in images:
                (Path(folder) / "images" / str(image.file)[:2] / f"{image.file}.png").touch()
            store, watch = Store(folder), _Watch()
            with store.open_run("bench") as run:
                for start in range(0, CELLS, BATCH * 64):
                    run.add(*images[start : start + BATCH * 64])
            seconds["journal"].append(watch())
            later = Store(folder)
            watch()
            found = len(later.images())
            seconds["scan"].append(watch())
            later.publish()
            seconds["publish"].append(watch())
    return [
        Measured(f"store: {name}", median(times), "s", detail={"pictures": found}) for name, times in seconds.items()
    ]


def _start(repeats: int) -> list[Measured]:
    seconds = []
    for _ in range(max(3, repeats)):
        watch = _Watch()
        subprocess.run([sys.executable, "-m", "promptlab", "--help"], check=True, capture_output=True)
        seconds.append(watch())
    return [Measured("start: --help", median(seconds), "s", 0.5)]


def _workers(repeats: int) -> list[Measured]:
    from promptlab.generator.backends import Job

    rates = worker_rates([Job.of(*cell_and_seed) for cell_and_seed in _grid()], BATCH, repeats)
    two, one = (median(side) for side in zip(*rates, strict=True))
    detail: dict[str, float | str] = {"pictures_a_second": two, "pictures_a_second_of_one": one}
    return [Measured("workers", median(a / b for a, b in rates), "times as fast", detail=detail)]


BENCHES: dict[str, Callable[[int], list[Measured]]] = {
    "generate": _generate,
    "score": _score,
    "overhead": _overhead,
    "plan": _plan,
    "store": _store,
    "start": _start,
    "workers": _workers,
}
"""Benchmarks by name, in the order of `all`."""
