"""The precision that a model computes in, and how fast this CPU is in each.

    auto --a short measurement, kept in the home--> float32 or bfloat16      on a CPU
    auto ------------------------------------------> bfloat16                on a GPU

On a CPU bfloat16 is for the denoiser alone, where nearly all the time goes. Text encoders and the autoencoder stay in
float32, and so do the noise, the scheduler's steps and guidance: the denoiser's inputs are rounded as it is called, and
its answer is widened again. On a GPU all parts run in one dtype, as is usual there.

The measurement takes about a tenth of a second. It is kept by CPU, torch version and number of threads, so that runs
in one home agree.

References:
    Kalamkar et al. 2019, A Study of BFLOAT16 for Deep Learning Training (arXiv 1905.12322).
"""

from __future__ import annotations

import functools
import json
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.errors import PromptlabError, nearest
from promptlab.store.home import hold, write_whole

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DTYPES", "chosen_dtype", "cpu_speeds", "matmul_speed", "run_in"]

DTYPES = ("auto", "float32", "bfloat16", "float16")
FASTER = 1.25
"""How much faster bfloat16 must be than float32: less is not worth its rounding, and may be chance."""
FILE = "cpu_speed.json"
REPEATS = 5
LOCK_SECONDS = 30.0

Speeds = Mapping[str, float]
"""FLOP a second by dtype."""


def chosen_dtype(requested: str | None, device: str, cache: Path | None = None) -> str:
    """The dtype of a denoiser on a device of this type ("cpu", "cuda").

    Args:
        requested: one of DTYPES; None is bfloat16 on a GPU and float32 on a CPU.
        cache: the folder that keeps the measurement of this CPU; without it, the measurement is kept in memory.

    Raises PromptlabError for other names, and for float16 on a CPU.
    """
    if requested not in (None, *DTYPES):
        raise PromptlabError(
            f"no dtype {requested!r}: choose from {', '.join(DTYPES)}{nearest(str(requested), DTYPES)}"
        )
    if device != "cpu":
        return "bfloat16" if requested in (None, "auto") else str(requested)
    if requested == "float16":
        raise PromptlabError("float16 does not run on a CPU: choose auto, float32 or bfloat16")
    if requested != "auto":
        return requested or "float32"
    speeds = cpu_speeds(cache)
    return "bfloat16" if speeds["bfloat16"] >= FASTER * speeds["float32"] else "float32"


def cpu_speeds(cache: Path | None = None) -> Speeds:
    """FLOP a second of this CPU in float32 and bfloat16, at a U-Net's convolutions and products of matrices."""
    key = _key()
    if cache is None:
        return _measured_once(key)
    path = cache / FILE
    known = _read(path)
    if key not in known:
        # Workers that start at once measure once. A home that cannot be written to costs a measurement a run, no more.
        with suppress(PromptlabError, OSError), hold(path.with_suffix(".lock"), "the measurement", LOCK_SECONDS):
            known = _read(path)
            if key not in known:
                known[key] = dict(_measured_once(key))
                write_whole(path, json.dumps(known, indent=1).encode(), "cpu-speed")
    return known.get(key) or _measured_once(key)


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: {name: float(speeds[name]) for name in ("float32", "bfloat16")} for key, speeds in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # absent or damaged: measured again
        return {}


def _key() -> str:
    import torch

    return f"{_cpu()}; torch {torch.__version__}; {torch.get_num_threads()} threads"


def _cpu() -> str:
    """The CPU's name, with what tells its generation where the name does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    found = [facts[name] for name in ("model name", "cpu family", "model", "stepping", "CPU part") if name in facts]
    return " ".join(found) or platform.processor() or platform.machine()


@functools.cache
def _measured_once(key: str) -> Speeds:
    return _measured()


def _measured() -> Speeds:
    """The best of a few repeats, taken in turns so that whatever else the machine does hits both."""
    import torch

    flop = 2.0 * 8 * 128 * 128 * 9 * 16 * 16 + 2.0 * 2048 * 512 * 512
    work: dict[str, Callable[[], Any]] = {}
    for name in ("float32", "bfloat16"):
        dtype = getattr(torch, name)
        weight = torch.randn(128, 128, 3, 3, dtype=dtype)
        picture = torch.randn(8, 128, 16, 16, dtype=dtype)
        a, b = torch.randn(2048, 512, dtype=dtype), torch.randn(512, 512, dtype=dtype)
        work[name] = functools.partial(_work, picture, weight, a, b)
    best = dict.fromkeys(work, float("inf"))
    with torch.no_grad():
        for repeat in range(REPEATS + 1):  # the first warms up
            for name, run in work.items():
                began = time.perf_counter()
                run()
                if repeat:
                    best[name] = min(best[name], time.perf_counter() - began)
    return {name: flop / seconds for name, seconds in best.items()}


def _work(picture: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> None:
    import torch

    torch.nn.functional.conv2d(picture, weight, padding=1)
    a @ b


def matmul_speed(dtype: Any, side: int = 2048, repeats: int = 5) -> float:
    """FLOP a second of a large product of matrices on this CPU: what nothing here can exceed by much."""
    import torch

    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2.0 * side**3 / min(times[1:])


def run_in(denoiser: Any, dtype: Any) -> None:
    """Make a denoiser of `dtype` take and give float32.

    What has a row for each image and more than one dimension is rounded. Times, guidance (one number a row) and
    places (`img_ids`, `txt_ids`) are not: the denoiser rounds them itself, after it has computed with them.
    """
    import torch

    inside = denoiser.forward

    def rounded(value: Tensor) -> Tensor:
        return value.to(dtype) if value.is_floating_point() and value.ndim > 1 else value

    def widened(value: Tensor) -> Tensor:
        return value.to(torch.float32) if value.is_floating_point() else value

    @functools.wraps(inside)
    def forward(*args: Any, **kwargs: Any) -> Any:
        given = {
            name: value if name.endswith("_ids") or isinstance(value, dict) else _each(value, rounded)
            for name, value in kwargs.items()
        }
        return _each(inside(*_each(args, rounded), **given), widened)

    denoiser.forward = forward


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with every tensor in it changed: tensors, lists and tuples of them, and outputs of diffusers."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_each(one, change) for one in value)
    if isinstance(value, dict):
        return type(value)(**{name: _each(one, change) for name, one in value.items()})
    return value
