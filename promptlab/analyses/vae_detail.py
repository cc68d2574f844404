"""What the autoencoder keeps of bars, by their width: the contrast of a striped picture after encoding and decoding.

    kept(b) = (mean of bright bars - mean of dark bars) after / the same before, of bars b pixels wide

1 is all of it, 0 a grey field. One unit is one pair of colours in one orientation; its number is kept(2) - kept(8).
Ours; that autoencoders limit small print and fine structure, Rombach et al. 2022 (arXiv 2112.10752), appendix.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from promptlab.analyses import Analysis, Finding, hash_of
from promptlab.miniature.shipped import shipped_folder
from promptlab.miniature.world import COLOURS
from promptlab.store import Store

__all__ = ["bars", "kept", "load", "rests_on", "round_trip"]

WIDTHS = (1, 2, 4, 8, 16)
FINE, COARSE = 2, 8


def load() -> Analysis:
    """The analysis of the miniature's autoencoder."""
    return _measure


def rests_on() -> str:
    """Hash of this file and of the autoencoder."""
    return hash_of(Path(__file__), shipped_folder() / "pipeline" / "vae")


def bars(width: int, first: np.ndarray, second: np.ndarray, upright: bool, side: int = 128) -> np.ndarray:
    """Stripes of two colours (3,), float (side, side, 3)."""
    which = (np.arange(side) // width % 2).astype(bool)
    row = np.where(which[:, None], second, first)
    return np.broadcast_to(row[None] if upright else row[:, None], (side, side, 3)).astype(np.float64)


def kept(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the contrast along `before` that `after` still has: the slope of after on before, both centred."""
    a, b = before - before.mean((0, 1)), after - after.mean((0, 1))
    return float((a * b).sum() / (a * a).sum())


def round_trip() -> tuple[list[str], dict[int, list[float]]]:
    """Names of the units, and what each keeps of its contrast by width of bars, 1 where all."""
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(shipped_folder() / "pipeline" / "vae", dtype=torch.float32).eval()
    names = list(COLOURS)
    colours = {name: np.array(COLOURS[name], np.float64) for name in names}
    units = [(a, b, upright) for i, a in enumerate(names) for b in names[i + 1 :: 3] for upright in (True, False)]
    curve: dict[int, list[float]] = {width: [] for width in WIDTHS}
    for width in WIDTHS:
        drawn = np.stack([bars(width, colours[a], colours[b], upright) for a, b, upright in units])
        with torch.no_grad():
            x = torch.tensor(drawn, dtype=torch.float32).permute(0, 3, 1, 2) / 127.5 - 1
            y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        back = ((y + 1) * 127.5).permute(0, 2, 3, 1).double().numpy()
        curve[width] = [kept(one, two) for one, two in zip(drawn, back, strict=True)]
    return [f"{a} and {b}, {'upright' if upright else 'level'}" for a, b, upright in units], curve


def _measure(_: Store) -> Finding:
    units, curve = round_trip()
    values = {unit: fine - coarse for unit, fine, coarse in zip(units, curve[FINE], curve[COARSE], strict=True)}
    detail = {"kept_by_bar_width": {str(width): round(float(np.mean(k)), 4) for width, k in curve.items()}}
    return Finding(
        f"contrast kept of bars {FINE} pixels wide, less that of {COARSE}",
        values,
        "colour pair",
        None,
        detail,
        tier="T1",
    )
