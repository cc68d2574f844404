"""How wide the text encoder's states are, read from its config.

The claim speaks of CLIP ViT-L/14, as Stable Diffusion 1 has it.

The miniature has an encoder of the same kind that is narrower, so it can neither support nor contradict the claim.
"""

from __future__ import annotations

import json

from promptlab.claims.analyses import Analysis, Finding
from promptlab.resources import shipped_folder
from promptlab.store import Store

__all__ = ["load"]


def load() -> Analysis:
    """The analysis of the miniature's text encoder."""
    return _measure


def _measure(_: Store) -> Finding:
    config = json.loads((shipped_folder() / "pipeline" / "text_encoder" / "config.json").read_text("utf-8"))
    width = config["hidden_size"]
    reason = f"the miniature's text encoder is {width} wide; the claim speaks of ViT-L/14 in Stable Diffusion 1"
    return Finding("width of the text states", {}, "model", reason, {"width": width, "claimed": 768}, tier="T1")
