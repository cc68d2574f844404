"""Teaching the scene parser: rendered truth, as it is and blurred, burnt, noisy or decoded from noisy latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.miniature.loop import Fit, Report, autocast, device, fit, step_rng
from promptlab.miniature.parser import build_parser
from promptlab.miniature.pool import LABELS, Pool
from promptlab.miniature.vae import to_unit

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["train_parser"]


def _worn(x: Tensor, vae: Any, rng: np.random.Generator) -> Tensor:
    """A batch in -1..1 as a generator might have made it. Half is left as it is."""
    import torch
    from torchvision.transforms.v2 import functional as F

    n = len(x)
    k = n // 6
    if k:  # decoded from noisy latents: soft, slightly wrong shapes
        with torch.no_grad():
            z = vae.encode(x[:k]).latent_dist.mean
            sigma = torch.from_numpy(rng.uniform(0, 0.45, (k, 1, 1, 1)).astype(np.float32)).to(x.device)
            noise = torch.from_numpy(rng.standard_normal(tuple(z.shape), np.float32)).to(x.device)
            y = vae.decode(z + sigma * noise / vae.config.scaling_factor).sample.float().clamp(-1, 1)
        j = k + n // 3
        middle = x[k:j]
        kind = rng.integers(3)
        if kind == 0:
            middle = F.gaussian_blur(middle, [7, 7], [float(rng.uniform(0.5, 2.0))])
        elif kind == 1:  # burnt: contrast and colour beyond the range
            gain = float(rng.uniform(1.1, 2.2))
            grey = middle.mean(1, keepdim=True)
            middle = (grey + gain * (middle - grey)) * float(rng.uniform(1.0, 1.4))
        else:
            noise = torch.from_numpy(rng.standard_normal(tuple(middle.shape), np.float32)).to(x.device)
            middle = middle + float(rng.uniform(0.02, 0.2)) * noise
        x = torch.cat([y, middle.clamp(-1, 1), x[j:]])
    return x


def train_parser(pool: Pool, vae: Any, width: int, plan: Fit, seed: int, work: Path, report: Report) -> Any:
    """Train a parser on a pool drawn with `kind="parser"`. Returns it in evaluation mode."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    model = build_parser(width).to(device()).to(memory_format=torch.channels_last)

    def loss_of(step: int) -> Tensor:
        rng = step_rng(seed, step)
        rows = np.sort(rng.choice(len(pool), plan.batch, replace=False))
        order = rng.permutation(plan.batch)
        x = _worn(to_unit(pool.pixels[rows][order]), vae, rng)
        labels = torch.from_numpy(pool.labels[rows][order].astype(np.int64)).to(x.device)
        logits = model(x).float()
        each = cross_entropy(logits[:, : 1 + len(LABELS)], labels[:, 0], reduction="none")
        things = labels[:, 0] > 0  # a seventh of the blocks, and all of the question
        nouns = each.mean() + each[things].mean()
        # colour 0 means none; only blocks of a thing teach colour
        colours = cross_entropy(logits[:, 1 + len(LABELS) :], labels[:, 1] - 1, ignore_index=-1)
        return nouns + colours

    fit("parser", model, loss_of, plan, work, report)
    # The moving average moves the weights; the batch statistics must follow them.
    if plan.ema:
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        with torch.no_grad(), autocast():
            for step in range(60):
                rng = step_rng(seed + 1, step)
                rows = np.sort(rng.choice(len(pool), plan.batch, replace=False))
                model(_worn(to_unit(pool.pixels[rows]), vae, rng))
    return model.eval()
