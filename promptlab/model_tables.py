"""A model's parts before any picture, as frames: its text encoder's geometry, its autoencoder's detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from promptlab.errors import PromptlabError, nearest
from promptlab.text_grids import GRIDS, Report, encoder, measure_grid

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["geometry", "reports", "vae_detail"]


def reports(
    model: str = "miniature",
    grids: Sequence[str] | None = None,
    checkpoint: str | None = None,
    permutations: int = 999,
) -> list[Report]:
    """The geometry of each grid, of pooled states and, where there are such, of the noun's own; grids by the model.

    Raises PromptlabError for a grid that is not in `promptlab.text_grids.GRIDS`, ModelError for a model not here.
    """
    names = grids or (("colours", "poses") if model.startswith("miniature") else ("colours", "verbs"))
    for name in names:
        if name not in GRIDS:
            raise PromptlabError(f"no grid is called {name!r}: choose from {', '.join(GRIDS)}{nearest(name, GRIDS)}")
    kinds = ("pooled", "noun") if encoder(model, checkpoint).at_noun else ("pooled",)
    return [
        measure_grid(model, name, at, checkpoint=checkpoint, permutations=permutations)  # type: ignore[arg-type]
        for name in names
        for at in kinds
    ]


def geometry(
    model: str = "miniature",
    grids: Sequence[str] | None = None,
    checkpoint: str | None = None,
    permutations: int = 999,
) -> pd.DataFrame:
    """One row a grid and kind of state: model, grid, at (pooled or noun), then the fields of `promptlab.geometry`.

    The shares of variance (0..1, adding up to 1) are variance_noun, variance_word, variance_frame, variance_noun_word,
    variance_rest, with p and permutations. See `reports` for what it raises.
    """
    import pandas as pd

    rows = []
    for one in reports(model, grids, checkpoint, permutations):
        fields = asdict(one.geometry)
        parts = fields.pop("partition")
        told = {k if k in ("p", "permutations") else f"variance_{k}": v for k, v in parts.items()}
        rows.append({"model": one.model, "grid": one.grid, "at": one.at, **told, **fields})
    return pd.DataFrame(rows)


def vae_detail() -> pd.DataFrame:
    """What the miniature's autoencoder keeps of bars' contrast, by their width in pixels: see its analysis.

    Columns: bar_width, kept (1 is all, 0 a grey field), low, high (95 %, over colour pairs), n (pairs of colours, each
    in two orientations), tier.
    """
    import pandas as pd

    from promptlab.analyses.vae_detail import round_trip
    from promptlab.stats import mean_interval

    units, curve = round_trip()
    pairs = [unit.rsplit(", ", 1)[0] for unit in units]
    rows = []
    for width, kept in curve.items():
        found = mean_interval(kept, pairs, rng=np.random.default_rng(0))
        rows.append((width, found.estimate, found.low, found.high, found.n_groups, "T1"))
    return pd.DataFrame(rows, columns=["bar_width", "kept", "low", "high", "n", "tier"])
