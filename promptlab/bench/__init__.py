"""promptlab against what a user would write by hand, on this machine, in one run.

    generate    images a second of the miniature's grid, in automatic and in float32 settings, against the stock
                pipeline called prompt by prompt; and the share of the machine's limit that the denoiser reaches
    score       scores a second: our CLIP probe, and torchmetrics' CLIPScore called image by image
    overhead    share of a study's wall time that is not spent making its images
    plan        seconds to plan 100,000 cells
    store       seconds to journal, scan and publish 100,000 images
    start       seconds until `promptlab --help` answers
    workers     images a second: two workers that share the cores, and one that has them all

Both sides run models of the shipped miniature's size and fetch nothing. They take turns, a batch of one and the same
work of the other, so that whatever else the machine does hits both. A figure is the median of its repeats. Only ratios
say something about another machine. Loading is left out of `workers`: it is paid once a run; both sides are processes,
so that both pay for handing over.

Both of promptlab's sides of `generate` are what a long run gets, so they are compiled where that works. Their limit is
the speed of a large product of matrices in the same dtype.

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
from itertools import islice, product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from promptlab.errors import PromptlabError, nearest
from promptlab.generator.backends import Job
from promptlab.generator.workers import ProcessWorker, WorkerHandle, WorkerSpec, usable_cores
from promptlab.records import Cell, Image, Prompt, Settings, content_id
from promptlab.store import Store

if TYPE_CHECKING:
    from promptlab.generator.backends.diffusion import Diffusion

__all__ = ["BENCHES", "Measured", "bench", "image_figures", "machine", "picture_loop", "score_loop", "worker_rates"]


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
        spec = WorkerSpec("diffusion", {"model": "miniature", "batch_size": batch_size}, home, home, cores)
        halves = replace(spec, threads=max(1, cores // 2), neighbours=2)
        workers: list[WorkerHandle] = [ProcessWorker(spec, 0), ProcessWorker(halves, 0), ProcessWorker(halves, 1)]
        try:
            for started in [worker.call("start") for worker in workers]:
                started.result()
            batches = workers[0].call("split_jobs", list(jobs)).result()
            for warm in [worker.call("make", batches[0]) for worker in workers]:
                warm.result()
            return [(_rate(workers[1:], batches), _rate(workers[:1], batches)) for _ in range(repeats)]
        finally:
            for worker in workers:
                worker.close()


def _rate(workers: Sequence[WorkerHandle], batches: Sequence[list[Job]]) -> float:
    """Pictures a second; whoever is free takes the next batch."""
    began, made, queue = time.perf_counter(), 0, list(reversed(batches))
    pending: dict[Future[Any], WorkerHandle] = {}
    free = list(workers)
    while queue or pending:
        while queue and free:
            worker = free.pop()
            pending[worker.call("make", queue.pop())] = worker
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
    from promptlab.run import run_study
    from promptlab.run.options import RunOptions
    from promptlab.study.study import parse_study

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
    from promptlab.study.study import parse_study

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


ROWS = 32
"""Rows of the denoiser whose speed is measured: a full batch in two passes."""
MANY = 10**6
"""Images of a run that is long enough to repay compiling."""
GOALS = {"automatic": 6.0, "float32": 2.5}
SHARES = {"bfloat16": 0.70, "float32": 0.95}


def image_figures(repeats: int, jobs: Sequence[Job], batch: int) -> list[Measured]:
    """Images a second against the plain loop, each way; then the denoiser's share of the machine's limit."""
    from promptlab.generator.backends.diffusion import load
    from promptlab.store.home import find_home

    cache = find_home().cache
    wanted = {"automatic": "auto", "float32": "float32"}
    ours = {way: load("miniature", batch, dtype, pictures=MANY, cache=cache) for way, dtype in wanted.items()}
    reference = picture_loop()
    by_id = {job.image_id: job for job in jobs}
    reference(jobs[0].prompt, jobs[0].settings, jobs[0].seed)
    first: dict[str, float] = {}
    for way, backend in ours.items():  # one of each pass, which compiles both
        began = time.perf_counter()
        list(backend.generate([next(job for job in jobs if job.settings.guidance_scale != 1), jobs[0]]))
        first[way] = time.perf_counter() - began
    rates: dict[str, list[float]] = {way: [] for way in (*ours, "by hand")}
    apart: dict[str, list[float]] = {way: [] for way in ours}
    for _ in range(repeats):
        seconds = dict.fromkeys(rates, 0.0)
        coming = {way: backend.generate(list(jobs)) for way, backend in ours.items()}
        for _ in range(0, len(jobs), batch):
            made = {}
            for way, images in coming.items():
                began = time.perf_counter()
                made[way] = list(islice(images, batch))
                seconds[way] += time.perf_counter() - began
            order = [by_id[one.image_id] for one in made["float32"]]
            began = time.perf_counter()
            plain = {job.image_id: reference(job.prompt, job.settings, job.seed) for job in order}
            seconds["by hand"] += time.perf_counter() - began
            for way, some in made.items():
                apart[way] += [
                    float(np.abs(plain[one.image_id].astype(float) - np.float32(one.pixels)).mean()) for one in some
                ]
        for way, total in seconds.items():
            rates[way].append(len(jobs) / total)
    figures = []
    for way, backend in ours.items():
        facts = backend.provenance()
        detail: dict[str, Any] = {
            "images_a_second": median(rates[way]),
            "images_a_second_by_hand": median(rates["by hand"]),
            "images": len(jobs),
            "dtype": facts["dtype"],
            "compile": facts["speed"]["compile"],
            "first_images_s": first[way],
            "grey_levels_apart_mean": float(np.mean(apart[way])),
            "grey_levels_apart_most": max(apart[way]),
        }
        ratios = [a / b for a, b in zip(rates[way], rates["by hand"], strict=True)]
        figures.append(Measured(f"generate: {way}", median(ratios), "times as fast", GOALS[way], True, detail))
    shares = {backend.provenance()["dtype"]: _share(backend) for backend in ours.values()}
    return figures + list(shares.values())


def _share(backend: Diffusion) -> Measured:
    """Speed of the denoiser over that of a product of matrices in its dtype; both as they are now, in turns."""
    import torch

    from promptlab.generator.models.speed import matmul_speed

    denoiser = backend.denoiser
    config, dtype = denoiser.config, denoiser.dtype
    side = config.sample_size
    given = torch.randn(ROWS, config.in_channels, side, side), torch.tensor(500)
    states = torch.randn(ROWS, 77, config.cross_attention_dim)
    flop = _flop(backend.model, given, states)
    speeds, limits = [], []
    with torch.no_grad():
        for repeat in range(6):
            began = time.perf_counter()
            denoiser(*given, encoder_hidden_states=states, return_dict=False)
            if repeat:
                speeds.append(flop / (time.perf_counter() - began))
                limits.append(matmul_speed(dtype, repeats=2))
    name = str(dtype).removeprefix("torch.")
    detail: dict[str, float | str] = {
        "GFLOP_a_second": max(speeds) / 1e9,
        "product_of_matrices_GFLOP_a_second": max(limits) / 1e9,
        "ms_a_row": 1e3 * flop / max(speeds) / ROWS,
        "compile": backend.speed.compile,
    }
    return Measured(f"U-Net in {name}", max(speeds) / max(limits), "of the limit", SHARES.get(name), True, detail)


def _flop(model: str, given: tuple[Any, Any], states: Any) -> float:
    """FLOP of one call of the denoiser, counted over one in float32."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from promptlab.generator.backends.diffusion import load
    from promptlab.generator.models.speed import kernels

    plain = load(model)
    with torch.no_grad(), kernels(("math",)), FlopCounterMode(display=False) as counter:  # others are not counted
        plain.denoiser(*given, encoder_hidden_states=states, return_dict=False)
    plain.close()
    return float(counter.get_total_flops())
