"""Images a second against the plain loop, and how near the denoiser comes to this machine's own limit.

Three ways take turns on the same images: automatic settings, float32 settings, and the stock pipeline called prompt by
prompt. Both of promptlab's are what a long run gets, so they are compiled where that works; compiled code is kept in
the user's home. The limit is the speed of a large product of matrices in the same dtype.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.bench import Measured, picture_loop
from promptlab.generator.backends import Job

if TYPE_CHECKING:
    from promptlab.generator.backends.diffusion import Diffusion

__all__ = ["image_figures"]

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

    from promptlab.generator.models.precision import matmul_speed

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
