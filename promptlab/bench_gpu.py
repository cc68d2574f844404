"""`promptlab bench gpu`: what a GPU gives for models of real shape and random weights, and what promptlab makes of it.

    speed      a denoiser's step at several batch sizes: eager, each kernel of attention, channels_last, compiled
    loop       pictures a second of a grid, by promptlab and by the stock pipeline called prompt by prompt
    guidance   rows of different guidance in one batch against single calls; the same bits beside other neighbours
    study      a study end to end, scored: pictures a second, how long the device waits, peak memory
    memory     memory made to run out: the batch is halved once, and nothing is lost

A dry run goes the same ways at tiny size on the CPU, compiled without generating code, and says nothing about any GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from promptlab.bench import Figure
from promptlab.bench_checks import guidance, loop, memory, study
from promptlab.bench_shapes import DRY, REAL, BenchShape
from promptlab.bench_timing import Bench, Timing, release, seconds_of, speed
from promptlab.errors import PromptlabError, nearest

__all__ = ["DRY_RUN", "PARTS", "bench_gpu"]

DRY_RUN = "dry run, cpu: says nothing about a GPU"

PARTS: dict[str, Callable[[Bench, BenchShape], Iterator[Figure | Timing]]] = {
    "speed": speed,
    "loop": loop,
    "guidance": guidance,
    "study": study,
    "memory": memory,
}
"""Parts by name, in order."""


def bench_gpu(asked: Sequence[str] = (), dry: bool = False) -> Iterator[Figure | Timing]:
    """Figures and timings, as they are measured. Without CUDA it is a dry run.

    Args:
        asked: parts (PARTS) and shapes (sd15, sdxl, sd35, flux); none of a kind means all.

    Raises PromptlabError for a word that is neither.
    """
    import torch

    dry = dry or not torch.cuda.is_available()
    shapes = {shape.name: shape for shape in (DRY if dry else REAL)}
    for word in asked:
        if word not in (*PARTS, *shapes):
            known = (*PARTS, *shapes)
            raise PromptlabError(f"no part or shape {word!r}: choose from {', '.join(known)}{nearest(word, known)}")
    parts = [part for part in PARTS if part in asked] or list(PARTS)
    chosen = [shape for name, shape in shapes.items() if name in asked] or list(shapes.values())
    device, dtype = (torch.device("cpu"), torch.float32) if dry else (torch.device("cuda"), torch.bfloat16)
    side = 256 if dry else 8192
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if dry else threads)  # several threads would wait for each other at such sizes
    try:
        bench = Bench(device, dtype, dry, _product(device, dtype, side))
        yield Figure("matrix product", bench.ceiling / 1e12, "TFLOP/s", detail={"side": side, "dtype": str(dtype)})
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
