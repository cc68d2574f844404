"""How a denoiser runs on this device, decided once, before the first image.

    Wish, device, model, number of images --decisions--> Speed --applied--> the pipeline, changed in place

    dtype           float32, or bfloat16: on a GPU, and on a CPU that a short measurement shows to be faster in it
    channels_last   convolutions of U-Nets and autoencoders read pixel by pixel, as a GPU's matrix units want it
    attention       the kernel of scaled-dot-product attention that is fastest at the model's own largest attention
    compile         torch.compile of the denoiser, whole or its repeated blocks, if the number of images repays it

On a CPU only the denoiser uses bfloat16, since nearly all the time goes there. Text encoders, the autoencoder, the
noise, the scheduler's steps and guidance stay in float32. The denoiser's inputs are rounded when it is called, and its
output is widened again. On a GPU all parts run in one dtype, as is usual there. The measurement takes about a tenth of
a second. It is kept by CPU, torch version and number of threads, so that runs in one home agree.

On a CPU a U-Net is compiled if a C++ compiler is present and the number of images repays it. Its convolutions are then
in channels_last order. The home keeps compiled code, so a second run compiles little. Weights are not frozen into the
code: that gained nothing here, and a second run took three times as long to begin. None of these choices is part of an
image's id. Like the number of threads they are facts of the run, and change an image by rounding. A wish that names the
facts of another run gives the same choices.

References:
    Chetlur et al. 2014, cuDNN (arXiv 1410.0759). Dao et al. 2022, FlashAttention (arXiv 2205.14135). Kalamkar et al.
    2019, A Study of BFLOAT16 for Deep Learning Training (arXiv 1905.12322). Ansel et al. 2024, PyTorch 2 (ASPLOS 2024).
    The gains of compiling are those published for FLUX.1-dev and SDXL on an H100.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import logging
import os
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from promptlab.errors import PromptlabError, nearest
from promptlab.generator.models.capabilities import Capability, denoising_flop
from promptlab.store.home import hold, write_whole

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "COMPILE",
    "DTYPES",
    "KERNELS",
    "Speed",
    "Wish",
    "at_work",
    "attention_shape",
    "chosen_dtype",
    "compiled",
    "compiler_here",
    "cpu_speeds",
    "equip",
    "fastest",
    "in_channels_last",
    "kernel_order",
    "kernel_seconds",
    "kernels",
    "matmul_speed",
    "remember_compiled",
    "repays",
    "repays_on_cpu",
    "run_in",
]

Compiled = Literal["off", "whole", "blocks"]

KERNELS = ("flash", "cudnn", "efficient", "math")
"""Kernels of attention; of those that are about equally fast, the first is used."""
COMPILE = ("auto", "on", "off")
AS_FAST = 1.1
"""Times within this factor count as equal; otherwise two runs would often choose differently."""
ROWS = 2
"""Rows of the measured attention."""
GAIN: dict[str, tuple[float, float, float]] = {"whole": (200e12, 0.20, 100.0), "blocks": (312e12, 0.33, 10.0)}
"""FLOP/s of an uncompiled denoiser on an H100, share of its time that compiling saves, seconds to compile."""
SHAPES = 2
"""Shapes of batches that a run compiles for: in two passes and in one."""
CPU_SHARE = {"float32": 0.40, "bfloat16": 0.16}
"""Share of a CPU's measured speed that an uncompiled U-Net reaches, in the FLOP of `denoising_flop`."""
CPU_SAVED = 0.28
"""Share of an uncompiled U-Net's time that compiling saves on a CPU, in float32 and bfloat16 alike."""
CPU_SECONDS, CPU_SECONDS_AGAIN = 60.0, 6.0
"""Seconds to compile for one shape on two cores: the first time, and again from the home's compiled code."""
RECOMPILE_LIMIT = 64
"""Shapes that torch compiles before it would silently run uncompiled."""


@dataclass(frozen=True)
class Wish:
    """What the caller requests.

    Attributes:
        compile: one of COMPILE.
        attention: auto, default (torch's own order), or one of KERNELS.
        channels_last: None lets the device decide.
        pictures: the number of images to make; None if unknown.
        cache: the folder that keeps compiled code.

    Raises PromptlabError for an unknown value.
    """

    compile: str = "auto"
    attention: str = "auto"
    channels_last: bool | None = None
    pictures: int | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("compile", self.compile, COMPILE),
            ("attention", self.attention, ("auto", "default", *KERNELS)),
        ):
            if value not in known:
                raise PromptlabError(f"no {name} {value!r}: choose from {', '.join(known)}{nearest(value, known)}")


@dataclass(frozen=True)
class Speed:
    """What was decided. `attention` "default" is torch's own order of kernels."""

    channels_last: bool = False
    attention: str = "default"
    compile: Compiled = "off"

    def facts(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


# Decisions.


def in_channels_last(requested: bool | None, device: str, compiles: bool = False) -> bool:
    """Whether weights of convolutions are in channels-last order: as `requested`, else on a GPU or if compiled."""
    return device == "cuda" or compiles if requested is None else requested


def fastest(seconds: Mapping[str, float]) -> str:
    """The first of KERNELS that is about as fast as the best; "default" if none was measured."""
    if not seconds:
        return "default"
    best = min(seconds.values())
    return next(name for name in KERNELS if name in seconds and seconds[name] <= AS_FAST * best)


def repays(pictures: int, flop: float, kind: str) -> bool:
    """Whether compiling saves more time than it takes, over `pictures` images of `flop` FLOP each."""
    speed, saved, cost = GAIN[kind]
    return pictures * flop / speed * saved > SHAPES * cost


def repays_on_cpu(pictures: int, flop: float, flops: float, dtype: str, again: bool) -> bool:
    """As `repays`, on a CPU of `flops` measured FLOP/s. `again`: the home has the code of an earlier run."""
    seconds = pictures * flop / (CPU_SHARE[dtype] * flops)
    return seconds * CPU_SAVED > SHAPES * (CPU_SECONDS_AGAIN if again else CPU_SECONDS)


def compiled(
    requested: str, device: str, pictures: int | None, flop: float, blocks: bool, able: bool, cpu: bool = False
) -> Compiled:
    """Decide how to compile the denoiser.

    Args:
        requested: one of COMPILE.
        pictures: the number of images to make; None if unknown.
        flop: FLOP of one image.
        blocks: whether the denoiser names repeated blocks, which compile in a tenth of the time.
        able: whether a compiler for the device is present.
        cpu: whether compiling pays off on a CPU (`repays_on_cpu`).

    Raises PromptlabError if compiling is requested and there is no compiler.
    """
    kind: Compiled = "blocks" if blocks else "whole"
    if requested == "on":
        if not able:
            what = "no Triton here, which torch.compile needs on a GPU"
            if device != "cuda":
                what = "no C++ compiler here that works, which torch.compile needs on a CPU; install g++ or clang"
            raise PromptlabError(f"compile: on, but there is {what}")
        return kind
    if requested == "off" or not able or pictures is None:
        return "off"
    return kind if (repays(pictures, flop, kind) if device == "cuda" else cpu) else "off"


def kernel_order(name: str) -> tuple[str, ...]:
    """`name` first, then the others for what it cannot do; "math" can do everything, so it needs no other."""
    return ("math",) if name == "math" else (name, *(other for other in KERNELS if other != name))


# What they rest on.


def attention_shape(denoiser: Any, height: int, width: int, text: int) -> tuple[int, int, int]:
    """Heads, tokens and width of a head of the largest self-attention, for latents of height x width.

    A U-Net's is that of its first level with attention; a transformer's sees all patches and `text` tokens.
    """
    for level, block in enumerate(getattr(denoiser, "down_blocks", ())):
        if getattr(block, "attentions", None):
            layer = block.attentions[0].transformer_blocks[0].attn1
            return layer.heads, -(-height // 2**level) * -(-width // 2**level), layer.to_q.out_features // layer.heads
    config = denoiser.config
    heads = config.get("num_attention_heads") or config["n_heads"]
    head = config.get("attention_head_dim") or config["dim"] // heads
    return heads, height * width // 4 + text, head


def kernel_seconds(shape: tuple[int, int, int], device: Any, dtype: Any, repeats: int = 5) -> dict[str, float]:
    """Seconds of one attention of `shape` (heads, tokens, width of a head), by each kernel that runs here."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    heads, tokens, head = shape
    found: dict[str, float] = {}
    q, k, v = (torch.randn(ROWS, heads, tokens, head, device=device, dtype=dtype) for _ in range(3))
    # Compared with the others, math is slow and takes memory that grows with the square of the tokens.
    names = KERNELS[:-1] if device.type == "cuda" else KERNELS
    for name in names:
        try:
            with warnings.catch_warnings(), kernels((name,)), torch.no_grad():
                warnings.simplefilter("ignore")  # torch says at length why a kernel cannot run
                times = []
                for _ in range(repeats + 1):
                    began = time.perf_counter()
                    scaled_dot_product_attention(q, k, v)
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                    times.append(time.perf_counter() - began)
                found[name] = min(times[1:])
        except RuntimeError:  # no such kernel for this device, dtype or shape
            continue
    return found


@contextmanager
def kernels(names: tuple[str, ...]) -> Iterator[None]:
    """Inside the block, attention runs on the first of these kernels that can."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    known = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    with sdpa_kernel([known[name] for name in names], set_priority=True):
        yield


# What they change.


def equip(pipe: Any, able: Capability, wish: Wish, backend: str = "inductor") -> Speed:
    """Decide how the pipeline runs on the device where it is, and change it in place. `backend` is torch.compile's.

    Raises PromptlabError if compiling is requested and not possible.
    """
    import torch

    device, denoiser = pipe.device, getattr(pipe, able.architecture.denoiser)
    unet = able.architecture.denoiser == "unet"
    settings = able.settings
    attention = wish.attention
    if attention == "auto":
        attention = "default"
        if device.type == "cuda":
            text = max((reader.limit or 77 for reader in able.readers), default=0)
            shape = attention_shape(denoiser, settings.height // able.factor, settings.width // able.factor, text)
            attention = fastest(kernel_seconds(shape, device, denoiser.dtype))
    size = sum(p.numel() for p in denoiser.parameters())
    blocks = bool(getattr(denoiser, "_repeated_blocks", None)) and not unet
    flop = denoising_flop(able, size, settings)
    if device.type == "cuda":
        here, pays = importlib.util.find_spec("triton") is not None, False
    else:
        pays = unet and wish.compile == "auto" and _pays_here(denoiser, wish, flop)
        here = backend != "inductor" or ((pays or wish.compile == "on") and compiler_here(wish.cache))
    how = compiled(wish.compile, device.type, wish.pictures, flop, blocks, here, pays)
    on_cpu = device.type == "cpu" and how != "off"
    chosen = Speed(in_channels_last(wish.channels_last, device.type, on_cpu), attention, how)
    if chosen.channels_last:
        for part in (pipe.vae, *([denoiser] if unet else [])):
            if all(p.dim() < 5 for p in part.parameters()):  # 5 dimensions have no such order
                part.to(memory_format=torch.channels_last)
    if chosen.compile != "off":
        import torch._dynamo.config as dynamo

        dynamo.recompile_limit = max(dynamo.recompile_limit, RECOMPILE_LIMIT)
        how_to: dict[str, Any] = {"dynamic": False, "backend": backend}
        if chosen.compile == "blocks":
            denoiser.compile_repeated_blocks(fullgraph=True, **how_to)
        else:
            # The function inside: hooks on the module come and go with every batch, and each would compile it anew.
            denoiser.forward = torch.compile(denoiser.forward, **how_to)
    return chosen


def compiler_here(cache: Path | None = None) -> bool:
    """Whether torch.compile works on this CPU: a compiler is present, and a small program compiles and runs.

    From now on, this process keeps all compiled code in `cache`.
    """
    names = (os.environ.get("CXX"), "g++", "clang++", "c++", "cl")
    if not any(name and shutil.which(name.split()[0]) for name in names):
        return False
    import torch

    if cache is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "compiled"))
    note = logging.getLogger("torch.utils.cpp_extension")  # it warns that there is no CUDA, where none is needed
    level = note.level
    note.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.compile(_small_program, dynamic=False)(torch.ones(64))
    except Exception:  # a compiler without its headers, a full disk: each part of it fails in its own way
        return False
    finally:
        note.setLevel(level)
    return True


def _small_program(x: Any) -> Any:
    return (x * 2).cos() + 1


def _pays_here(denoiser: Any, wish: Wish, flop: float) -> bool:
    """Whether compiling pays off on this CPU for the requested number of images."""
    dtype = str(denoiser.dtype).removeprefix("torch.")
    if wish.pictures is None or dtype not in CPU_SHARE:
        return False
    flops = cpu_speeds(wish.cache)[dtype]
    again = wish.cache is not None and _mark(denoiser, wish.cache).exists()
    return repays_on_cpu(wish.pictures, flop, flops, dtype, again)


def _mark(denoiser: Any, cache: Path) -> Path:
    """The file whose presence says that a denoiser like this one has been compiled on this machine."""
    import torch

    description = (
        f"{sorted(denoiser.config.items(), key=str)} {denoiser.dtype} {torch.__version__} {torch.get_num_threads()}"
    )
    return cache / "compiled" / f"{hashlib.sha256(description.encode()).hexdigest()[:16]}.done"


def remember_compiled(denoiser: Any, speed: Speed, cache: Path | None) -> None:
    """Note in the cache that a denoiser was compiled, so that later runs expect compiling to be short."""
    if cache is None or speed.compile != "whole" or not (cache / "compiled").is_dir():
        return
    with suppress(OSError):
        _mark(denoiser, cache).touch()


@contextmanager
def at_work(speed: Speed, watched: bool = False) -> Iterator[None]:
    """Inside the block, the pipeline runs as `speed` says, but uncompiled if its attention is `watched`.

    Raises PromptlabError if the compiler fails, so that no image gets the status `error` for it.
    """
    with ExitStack() as stack:
        if speed.attention != "default":
            stack.enter_context(kernels(kernel_order(speed.attention)))
        if speed.compile == "off":
            yield
            return
        import torch
        from torch._dynamo.exc import TorchDynamoException

        if watched:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            yield
        except TorchDynamoException as error:
            why = str(error).strip().partition("\n")[0][:200]
            raise PromptlabError(f"the denoiser cannot be compiled here ({why}); go on with --compile off") from error


DTYPES = ("auto", "float32", "bfloat16", "float16")
FASTER = 1.25
"""How many times faster bfloat16 must be than float32; less is not worth its rounding, and may be chance."""
FILE = "cpu_speed.json"
REPEATS = 5
LOCK_SECONDS = 30.0

Speeds = Mapping[str, float]
"""FLOP a second by dtype."""


def chosen_dtype(requested: str | None, device: str, cache: Path | None = None) -> str:
    """Choose the dtype of a denoiser on a device of this type ("cpu", "cuda").

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
    """FLOP/s of this CPU in float32 and bfloat16, for a U-Net's convolutions and matrix products."""
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
    """The CPU's name, with the numbers that tell its generation."""
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
    """Measure FLOP/s by dtype: the best of a few repeats, in turns so that other load on the machine hits both."""
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
    """FLOP/s of a large matrix product on this CPU, which no other work exceeds by much."""
    import torch

    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2.0 * side**3 / min(times[1:])


def run_in(denoiser: Any, dtype: Any) -> None:
    """Make a denoiser of `dtype` accept and return float32.

    Inputs with more than one dimension are rounded to `dtype`. Times, guidance (one number a row) and places
    (`img_ids`, `txt_ids`) are not: the denoiser rounds them itself, after it has computed with them.
    """
    import torch

    inside = denoiser.forward

    def rounded(value: Tensor) -> Tensor:
        return value.to(dtype) if value.is_floating_point() and value.ndim > 1 else value

    def widened(value: Tensor) -> Tensor:
        return value.to(torch.float32) if value.is_floating_point() else value

    @functools.wraps(inside)
    def forward(*args: Any, **kwargs: Any) -> Any:
        inputs = {
            name: value if name.endswith("_ids") or isinstance(value, dict) else _each(value, rounded)
            for name, value in kwargs.items()
        }
        return _each(inside(*_each(args, rounded), **inputs), widened)

    denoiser.forward = forward


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every tensor in `value`: a tensor, a list or tuple of them, or an output of diffusers."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_each(one, change) for one in value)
    if isinstance(value, dict):
        return type(value)(**{name: _each(one, change) for name, one in value.items()})
    return value
