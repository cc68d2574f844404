"""Models of real shapes with random weights, and how fast each way to run them is.

    BenchShape --configuration in a folder--> capability
               --modules, on the device-----> pipeline --> Diffusion, whose text states are random too

Speed does not depend on the weights, so nothing has to be downloaded. The configurations are those that the models are
published with; DRY holds the same architectures at a size for tests.

    images a second = batch / (steps x step + batch x decode)         FLOP: counted over one forward pass

Shares are those of a matrix product measured in the same run, the honest ceiling.

References:
    Rombach et al. 2022 (arXiv 2112.10752), Podell et al. 2023 (arXiv 2307.01952), Esser et al. 2024 (arXiv 2403.03206),
    and `config.json` of stable-diffusion-v1-5, stable-diffusion-xl-base-1.0, stable-diffusion-3.5-large, FLUX.1-dev.
    Chowdhery et al. 2022, PaLM (arXiv 2204.02311), appendix B: utilisation as a share of what matrix units can do.
"""

from __future__ import annotations

import gc
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zlib import crc32

from promptlab.bench import Measured
from promptlab.checkpoints.architectures import ARCHITECTURES
from promptlab.generator.backends import Job
from promptlab.generator.models.capabilities import capability
from promptlab.generator.models.speed import KERNELS, Wish, at_work, equip, fastest, kernels
from promptlab.records import Cell, Prompt, Settings

if TYPE_CHECKING:
    from promptlab.generator.backends.diffusion import Diffusion

__all__ = [
    "DRY",
    "REAL",
    "Bench",
    "BenchShape",
    "Timing",
    "backend_of",
    "decoding",
    "grid",
    "random_parts",
    "release",
    "resized",
    "seconds_of",
    "speed",
    "write_pipeline",
]


@contextmanager
def _built_on(device: Any, dtype: Any) -> Iterator[None]:
    """Inside, modules are made on the device, in the dtype."""
    import torch

    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(usual)


def random_parts(shape: BenchShape, device: Any, dtype: Any) -> dict[str, Any]:
    """Denoiser, autoencoder and scheduler, by component name."""
    import diffusers
    import torch

    architecture = ARCHITECTURES[shape.pipeline]
    kinds = {"StableDiffusion3Pipeline": "SD3Transformer2DModel", "FluxPipeline": "FluxTransformer2DModel"}
    torch.manual_seed(0)
    with _built_on(device, dtype):
        denoiser = getattr(diffusers, kinds.get(shape.pipeline, "UNet2DConditionModel"))(**shape.denoiser)
        vae = diffusers.AutoencoderKL(**shape.vae)
    denoiser.to(device, dtype).eval()  # some tables of positions are made in float32 whatever is said
    vae.to(device, dtype).eval()
    if shape.flow:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    else:
        scheduler = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1)
    return {architecture.denoiser: denoiser, "vae": vae, "scheduler": scheduler}


def _pipeline(shape: BenchShape, parts: dict[str, Any]) -> Any:
    import inspect

    import diffusers

    kind = getattr(diffusers, shape.pipeline)
    wanted = inspect.signature(kind.__init__).parameters
    parts = {name: None for name in wanted if name.startswith(("text_", "token"))} | parts
    if shape.pipeline == "StableDiffusionPipeline":
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def backend_of(shape: BenchShape, device: Any, dtype: Any, folder: Path, batch_size: int) -> Diffusion:
    """A backend without text encoders, nothing chosen for speed yet; configurations go to `folder`."""
    import torch

    from promptlab.checkpoints.files import quiet
    from promptlab.generator.backends.diffusion import Diffusion
    from promptlab.generator.models.conditioning import TextStates
    from promptlab.generator.models.loading import Encoders

    with quiet():
        pipe = _pipeline(shape, random_parts(shape, device, dtype))
        for name in (ARCHITECTURES[shape.pipeline].denoiser, "vae"):
            getattr(pipe, name).save_config(folder / name)
        (folder / "model_index.json").write_text(json.dumps({"_class_name": shape.pipeline}), encoding="utf-8")

    def encode(texts: list[str]) -> dict[str, list[torch.Tensor]]:
        drawn = [torch.Generator("cpu").manual_seed(crc32(text.encode())) for text in texts]
        return {
            name: [torch.randn(size, generator=one).to(dtype) for one in drawn] for name, size in shape.states.items()
        }

    backend = Diffusion(pipe, capability(folder), Encoders(pipe, (), False), shape.name, (folder,), batch_size)
    backend.texts = TextStates(encode)
    return backend


def write_pipeline(shape: BenchShape, folder: Path, device: Any, dtype: Any) -> Path:
    """A whole Stable Diffusion of this shape, its text encoder with it, as `save_pretrained` writes real ones.

    The vocabulary is the miniature's, which has fewer words than CLIP's; the encoder is as wide and as deep.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from promptlab.checkpoints.files import quiet
    from promptlab.miniature.tokenizer import VOCAB_SIZE, write_tokenizer

    marks = {"bos_token_id": VOCAB_SIZE - 2, "eos_token_id": VOCAB_SIZE - 1, "pad_token_id": VOCAB_SIZE - 1}
    config = CLIPTextConfig(vocab_size=VOCAB_SIZE, max_position_embeddings=77, **marks, **(shape.text or {}))
    write_tokenizer(folder / "tokenizer")
    with quiet():
        parts = random_parts(shape, device, dtype)
        parts |= {"text_encoder": CLIPTextModel(config).to(device, dtype)}
        parts |= {"tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer")}
        _pipeline(shape, parts).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class BenchShape:
    """One model's shape and what is asked of it.

    Attributes:
        states: shape of each text state of one prompt, by argument name.
        text: configuration of a CLIP text encoder, where a whole pipeline is to be written.
        batches: rows of a batch; `several` is the one at which ways are compared.
        prompts, seeds: of the grid that the plain loop draws too, at four guidance scales.
    """

    name: str
    title: str
    pipeline: str
    side: int
    steps: int
    denoiser: Mapping[str, Any]
    vae: Mapping[str, Any]
    states: Mapping[str, tuple[int, ...]]
    text: Mapping[str, Any] | None = None
    batches: tuple[int, ...] = (1, 4, 8, 16)
    several: int = 8
    prompts: int = 2
    seeds: int = 2

    @property
    def flow(self) -> bool:
        """Whether the model is a transformer of flow matching, not a U-Net."""
        return ARCHITECTURES[self.pipeline].denoiser == "transformer"


def _vae(widths: Sequence[int], channels: int, groups: int, **more: Any) -> dict[str, Any]:
    kinds = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    blocks = {name: kind * len(widths) for name, kind in kinds.items()}
    sizes = {"block_out_channels": tuple(widths), "latent_channels": channels, "norm_num_groups": groups}
    return {**blocks, **sizes, "layers_per_block": 2, **more}


_WIDE = (128, 256, 512, 512)
_NO_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_XL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
}

REAL = (
    BenchShape(
        "sd15",
        "Stable Diffusion 1.5",
        "StableDiffusionPipeline",
        512,
        30,
        {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        _vae(_WIDE, 4, 32, scaling_factor=0.18215, sample_size=512),
        {"prompt_embeds": (77, 768)},
        _CLIP_L,
        (1, 4, 8, 16, 32),
        prompts=4,
        seeds=4,
    ),
    BenchShape(
        "sdxl",
        "Stable Diffusion XL",
        "StableDiffusionXLPipeline",
        1024,
        30,
        {
            **_XL,
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        _vae(_WIDE, 4, 32, scaling_factor=0.13025, sample_size=1024, force_upcast=True),
        {"prompt_embeds": (77, 2048), "pooled_prompt_embeds": (1280,)},
    ),
    BenchShape(
        "sd35",
        "Stable Diffusion 3.5 Large",
        "StableDiffusion3Pipeline",
        1024,
        28,
        {
            "sample_size": 128,
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 38,
            "attention_head_dim": 64,
            "num_attention_heads": 38,
            "joint_attention_dim": 4096,
            "caption_projection_dim": 2432,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
        _vae(_WIDE, 16, 32, scaling_factor=1.5305, shift_factor=0.0609, sample_size=1024, **_NO_QUANT),
        {"prompt_embeds": (333, 4096), "pooled_prompt_embeds": (2048,)},
        prompts=1,
    ),
    BenchShape(
        "flux",
        "FLUX.1-dev",
        "FluxPipeline",
        1024,
        28,
        {
            "patch_size": 1,
            "in_channels": 64,
            "num_layers": 19,
            "num_single_layers": 38,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 768,
            "guidance_embeds": True,
        },
        _vae(_WIDE, 16, 32, scaling_factor=0.3611, shift_factor=0.1159, sample_size=1024, **_NO_QUANT),
        {"prompt_embeds": (512, 4096), "pooled_prompt_embeds": (768,)},
        prompts=1,
    ),
)
"""What a GPU is measured by."""

_SMALL: dict[str, Any] = {"batches": (1, 4), "several": 4, "side": 16, "steps": 3, "prompts": 2, "seeds": 2}
_UNET = {"sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
_UNET |= {"cross_attention_dim": 32, "attention_head_dim": 4}
_UNET |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
_UNET |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
_SD3 = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 1, "attention_head_dim": 8}
_SD3 |= {"num_attention_heads": 4, "joint_attention_dim": 64, "caption_projection_dim": 32, "pos_embed_max_size": 64}
_FLUX = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "axes_dims_rope": [4, 4, 8],
}
_FLUX |= {"num_attention_heads": 2, "joint_attention_dim": 32}
_TINY_XL = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 72, "use_linear_projection": True}
_TINY: dict[str, dict[str, Any]] = {
    "sd15": {
        "denoiser": _UNET,
        "states": {"prompt_embeds": (77, 32)},
        "text": {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4},
    },
    "sdxl": {
        "denoiser": _UNET | _TINY_XL | {"addition_embed_type": "text_time", "transformer_layers_per_block": (1, 2)},
        "states": {"prompt_embeds": (77, 32), "pooled_prompt_embeds": (24,)},
    },
    "sd35": {
        "denoiser": {**_SD3, "patch_size": 2, "pooled_projection_dim": 48, "qk_norm": "rms_norm"},
        "states": {"prompt_embeds": (16, 64), "pooled_prompt_embeds": (48,)},
    },
    "flux": {
        "denoiser": {**_FLUX, "patch_size": 1, "pooled_projection_dim": 32, "guidance_embeds": True},
        "states": {"prompt_embeds": (16, 32), "pooled_prompt_embeds": (32,)},
    },
}


def _dry(shape: BenchShape) -> BenchShape:
    kept = {name: value for name, value in shape.vae.items() if name not in ("sample_size", "layers_per_block")}
    kept |= _vae((16, 32), 4, 8, sample_size=16)
    return replace(shape, vae=kept, **_SMALL, **_TINY[shape.name])


DRY = tuple(_dry(shape) for shape in REAL)
"""The same, tiny."""


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
