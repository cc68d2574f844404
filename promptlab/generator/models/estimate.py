"""What a run would roughly take on a model that has not been timed here: arithmetic, good to a factor of two or three.

    FLOP a picture         `promptlab.generator.models.estimate`
    seconds                FLOP a picture / speed

Speed is 400 TFLOP/s where there is an NVIDIA card (what good bfloat16 code reaches on an H100), else 0.05 TFLOP/s a CPU
core. Memory is that of the weights alone.

Arithmetic of a picture's denoising, from parameters and settings alone: good to a factor of 1.6.

    FLOP a row and step    transformer: 1.4 P (image tokens + text tokens)       P parameters of the denoiser
                           U-Net:       0.2 P (pixels of the latents)

The factors are fitted to counts of SD 1.5 (0.80 TFLOP at 512 px), SDXL (6.8 at 1024), SD3.5-L (31), FLUX.1-dev (74) and
FLUX.2-dev (283), which they meet within 1.6.

References:
    Kaplan et al. 2020, Scaling Laws for Neural Language Models (arXiv 2001.08361): 2 FLOP a parameter and token.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from promptlab.checkpoints.files import parameters, resolve
from promptlab.generator.models.capabilities import Capability, capability
from promptlab.generator.models.loading import SHARE
from promptlab.records import Settings

__all__ = ["Estimate", "denoising_flop", "estimate"]

GPU_SPEED, CORE_SPEED = 400e12, 0.05e12
BYTES_GPU, BYTES_CPU = 2, 4
CARD = 80e9
"""Bytes of memory of the card that is meant."""


@dataclass(frozen=True)
class Estimate:
    """Seconds for all pictures, bytes of weights at once in the memory of the device, and the device in words."""

    seconds: float
    memory: float
    device: str


def estimate(model: str, pictures: Iterable[Settings]) -> Estimate:
    """A rough estimate for pictures of these settings, one each. Raises ModelError where weights are missing."""
    folder = resolve(model)[0]
    able = capability(folder)
    denoiser = parameters(folder / able.architecture.denoiser)
    work = sum(denoising_flop(able, denoiser, settings) for settings in pictures)
    encoders = sum(parameters(folder / reader.encoder) for reader in able.readers)
    body = denoiser + parameters(folder / "vae")
    if _gpu():
        # Text encoders that would take much room wait elsewhere (`promptlab.generator.models.loading`).
        apart = BYTES_GPU * encoders > SHARE * CARD
        weights = max(body, encoders) if apart else body + encoders
        return Estimate(work / GPU_SPEED, BYTES_GPU * weights, "one NVIDIA card like an H100")
    cores = os.cpu_count() or 1
    return Estimate(work / (CORE_SPEED * cores), BYTES_CPU * (body + encoders), f"{cores} CPU cores")


def _gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


RAGGED_TOKENS = 64
"""Text tokens of a usual prompt, where the model reads no more than it is given."""


def denoising_flop(able: Capability, size: int, settings: Settings) -> float:
    """FLOP of one picture's denoising by a model of `size` parameters."""
    area = settings.height * settings.width / able.factor**2
    if able.architecture.denoiser == "unet":
        step = 0.2 * size * area
    else:
        text = RAGGED_TOKENS if able.architecture.ragged else sum(reader.limit or 77 for reader in able.readers[-1:])
        step = 1.4 * size * (area / 4 + text)
    passes = 2 if able.guidance_kind == "true" and settings.guidance_scale not in (0.0, 1.0) else 1
    return step * settings.num_inference_steps * passes
