"""What a model can do and roughly costs, read from the JSON of its folder: no weights, no torch.

The pipeline's class decides most of it (`promptlab.checkpoints.architectures`). The checkpoint decides the rest:

    FLUX.1          transformer.guidance_embeds   embedded guidance (dev), or none (schnell)
    FLUX.2 klein    is_distilled                  none, or true guidance (base)
    Qwen-Image      transformer.guidance_embeds   embedded, or true guidance
    SD, SDXL        unet.time_cond_proj_dim       embedded (latent consistency models), or true guidance
    SDXL            force_zeros_for_empty_prompt  whether no negative prompt means zeros or the empty text
    Z-Image         scheduler.shift               none (Turbo, published with 3), or true guidance (base, with 6)

Language models that serve as text encoders read a chat: template(messages) = before + prompt + after, as the folder's
own template writes it (Jinja, in `chat_template.jinja` or `tokenizer_config.json`). This frame takes tokens, too.
Templates come from strangers, so they run in Jinja's sandbox, as in transformers.

`estimate` gives the time on a model that was never timed on this machine, within a factor of two or three:

    seconds                FLOP an image / speed: 400 TFLOP/s on an NVIDIA card (what good bfloat16 code reaches on an
                           H100), else 0.05 TFLOP/s a CPU core
    FLOP a row and step    transformer: 1.4 P (image tokens + text tokens)       P parameters of the denoiser
                           U-Net:       0.2 P (pixels of the latents)

Memory is that of the weights alone. The factors are fitted to counts of SD 1.5 (0.80 TFLOP at 512 px), SDXL (6.8 at
1024), SD3.5-L (31), FLUX.1-dev (74) and FLUX.2-dev (283), and match them within a factor of 1.6.

References:
    Kaplan et al. 2020, Scaling Laws for Neural Language Models (arXiv 2001.08361): 2 FLOP a parameter and token.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from promptlab.checkpoints.architectures import Architecture, GuidanceKind, Reader, architecture_of
from promptlab.checkpoints.files import MINIATURES, components, parameters, pipeline_class, read_json, resolve
from promptlab.errors import ModelError
from promptlab.records import Settings
from promptlab.study.tokens import Tokens, open_tokens

__all__ = [
    "ENCODER_SHARE",
    "Capability",
    "Estimate",
    "capability",
    "chat_frame",
    "defaults_of",
    "denoising_flop",
    "estimate",
    "open_reader",
]

ENCODER_SHARE = 1 / 8
"""Share of the card's memory from which on text encoders make room for the denoiser."""
Z_IMAGE_BASE_SHIFT = 5.0
"""From this shift of its scheduler on, a Z-Image is the base model: nothing else in the folder tells it from Turbo."""


@dataclass(frozen=True)
class Capability:
    """What one checkpoint can do.

    Attributes:
        guidance: the argument of the call that carries the guidance.
        guidance_kind: see `checkpoints.architectures`; `guidance_scale` and `negative_prompt` work only if "true".
        mixes: whether rows of different guidance can share a batch.
        zeros: whether no negative prompt means zeros in place of the states of the empty text.
        readers: the text encoders that the folder contains, each with its limit.
        settings: the model's defaults.
        multiple: height and width must be multiples of this number of pixels.
        channels: of the autoencoder's latents.
        factor: pixels a latent, in each direction.
    """

    architecture: Architecture
    guidance: str
    guidance_kind: GuidanceKind
    mixes: bool
    zeros: bool
    readers: tuple[Reader, ...]
    settings: Settings
    multiple: int
    channels: int
    factor: int

    @property
    def negative_prompt(self) -> bool:
        """Whether a negative prompt has an effect."""
        return self.guidance_kind == "true"


def capability(folder: Path) -> Capability:
    """Read a pipeline's folder. Raises ModelError for one that is unknown, partial or damaged."""
    architecture = architecture_of(pipeline_class(folder))
    index = read_json(folder / "model_index.json")
    denoiser = read_json(folder / architecture.denoiser / "config.json")
    vae = read_json(folder / "vae" / "config.json")
    kind, argument, mixes = _guidance(architecture, folder, index, denoiser)
    factor = _factor(folder, vae)
    # SD's pipeline asks for multiples of 8 even where its autoencoder halves less often.
    multiple = (
        max(8, factor)
        if architecture.patch == 1
        else factor * (architecture.patch or int(denoiser.get("patch_size", 2)))
    )
    size = architecture.size or _side(denoiser.get("sample_size")) * factor
    settings = Settings(
        guidance_scale=architecture.scale + architecture.offset if kind == "true" else 1.0,
        distilled_guidance_scale=architecture.scale if kind == "embedded" else None,
        num_inference_steps=architecture.few_steps if kind == "none" else architecture.steps,
        height=size,
        width=size,
    )
    present = components(folder)
    readers = tuple(
        replace(reader, limit=reader.limit or _tokenizer_limit(folder / "tokenizer"))
        for reader in architecture.readers
        if reader.encoder in present
    )
    if architecture.pipeline == "FluxPipeline" and kind == "none":
        # schnell was trained on 256 tokens of T5, and its authors' code gives it no more
        readers = tuple(replace(reader, limit=min(reader.limit or 256, 256)) for reader in readers)
    return Capability(
        architecture,
        argument,
        kind,
        mixes,
        bool(index.get("force_zeros_for_empty_prompt", True)) if "XL" in architecture.pipeline else False,
        readers,
        settings,
        multiple,
        int(vae.get("latent_channels") or vae.get("z_dim") or 4),
        factor,
    )


def _guidance(
    architecture: Architecture, folder: Path, index: dict[str, Any], denoiser: dict[str, Any]
) -> tuple[GuidanceKind, str, bool]:
    """The kind of guidance, its argument, and whether rows of a batch can differ in it."""
    embeds = denoiser.get("guidance_embeds")
    match architecture.pipeline:
        case "StableDiffusionPipeline" | "StableDiffusionXLPipeline":
            # These compute the embedding of one number for the whole batch.
            return (
                ("embedded", architecture.guidance, False)
                if denoiser.get("time_cond_proj_dim")
                else _true(architecture)
            )
        case "FluxPipeline":
            return ("embedded" if embeds else "none"), architecture.guidance, True
        case "Flux2Pipeline":
            return ("none" if embeds is False else "embedded"), architecture.guidance, True
        case "Flux2KleinPipeline":
            return ("none", architecture.guidance, True) if index.get("is_distilled") else _true(architecture)
        case "QwenImagePipeline":
            return ("embedded", "guidance_scale", True) if embeds else _true(architecture)
        case "ZImagePipeline":
            shift = read_json(folder / "scheduler" / "scheduler_config.json").get("shift", 1.0)
            return _true(architecture) if shift >= Z_IMAGE_BASE_SHIFT else ("none", architecture.guidance, True)
    return _true(architecture)


def _true(architecture: Architecture) -> tuple[GuidanceKind, str, bool]:
    return "true", architecture.guidance, True


def _factor(folder: Path, vae: dict[str, Any]) -> int:
    if isinstance(halvings := vae.get("temperal_downsample"), list):
        return int(2 ** len(halvings))
    if isinstance(blocks := vae.get("block_out_channels"), list) and blocks:
        return int(2 ** (len(blocks) - 1))
    raise ModelError(f"{folder / 'vae' / 'config.json'} does not say how far it scales down; get the model again")


def _side(size: Any) -> int:
    return int(size[0] if isinstance(size, list) else size or 64)


def _tokenizer_limit(tokenizer: Path) -> int:
    """`model_max_length` of a tokenizer, else 77. Tokenizers without a limit write 1e30, which does not count."""
    config = tokenizer / "tokenizer_config.json"
    limit = read_json(config).get("model_max_length") if config.is_file() else None
    return int(limit) if isinstance(limit, int | float) and 0 < limit < 1e6 else 77


def open_reader(folder: Path, reader: Reader) -> tuple[Tokens, int]:
    """A reader's tokenizer, with its pipeline's frame around prompts, and how many tokens the reader takes."""
    path = folder / reader.tokenizer
    before, after = reader.frame if reader.chat is None else chat_frame(path, reader.chat, reader.system)
    return open_tokens(path, before, after), (reader.limit or 77) + reader.dropped


def defaults_of(model: str) -> Settings:
    """A model's default settings; for the miniatures, promptlab's. Raises ModelError."""
    return Settings() if model in MINIATURES else capability(resolve(model)[0]).settings


_PROMPT = "\u2402prompt\u2403"
"""Stands for the prompt while the template is rendered; no template contains it."""


def chat_frame(folder: Path, options: Iterable[tuple[str, bool]] = (), system: str | None = None) -> tuple[str, str]:
    """The text before and after a prompt in the chat template of a tokenizer's folder.

    Args:
        options: variables of the template, such as ("add_generation_prompt", True).
        system: a system message. With one, messages hold lists of parts, as processors of several modes write them.

    Raises ModelError if there is no template, or it does not show the prompt exactly once.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source, names = _template(folder)
    if source is None:
        raise ModelError(f"{folder} has no chat template (chat_template.jinja); get the model again")
    if system is None:
        messages: list[dict[str, Any]] = [{"role": "user", "content": _PROMPT}]
    else:
        texts = (("system", system), ("user", _PROMPT))
        messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in texts]
    room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    room.globals["raise_exception"] = _refuse
    room.globals["strftime_now"] = datetime.now().strftime
    try:
        text = room.from_string(source).render(messages=messages, **names, **dict(options))
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"the chat template of {folder} cannot be rendered ({error}); get the model again") from None
    before, prompt, after = text.partition(_PROMPT)
    if not prompt or _PROMPT in after:
        raise ModelError(f"the chat template of {folder} does not show the prompt once; get the model again")
    return before, after


def _refuse(message: str) -> None:
    raise ValueError(message)


def _template(folder: Path) -> tuple[str | None, dict[str, str]]:
    """The chat template of a folder, if it has one, and the special tokens that it may name."""
    try:
        config = folder / "tokenizer_config.json"
        settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        source: Any = settings.get("chat_template")
        file = folder / "chat_template.jinja"
        older = folder / "chat_template.json"
        if file.is_file():
            source = file.read_text(encoding="utf-8")
        elif older.is_file():
            source = json.loads(older.read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"the chat template of {folder} cannot be read ({error}); get the model again") from error
    names: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(name)
        names[name] = value.get("content", "") if isinstance(value, dict) else value or ""
    return source if isinstance(source, str) else None, names


GPU_SPEED, CORE_SPEED = 400e12, 0.05e12
BYTES_GPU, BYTES_CPU = 2, 4
CARD = 80e9
"""Memory in bytes of the card that estimates assume."""


@dataclass(frozen=True)
class Estimate:
    """Seconds for all images, bytes of weights in the device's memory at once, and the device in words."""

    seconds: float
    memory: float
    device: str


def estimate(model: str, pictures: Iterable[Settings]) -> Estimate:
    """Estimate roughly what one image of each of these settings takes. Raises ModelError if weights are missing."""
    folder = resolve(model)[0]
    able = capability(folder)
    denoiser = parameters(folder / able.architecture.denoiser)
    work = sum(denoising_flop(able, denoiser, settings) for settings in pictures)
    encoders = sum(parameters(folder / reader.encoder) for reader in able.readers)
    body = denoiser + parameters(folder / "vae")
    if _gpu():
        # Text encoders that would take much of the card wait in main memory (`promptlab.generator.models.loading`).
        apart = BYTES_GPU * encoders > ENCODER_SHARE * CARD
        weights = max(body, encoders) if apart else body + encoders
        return Estimate(work / GPU_SPEED, BYTES_GPU * weights, "one NVIDIA card like an H100")
    cores = os.cpu_count() or 1
    return Estimate(work / (CORE_SPEED * cores), BYTES_CPU * (body + encoders), f"{cores} CPU cores")


def _gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


RAGGED_TOKENS = 64
"""Text tokens of a usual prompt, for a model that reads no padding."""


def denoising_flop(able: Capability, size: int, settings: Settings) -> float:
    """FLOP to denoise one image with a denoiser of `size` parameters."""
    area = settings.height * settings.width / able.factor**2
    if able.architecture.denoiser == "unet":
        step = 0.2 * size * area
    else:
        text = RAGGED_TOKENS if able.architecture.ragged else sum(reader.limit or 77 for reader in able.readers[-1:])
        step = 1.4 * size * (area / 4 + text)
    passes = 2 if able.guidance_kind == "true" and settings.guidance_scale not in (0.0, 1.0) else 1
    return step * settings.num_inference_steps * passes
