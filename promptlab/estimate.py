"""What a run would roughly take on a model that has not been timed here: arithmetic, good to a factor of two or three.

    FLOP a picture         `promptlab.backends.work`
    seconds                FLOP a picture / speed

Speed is 400 TFLOP/s where there is an NVIDIA card (what good bfloat16 code reaches on an H100), else 0.05 TFLOP/s a CPU
core. Memory is that of the weights alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from promptlab.backends.capabilities import capability
from promptlab.backends.encoders import SHARE
from promptlab.backends.folders import resolve
from promptlab.backends.weights import parameters
from promptlab.backends.work import denoising_flop
from promptlab.records import Settings

__all__ = ["Estimate", "estimate"]

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
    denoiser = parameters(folder / able.family.denoiser)
    work = sum(denoising_flop(able, denoiser, settings) for settings in pictures)
    encoders = sum(parameters(folder / reader.encoder) for reader in able.readers)
    body = denoiser + parameters(folder / "vae")
    if _gpu():
        # Text encoders that would take much room wait elsewhere (`promptlab.backends.encoders`).
        apart = BYTES_GPU * encoders > SHARE * CARD
        weights = max(body, encoders) if apart else body + encoders
        return Estimate(work / GPU_SPEED, BYTES_GPU * weights, "one NVIDIA card like an H100")
    cores = os.cpu_count() or 1
    return Estimate(work / (CORE_SPEED * cores), BYTES_CPU * (body + encoders), f"{cores} CPU cores")


def _gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
