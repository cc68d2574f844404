"""The autoencoder: diffusers' `AutoencoderKL`, f8, four latent channels: 128x128x3 to 16x16x4, 48 times fewer numbers.

Loss: SQUARED x squared error (colours) + ABSOLUTE x absolute error + GRADIENT x absolute error of horizontal and
vertical differences (keeps edges crisp; no network of pretrained features is needed) + KL x divergence from the unit
normal. Two things save hours of a CPU: the first 40 % of the steps sees pictures at half size, twice as many; and as
long, ANCHOR x squared error ties three latent channels to the picture's own colours, eight times smaller (else the
network takes thousands of steps to find out that colour is worth sending). Later the latents are free.

The decoder alone can be trained further (`decoder_only = true`): it draws sharper, and the latents, and with them a
denoiser that has learned to make them, stay as they are.

References:
    Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models (arXiv 2112.10752).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.miniature.train.data import Pool
from promptlab.miniature.train.loop import Fit, Report, autocast, device, fit, step_rng

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["build_vae", "encode_pool", "train_vae"]

SQUARED = 2.0
ABSOLUTE = 0.5
GRADIENT = 0.5
KL = 1e-6
ANCHOR = 1.0
EARLY = 0.4


def build_vae(channels: tuple[int, ...]) -> Any:
    """An untrained AutoencoderKL with `channels` per resolution (four of them: f8)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
    )


def to_unit(pixels: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) in 0..255 to float (n, 3, h, w) in -1..1, channels last in memory."""
    import torch

    return torch.tensor(pixels, device=device()).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(
    pool: Pool,
    channels: tuple[int, ...],
    plan: Fit,
    seed: int,
    work: Path,
    report: Report,
    *,
    decoder_only: bool = False,
) -> Any:
    """Train an autoencoder on the pool. Returns it in evaluation mode, its `scaling_factor` set to 1 / latent std.

    With `decoder_only` the encoder stays as it begins, which only makes sense from a warm start.
    """
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(seed)
    vae = build_vae(channels).to(device(), memory_format=torch.channels_last)
    vae.set_attn_processor(AttnProcessor())  # the fused kernel's backward is many times slower on CPUs in bfloat16
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)

    def loss_of(step: int) -> Tensor:
        rng = step_rng(seed, step)
        early = 0.0 if decoder_only else max(0.0, 1 - step / (EARLY * plan.steps))
        small = early > 0
        rows = rng.choice(len(pool), plan.batch * (2 if small else 1), replace=False)
        x = to_unit(pool.pixels[np.sort(rows)])
        if small:
            x = torch.nn.functional.avg_pool2d(x, 2)
        posterior = vae.encode(x).latent_dist
        noise = torch.from_numpy(rng.standard_normal(tuple(posterior.mean.shape), np.float32)).to(x.device)
        y = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        error = SQUARED * (x - y).square().mean() + ABSOLUTE * (x - y).abs().mean()
        for dim in (2, 3):
            error = error + GRADIENT * (x.diff(dim=dim) - y.diff(dim=dim)).abs().mean()
        if early:
            own = torch.nn.functional.avg_pool2d(x, 8)
            error = error + ANCHOR * early * (posterior.mean[:, :3].float() - own).square().mean()
        loss: Tensor = error + KL * posterior.kl().mean()
        return loss

    fit("vae", vae, loss_of, plan, work, report)
    vae.eval().set_default_attn_processor()
    sample = encode_pool(vae, pool.pixels[:512])[:, :4].astype(np.float64)
    vae.register_to_config(scaling_factor=round(1 / float(sample.std()), 5))
    return vae


def encode_pool(vae: Any, pixels: np.ndarray, report: Report | None = None) -> np.ndarray:
    """Mean and log-variance of every picture's latent, unscaled: float16 (n, 8, 16, 16)."""
    import torch

    out = np.empty((len(pixels), 8, 16, 16), np.float16)
    with torch.no_grad(), autocast():
        for start in range(0, len(pixels), 64):
            posterior = vae.encode(to_unit(pixels[start : start + 64])).latent_dist
            both = torch.cat([posterior.mean, posterior.logvar.clamp(-30, 20)], 1)
            out[start : start + 64] = both.float().cpu().numpy().astype(np.float16)
            if report and start % 6400 == 0:
                report(f"latents: {start}/{len(pixels)}")
    return out
