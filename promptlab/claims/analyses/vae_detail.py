"""What the autoencoder keeps of bars, by their width: the contrast of a striped picture after encoding and decoding.

    kept(b) = (mean of bright bars - mean of dark bars) after / the same before, of bars b pixels wide

1 is all of it, 0 a grey field. One unit is one pair of colours in one orientation; its number is kept(2) - kept(8).
Ours; that autoencoders limit small print and fine structure, Rombach et al. 2022 (arXiv 2112.10752), appendix.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from promptlab.claims.analyses import Analysis, Finding, hash_of
from promptlab.resources import shipped_folder
from promptlab.results.model_parts import round_trip
from promptlab.store import Store

__all__ = ["load", "rests_on"]

FINE, COARSE = 2, 8


def load() -> Analysis:
    """The analysis of the miniature's autoencoder."""
    return _measure


def rests_on() -> str:
    """Hash of this file and of the autoencoder."""
    return hash_of(Path(__file__), shipped_folder() / "pipeline" / "vae")


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
