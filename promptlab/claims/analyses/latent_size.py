"""How many times fewer numbers a latent has than its picture: 3 H W / (C h w), read from the autoencoder's config.

48 for four channels at an eighth of the side, as in Stable Diffusion; 12 with the sixteen channels of SD3 and FLUX.1.
Of numbers, not of bytes: 8-bit pixels against 16-bit latents make it half.
"""

from __future__ import annotations

import json

from promptlab.claims.analyses import Analysis, Finding
from promptlab.resources import shipped_folder
from promptlab.store import Store

__all__ = ["load"]

CLAIMED = 48


def load() -> Analysis:
    """The analysis of the miniature's autoencoder."""
    return _measure


def _measure(_: Store) -> Finding:
    config = json.loads((shipped_folder() / "pipeline" / "vae" / "config.json").read_text("utf-8"))
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    ratio = 3 * factor**2 / config["latent_channels"]
    detail = {"ratio": ratio, "factor": factor, "latent_channels": config["latent_channels"], "claimed": CLAIMED}
    return Finding(
        "numbers of the picture for one of the latent, less 48",
        {"vae": ratio - CLAIMED},
        "model",
        None,
        detail,
        tier="T1",
    )
