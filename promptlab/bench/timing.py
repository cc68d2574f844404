"""What a denoiser of real shape gives at several batch sizes, by each way to run it.

    pictures a second = batch / (steps x step + batch x decode)         FLOP: counted over one forward pass

Shares are those of a matrix product measured in the same run, the honest ceiling.

References:
    Chowdhery et al. 2022, PaLM (arXiv 2204.02311), appendix B: utilisation as a share of what matrix units can do.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from promptlab.bench import Measured
from promptlab.bench.shapes import BenchShape, backend_of
from promptlab.generator.backends import Job
from promptlab.generator.models.speed import KERNELS, Wish, at_work, equip, fastest, kernels
from promptlab.records import Cell, Prompt, Settings

if TYPE_CHECKING:
    from promptlab.generator.backends.diffusion import Diffusion

__all__ = ["Bench", "Timing", "decoding", "grid", "release", "resized", "seconds_of", "speed"]

COLOURS = ("red", "green", "yellow", "black", "white", "pink", "orange", "purple")
SCALES = (1.0, 3.0, 5.0, 7.5)
GOALS = {"sd15": 8.0, "sdxl": 1.0}
"""Pictures a second on an H100."""


@dataclass(frozen=True)
class Bench:
    """Where it runs, and the ceiling: FLOP a second of a large matrix product."""

    device: Any
    dtype: Any
    dry: bool
    ceiling: float

    @property
    def compiler(self) -> str:
        """torch.compile's backend: a dry run traces, and generates no code."""
        return "aot_eager" if self.dry else "inductor"

    def build(self, shape: BenchShape, folder: str, batch_size: int) -> Diffusion:
        """A fresh backend."""
        return backend_of(shape, self.device, self.dtype, Path(folder), batch_size)


@dataclass(frozen=True)
class Timing:
    """One way at one batch size. Without `step`, seconds, it did not run, and `note` says why.

    `decode` are seconds to decode one picture, `share` that of the ceiling, `memory` the peak in bytes, on a GPU.
    """

    shape: str
    batch: int
    way: str
    step: float | None
    decode: float | None = None
    pictures: float | None = None
    flops: float | None = None
    share: float | None = None
    memory: int | None = None
    note: str = ""


def seconds_of(work: Callable[[], Any], device: Any, repeats: int = 3) -> float:
    """Median seconds of `work`, after one call that warms up."""
    import torch

    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return median(times[1:])


def release(device: Any) -> None:
    """Give back what nobody holds any more."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def grid(shape: BenchShape, scales: Sequence[float] = SCALES, steps: int | None = None) -> list[Job]:
    """Guidance scales x prompts x seeds of one shape; where guidance is embedded, the scales are of that."""
    embedded = shape.pipeline == "FluxPipeline"
    jobs = []
    for scale, colour, seed in product(scales, COLOURS[: shape.prompts], range(shape.seeds)):
        settings = Settings(
            1.0 if embedded else scale,
            steps or shape.steps,
            shape.side,
            shape.side,
            distilled_guidance_scale=scale if embedded else None,
        )
        cell = Cell("bench", (), Prompt(f"a photo of a {colour} cup and a blue chair"), settings, colour)
        jobs.append(Job.of(cell, seed))
    return jobs


def _full(shape: BenchShape, batch: int) -> list[Job]:
    """As many jobs as a batch has rows, in two passes, of one step."""
    one = replace(shape, prompts=1, seeds=batch)
    return grid(one, (5.0,), 1)


def resized(backend: Diffusion, batch: int) -> Diffusion:
    """The same model with another batch size."""
    from promptlab.generator.backends.diffusion import Diffusion

    copy = Diffusion(backend.pipe, backend.able, backend.encoders, backend.model, backend.folders, batch, backend.speed)
    copy.texts = backend.texts
    return copy


@contextmanager
def decoding(pipe: Any) -> Iterator[list[Any]]:
    """Inside, latents that go to the decoder are caught in a list."""
    seen: list[Any] = []
    decode = pipe.vae.decode

    def spy(z: Any, **more: Any) -> Any:
        seen.append(z)
        return decode(z, **more)

    pipe.vae.decode = spy
    try:
        yield seen
    finally:
        del pipe.vae.decode


def _denoiser_inputs(backend: Diffusion, shape: BenchShape, batch: int) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """What the denoiser is given for a batch, arguments and keywords, and the latents to decode."""
    copy = resized(backend, batch)
    caught: list[Any] = []
    handle = backend.denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: caught.append((args, kwargs)), with_kwargs=True
    )
    try:
        with decoding(backend.pipe) as latents:
            made = list(copy.generate(_full(shape, batch)))
    finally:
        handle.remove()
    if copy.batch_size != batch or {one.status for one in made} - {"ok", "nan"}:
        raise MemoryError(next((one.reason for one in made if one.status != "ok"), None) or "memory ran out")
    return *caught[0], latents[-1]


def _counted(backend: Diffusion, shape: BenchShape) -> tuple[float, float]:
    """FLOP of one picture's step, in as many passes as it takes, and of decoding it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    args, kwargs, latents = _denoiser_inputs(backend, shape, 1)
    counts = []
    works: tuple[Callable[[], Any], ...] = (
        lambda: backend.denoiser(*args, **kwargs),
        lambda: backend.pipe.vae.decode(latents),
    )
    for work in works:
        counter: Any = FlopCounterMode(display=False)
        # Other kernels than math are not counted everywhere.
        with torch.no_grad(), kernels(("math",)), counter:
            work()
        counts.append(float(counter.get_total_flops()))
    return counts[0], counts[1]


def speed(bench: Bench, shape: BenchShape) -> Iterator[Measured | Timing]:
    """A denoiser's step at several batch sizes: eager, each kernel of attention, channels_last, compiled."""
    import torch

    with TemporaryDirectory() as folder:
        backend = bench.build(shape, folder, 1)
        counted = _counted(backend, shape)
        yield Measured(f"{shape.name}: work", counted[0] / 1e12, "TFLOP a step", detail={"decoding": counted[1] / 1e12})
        found: list[Timing] = []

        def timed(batch: int, way: str, kernel: str | None = None) -> Timing:
            found.append(_timing(bench, backend, shape, batch, way, counted, kernel))
            return found[-1]

        for batch in shape.batches:
            yield timed(batch, "eager")
        measured: dict[str, float] = {}
        for kernel in KERNELS:
            timing = timed(shape.several, f"eager, {kernel}", kernel)
            if timing.step is not None:
                measured[kernel] = timing.step
            yield timing
        attention = fastest(measured)
        backend.speed = equip(backend.pipe, backend.able, Wish("off", attention, True))
        for batch in shape.batches:
            yield timed(batch, f"channels_last, {attention}")
        backend.speed = equip(backend.pipe, backend.able, Wish("on", attention, True), bench.compiler)
        for batch in dict.fromkeys((shape.several, shape.batches[-1])):
            yield timed(batch, f"compiled ({backend.speed.compile}, {bench.compiler})")
        best = max((timing.pictures for timing in found if timing.pictures), default=0.0)
        goal = None if bench.dry else GOALS.get(shape.name)
        yield Measured(f"{shape.name}: best", best, "pictures a second", goal, True)
        backend.close()
        torch.compiler.reset()


def _timing(
    bench: Bench,
    backend: Diffusion,
    shape: BenchShape,
    batch: int,
    way: str,
    counted: tuple[float, float],
    kernel: str | None,
) -> Timing:
    """One way, or why it does not run."""
    import torch

    cuda = bench.device.type == "cuda"
    try:
        began = time.perf_counter()
        args, kwargs, latents = _denoiser_inputs(backend, shape, batch)
        first = time.perf_counter() - began  # a call of one step, in which it compiles
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # torch says at length why a kernel cannot run, and how it compiles
            stack.enter_context(kernels((kernel,)) if kernel else at_work(backend.speed))
            step = seconds_of(lambda: backend.denoiser(*args, **kwargs), bench.device)
        with torch.no_grad():
            decode = seconds_of(lambda: backend.pipe.vae.decode(latents[:1]), bench.device)
    except (RuntimeError, MemoryError) as error:  # out of memory, or no such kernel here
        release(bench.device)
        short = isinstance(error, torch.OutOfMemoryError | MemoryError)
        why = "out of memory" if short else str(error).strip().partition("\n")[0][:60]
        return Timing(shape.name, batch, way, None, note=why)
    wall = shape.steps * step + batch * decode
    flops = batch * (shape.steps * counted[0] + counted[1]) / wall
    note = f"first call {first:.1f} s" if way.startswith("compiled") else ""
    memory = torch.cuda.max_memory_allocated() if cuda else None
    return Timing(shape.name, batch, way, step, decode, batch / wall, flops, flops / bench.ceiling, memory, note)
