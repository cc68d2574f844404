"""What promptlab makes of a GPU, and whether it keeps its promises there; parts of `promptlab bench gpu`.

    loop       pictures a second of promptlab, and of the stock pipeline called prompt by prompt, on one grid
    guidance   largest difference of latents, in standard deviations of them, between a batch and single calls
    study      waits = 1 - (share of wall time inside the model) x (share of that in which the device computes)
    memory     pictures asked for, pictures that came, halvings

Text encoding is left out of the first two on both sides: states are given. The plain loop is as one would write it, in
the model's precision, uncompiled.

`promptlab bench gpu`: what a GPU gives for models of real shape and random weights, and what promptlab makes of it.

    speed      a denoiser's step at several batch sizes: eager, each kernel of attention, channels_last, compiled
    loop       pictures a second of a grid, by promptlab and by the stock pipeline called prompt by prompt
    guidance   rows of different guidance in one batch against single calls; the same bits beside other neighbours
    study      a study end to end, scored: pictures a second, how long the device waits, peak memory
    memory     memory made to run out: the batch is halved once, and nothing is lost

A dry run goes the same ways at tiny size on the CPU, compiled without generating code, and says nothing about any GPU.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.bench import Measured
from promptlab.bench.shapes import (
    DRY,
    REAL,
    Bench,
    BenchShape,
    Timing,
    grid,
    release,
    resized,
    seconds_of,
    speed,
    write_pipeline,
)
from promptlab.errors import PromptlabError, nearest
from promptlab.generator.backends import Job, Made
from promptlab.generator.models.batches import single_pass
from promptlab.generator.models.conditioning import arguments
from promptlab.generator.models.speed import Wish, equip

if TYPE_CHECKING:
    from torch import Tensor

    from promptlab.generator.backends.diffusion import Diffusion

__all__ = ["DRY_RUN", "PARTS", "bench_gpu", "guidance", "loop", "memory", "study"]

MIXED = (0.0, 1.0, 1.5, 4.0, 9.0)
PICTURES, DRY_PICTURES = 2000, 8
"""Of a study end to end."""

Parts = Iterator[Measured | Timing]


def _stock_image(backend: Diffusion, job: Job) -> Any:
    """One picture by the stock pipeline: uint8 (height, width, 3)."""
    import torch

    able, s, device = backend.able, job.settings, backend.pipe.device
    conditioning = arguments(able, backend.texts.rows([job.prompt]), "", device)
    scale = s.distilled_guidance_scale
    if scale is None:
        scale = s.guidance_scale
        if not single_pass(scale):
            conditioning |= arguments(able, backend.texts.rows([None if able.zeros else ""]), "negative_", device)
    made = backend.pipe(
        **conditioning,
        **{able.guidance: scale},
        height=s.height,
        width=s.width,
        num_inference_steps=s.num_inference_steps,
        generator=torch.Generator("cpu").manual_seed(job.seed),
        output_type="np",
    ).images[0]
    return (made * 255).round().astype(np.uint8)


def loop(bench: Bench, shape: BenchShape) -> Parts:
    """The grid by both, and the ratio; then the same compiled."""
    import torch

    from promptlab.checkpoints.files import quiet

    jobs = grid(shape)
    batch = min(16, shape.batches[-1])
    with TemporaryDirectory() as folder:
        backend = bench.build(shape, folder, batch)
        with quiet():
            _stock_image(backend, jobs[0])
            began = time.perf_counter()
            plain = [_stock_image(backend, job) for job in jobs]
            theirs = len(jobs) / (time.perf_counter() - began)
        for wish in (Wish(pictures=len(jobs)), Wish(compile="on")):
            backend.speed = equip(backend.pipe, backend.able, wish, bench.compiler)
            list(backend.generate(jobs))  # warms up, and compiles
            began = time.perf_counter()
            made = {one.image_id: one.pixels for one in backend.generate(jobs)}
            ours = len(jobs) / (time.perf_counter() - began)
            apart = [
                float(np.abs(np.float32(a) - b).mean()) if (b := made[job.image_id]) is not None else float("nan")
                for job, a in zip(jobs, plain, strict=True)
            ]
            compiled = backend.speed.compile != "off"
            goal = 3.0 if shape.name == "sd15" and not bench.dry else None
            detail: dict[str, float | str] = {
                "pictures": len(jobs),
                "pictures_a_second": ours,
                "pictures_a_second_plain": theirs,
                "grey_levels_apart": max(apart),
                "batch": backend.batch_size,
                **{name: str(value) for name, value in backend.speed.facts().items()},
            }
            name = f"{shape.name}: grid against the plain loop{', compiled' * compiled}"
            yield Measured(name, ours / theirs, "times as fast", goal, True, detail)
        backend.close()
        torch.compiler.reset()


def _latents(backend: Diffusion, jobs: Sequence[Job]) -> list[Tensor]:
    """Latents of jobs of one shape, in their order."""
    seen: list[Tensor] = []
    spied: Any = backend
    decode = backend._decode

    def spy(latents: Tensor) -> list[Made]:
        seen.extend(latents.float().cpu())
        return decode(latents)

    spied._decode = spy
    try:
        list(backend.generate(jobs))
    finally:
        del spied._decode
    return seen


def guidance(bench: Bench, shape: BenchShape) -> Parts:
    """Rows of different guidance in one batch; 0 and 1 take one pass, the others two."""
    one = replace(shape, prompts=1, seeds=1)
    mixed = [replace(job, seed=i) for i, job in enumerate(grid(one, MIXED))]
    with TemporaryDirectory() as folder:
        backend = bench.build(shape, folder, len(mixed))
        together = _latents(backend, mixed)
        # the last row beside other neighbours, at another place of the batch
        others = [mixed[-1], *(replace(job, image_id=f"other{i}", seed=100 + i) for i, job in enumerate(mixed[:-1]))]
        moved = _latents(backend, others)[0]
        alone = resized(backend, 1)
        single = [_latents(alone, [job])[0] for job in mixed]
        apart = [float((a - b).abs().max() / b.std()) for a, b in zip(together, single, strict=True)]
        detail: dict[str, float | str] = {f"w_{scale:g}": value for scale, value in zip(MIXED, apart, strict=True)}
        yield Measured(f"{shape.name}: mixed guidance against single calls", max(apart), "sd of latents", detail=detail)
        same = bool((together[-1] == moved).all())
        yield Measured(f"{shape.name}: same bits beside other neighbours", float(same), "of 1", 1.0, True)
        backend.close()


_STUDY = """
name: bench
question: How long does a GPU wait for promptlab?
prompt: {template: "a photo of {thing}", objects: {thing: {noun: "{noun}", colour: "{colour}"}}}
axes:
  colour: [red, green, yellow, black, white]
  noun: [cup, chair, ball, car, house]
  guidance_scale: [1, 3, 5, 7.5]
settings: {height: SIDE, width: SIDE, num_inference_steps: STEPS}
seeds: SEEDS
probes: [exposure, clip_similarity]
"""


def study(bench: Bench, shape: BenchShape) -> Parts:
    """A study end to end from a folder, for shapes that have a text encoder."""
    from promptlab.generator.backends.diffusion import load
    from promptlab.run import run_study
    from promptlab.run.options import RunOptions
    from promptlab.store import Store
    from promptlab.study.study import parse_study

    if shape.text is None:
        return
    cuda = bench.device.type == "cuda"
    wanted = DRY_PICTURES if bench.dry else PICTURES
    text = _STUDY.replace("SIDE", str(max(64, shape.side))).replace("STEPS", str(shape.steps))
    text = text.replace("SEEDS", str(max(1, wanted // 100)))
    if bench.dry:
        text = text.replace(", yellow, black, white]", "]").replace(", ball, car, house]", "]")
        text = text.replace("[1, 3, 5, 7.5]", "[1, 5]")
    with TemporaryDirectory() as place:
        folder = write_pipeline(shape, Path(place) / "model", bench.device, bench.dtype)
        release(bench.device)
        backend = load(str(folder), min(16, shape.batches[-1]), device=str(bench.device))
        jobs = grid(replace(shape, prompts=1, seeds=backend.batch_size), (5.0,))
        busy = _busy(lambda: list(backend.generate(jobs)), bench.device)
        backend.close()
        if cuda:
            _reset_peak()
        store = Store(Path(place) / "home")
        began = time.perf_counter()
        summary = run_study(
            parse_study(text).model_copy(update={"model": str(folder)}), store, RunOptions(passports_n=0)
        )
        wall = time.perf_counter() - began
        images = store.images()
        inside = sum(image.seconds or 0.0 for image in images.values())
    generating = summary.seconds["generate"]
    detail: dict[str, float | str] = {
        "pictures": len(images),
        "failed": summary.failed,
        "scores": summary.scores,
        "seconds": wall,
        "generating": generating,
        "scoring": summary.seconds["score"],
        "inside_the_model": inside,
        "device_busy_inside": busy,
        "peak_memory_GB": _peak(cuda) / 1e9,
    }
    yield Measured(f"{shape.name}: study end to end", len(images) / wall, "pictures a second", detail=detail)
    name = "the device waits" if cuda else "time not in the model"
    goal = None if bench.dry else 0.05
    yield Measured(f"{shape.name}: {name}, making pictures", 1 - busy * inside / generating, "of wall time", goal)
    yield Measured(f"{shape.name}: {name}, whole study", 1 - busy * inside / wall, "of wall time")


def _busy(work: Callable[[], Any], device: Any) -> float:
    """Share of the time of `work` in which the device computes; 1 on a CPU, which is never told apart."""
    import torch

    if device.type != "cuda":
        work()
        return 1.0
    wall = seconds_of(work, device, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize(device)
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events() or ()
        if event.device_type.name == "CUDA"
    )
    total, end = 0.0, float("-inf")
    for start, stop in spans:
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return min(1.0, total * 1e-6 / wall)


def _reset_peak() -> None:
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def _peak(cuda: bool) -> float:
    """Bytes: of the device, or of this process so far."""
    import torch

    return torch.cuda.max_memory_allocated() if cuda else 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(bench: Bench, shape: BenchShape) -> Parts:
    """Two batches, with memory for half a batch only."""
    full = max(2, min(16, shape.batches[-1]))
    jobs = grid(replace(shape, prompts=1, seeds=2 * full), (5.0,), 2)
    with TemporaryDirectory() as folder:
        backend = bench.build(shape, folder, full)
        backend.texts.prepare([jobs[0].prompt, "", *([None] if backend.able.zeros else [])])
        undo = _cuda_limit(backend, jobs, full) if bench.device.type == "cuda" else _scripted(backend, full)
        try:
            made = list(backend.generate(jobs))
        finally:
            undo()
        whole = {one.image_id for one in made if one.pixels is not None}
        halvings = (full // backend.batch_size).bit_length() - 1
        detail = {"asked": len(jobs), "came": len(whole), "batch_before": full, "batch_after": backend.batch_size}
        lost = len(jobs) - len(whole)
        yield Measured(f"{shape.name}: pictures lost where memory runs out", lost, "pictures", 0.0, detail={**detail})
        yield Measured(f"{shape.name}: the batch was halved once", float(halvings == 1), "of 1", 1.0, True)
        backend.close()


def _scripted(backend: Diffusion, full: int) -> Callable[[], None]:
    """The denoiser says that memory is out for more rows than half a batch takes."""
    import torch

    passes = 2 if backend.able.guidance_kind == "true" else 1

    def short(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        if len(hidden) > passes * full // 2:
            raise torch.OutOfMemoryError("CUDA out of memory (scripted)")

    return backend.denoiser.register_forward_pre_hook(short, with_kwargs=True).remove  # type: ignore[no-any-return]


def _cuda_limit(backend: Diffusion, jobs: Sequence[Job], full: int) -> Callable[[], None]:
    """This process may hold as much memory as lies between what half a batch and a whole one take."""
    import torch

    taken = []
    for size in (full // 2, full):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        backend._batches.size = size
        list(backend.generate(jobs[:size]))
        taken.append(torch.cuda.max_memory_reserved())
    total = torch.cuda.get_device_properties(backend.pipe.device).total_memory
    backend._batches.size = full
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(sum(taken) / 2 / total)
    return lambda: torch.cuda.set_per_process_memory_fraction(1.0)


DRY_RUN = "dry run, cpu: says nothing about a GPU"

PARTS: dict[str, Callable[[Bench, BenchShape], Iterator[Measured | Timing]]] = {
    "speed": speed,
    "loop": loop,
    "guidance": guidance,
    "study": study,
    "memory": memory,
}
"""Parts by name, in order."""


def bench_gpu(requested: Sequence[str] = (), dry: bool = False) -> Iterator[Measured | Timing]:
    """Figures and timings, as they are measured. Without CUDA it is a dry run.

    Args:
        asked: parts (PARTS) and shapes (sd15, sdxl, sd35, flux); none of a kind means all.

    Raises PromptlabError for a word that is neither.
    """
    import torch

    dry = dry or not torch.cuda.is_available()
    shapes = {shape.name: shape for shape in (DRY if dry else REAL)}
    for word in requested:
        if word not in (*PARTS, *shapes):
            known = (*PARTS, *shapes)
            raise PromptlabError(f"no part or shape {word!r}: choose from {', '.join(known)}{nearest(word, known)}")
    parts = [part for part in PARTS if part in requested] or list(PARTS)
    chosen = [shape for name, shape in shapes.items() if name in requested] or list(shapes.values())
    device, dtype = (torch.device("cpu"), torch.float32) if dry else (torch.device("cuda"), torch.bfloat16)
    side = 256 if dry else 8192
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if dry else threads)  # several threads would wait for each other at such sizes
    try:
        bench = Bench(device, dtype, dry, _product(device, dtype, side))
        yield Measured("matrix product", bench.ceiling / 1e12, "TFLOP/s", detail={"side": side, "dtype": str(dtype)})
        for part in parts:
            for shape in chosen:
                yield from PARTS[part](bench, shape)
                release(device)
    finally:
        torch.set_num_threads(threads)


def _product(device: Any, dtype: Any, side: int) -> float:
    import torch

    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device, 10)
