"""The scene parser: which things an image shows, in which colours, and where; and how it is taught.

A small convolutional network names every 4x4 block of a 128x128 image: one of the 14 nouns, "unknown" (a shape that is
no noun: a blob, or two nouns fused) or background; and one of the ten colours. Connected blocks of one noun are a
`Found` thing. It learns from rendered scenes alone, as they are and blurred, burnt, noisy or decoded from noisy
latents, with held-out pairs as often as others. So it judges images of any quality; `promptlab passport` measures how
well.

Ours; the design (parse, then decide the outcome by rule) follows Wang et al. 2026 (arXiv 2601.06338).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import ModelError
from promptlab.miniature.train.data import CELLS, LABELS, Pool
from promptlab.miniature.train.loop import Fit, Report, autocast, device, fit, step_rng
from promptlab.miniature.world import CANVAS, COLOURS

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Found", "build_parser", "group_blocks", "load_parser", "parse", "train_parser"]

ROWS = 8
"""Pictures of every call, the last call padded: what is read in a picture does not depend on its company."""
MIN_CELLS = 9
"""Smaller groups of blocks are no thing (9 blocks: 12x12 pixels)."""

COLOUR_NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Found:
    """A thing in a picture: noun (or "unknown"), colour, certainty of each (0..1), box in pixels, canvas share."""

    noun: str
    colour: str
    noun_certainty: float
    colour_certainty: float
    box: tuple[int, int, int, int]
    area: float
    mask: np.ndarray
    """Blocks that belong to it, bool (32, 32)."""


def build_parser(width: int) -> nn.Module:
    """An untrained parser: (n, 3, 128, 128) in -1..1 to logits (n, 16 + 10, 32, 32)."""
    import torch
    from torch import nn

    def block(i: int, o: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
        conv = nn.Conv2d(i, o, 3, stride, dilation, dilation, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(o), nn.SiLU())

    class Parser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            w = width
            self.stem = nn.Sequential(block(3, w, 2), block(w, 2 * w, 2), block(2 * w, 2 * w))
            self.down = nn.Sequential(block(2 * w, 3 * w, 2), block(3 * w, 3 * w), block(3 * w, 3 * w))
            self.deep = nn.Sequential(
                block(3 * w, 4 * w, 2), block(4 * w, 4 * w), block(4 * w, 4 * w), block(4 * w, 4 * w)
            )
            self.up1 = block(7 * w, 3 * w)
            self.up2 = block(5 * w, 3 * w)
            self.head = nn.Conv2d(3 * w, 1 + len(LABELS) + len(COLOURS), 1)

        def forward(self, x: Tensor) -> Tensor:
            a = self.stem(x)
            b = self.down(a)
            c = self.deep(b)
            up = torch.nn.functional.interpolate
            b = self.up1(torch.cat([b, up(c, scale_factor=2.0)], 1))
            a = self.up2(torch.cat([a, up(b, scale_factor=2.0)], 1))
            return self.head(a)  # type: ignore[no-any-return]

    return Parser()


@cache
def load_parser(folder: Path) -> Any:
    """The trained parser in `folder`, in evaluation mode on the CPU. Raises ModelError when missing or damaged."""
    from safetensors import safe_open

    path = folder / "model.safetensors"
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
            width = int(file.metadata()["width"])
        model = build_parser(width)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except Exception as error:
        raise ModelError(f"cannot load the scene parser from {path}: {str(error).splitlines()[0]}") from error
    return model.eval()


def parse(images: np.ndarray, parser: Any) -> list[tuple[Found, ...]]:
    """The things in each picture, from left to right.

    Args:
        images: uint8 (n, 128, 128, 3), 0..255.
        parser: from `load_parser`.

    Raises:
        ValueError: the pictures have another size or type.
    """
    import torch

    if images.dtype != np.uint8 or images.shape[1:] != (CANVAS, CANVAS, 3):
        raise ValueError(f"the scene parser reads uint8 (n, {CANVAS}, {CANVAS}, 3), got {images.dtype} {images.shape}")
    out: list[tuple[Found, ...]] = []
    where = next(parser.parameters()).device
    with torch.no_grad():
        for start in range(0, len(images), ROWS):
            some = images[start : start + ROWS]
            batch = torch.tensor(np.concatenate([some, some[-1:].repeat(ROWS - len(some), 0)]), device=where)
            logits = parser(batch.permute(0, 3, 1, 2).float() / 127.5 - 1)[: len(some)].float()
            nouns = logits[:, : 1 + len(LABELS)].softmax(1).cpu().numpy()
            colours = logits[:, 1 + len(LABELS) :].softmax(1).cpu().numpy()
            out += [group_blocks(n, c) for n, c in zip(nouns, colours, strict=True)]
    return out


def group_blocks(nouns: np.ndarray, colours: np.ndarray) -> tuple[Found, ...]:
    """Connected groups of blocks as things. `nouns` (16, 32, 32) and `colours` (10, 32, 32) are probabilities.

    A group is every connected set of blocks that are not background; blocks of the most likely noun stay together, and
    a second noun in the same group is a thing of its own when it has MIN_CELLS blocks and a quarter of the group.
    """
    from scipy.ndimage import label

    winner = nouns.argmax(0)
    found: list[Found] = []
    groups, count = label(winner > 0)
    for g in range(1, count + 1):
        group = groups == g
        size = int(group.sum())
        if size < MIN_CELLS:
            continue
        kinds = np.bincount(winner[group], minlength=len(nouns))
        big = [k for k in np.argsort(-kinds) if kinds[k] >= MIN_CELLS and kinds[k] >= size / 4]
        if not big:
            continue
        for k in big:
            # the crumbs of a group go to its largest thing
            mask = group & ((winner == k) | ((k == big[0]) & ~np.isin(winner, big)))
            tint = colours[:, mask].mean(1)
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            block = CANVAS // CELLS
            found.append(
                Found(
                    LABELS[k - 1],
                    COLOUR_NAMES[int(tint.argmax())],
                    float(nouns[k][mask].mean()),
                    float(tint.max()),
                    (
                        int(cols[0]) * block,
                        int(rows[0]) * block,
                        (int(cols[-1]) + 1) * block,
                        (int(rows[-1]) + 1) * block,
                    ),
                    float(mask.mean()),
                    mask,
                )
            )
    return tuple(sorted(found, key=lambda f: f.box[0] + f.box[2]))


def _worn(x: Tensor, vae: Any, rng: np.random.Generator) -> Tensor:
    """A batch in -1..1 as a generator might have made it. Half is left as it is."""
    import torch
    from torchvision.transforms.v2 import functional

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
            middle = functional.gaussian_blur(middle, [7, 7], [float(rng.uniform(0.5, 2.0))])
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

    from promptlab.miniature.train.networks import to_unit

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
