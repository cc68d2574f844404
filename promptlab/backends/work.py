"""Arithmetic of a picture's denoising, from parameters and settings alone: good to a factor of 1.6.

    FLOP a row and step    transformer: 1.4 P (image tokens + text tokens)       P parameters of the denoiser
                           U-Net:       0.2 P (pixels of the latents)

The factors are fitted to counts of SD 1.5 (0.80 TFLOP at 512 px), SDXL (6.8 at 1024), SD3.5-L (31), FLUX.1-dev (74) and
FLUX.2-dev (283), which they meet within 1.6.

References:
    Kaplan et al. 2020, Scaling Laws for Neural Language Models (arXiv 2001.08361): 2 FLOP a parameter and token.
"""

from __future__ import annotations

from promptlab.backends.capabilities import Capability
from promptlab.records import Settings

__all__ = ["denoising_flop"]

RAGGED_TOKENS = 64
"""Text tokens of a usual prompt, where the model reads no more than it is given."""


def denoising_flop(able: Capability, size: int, settings: Settings) -> float:
    """FLOP of one picture's denoising by a model of `size` parameters."""
    area = settings.height * settings.width / able.factor**2
    if able.family.denoiser == "unet":
        step = 0.2 * size * area
    else:
        text = RAGGED_TOKENS if able.family.ragged else sum(reader.limit or 77 for reader in able.readers[-1:])
        step = 1.4 * size * (area / 4 + text)
    passes = 2 if able.guidance_kind == "true" and settings.guidance_scale not in (0.0, 1.0) else 1
    return step * settings.num_inference_steps * passes
