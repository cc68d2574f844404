"""Frames of a model's parts: the numbers of the command and of the claim, and columns that say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.claims.analyses import ANALYSES
from promptlab.errors import PromptlabError
from promptlab.results import Results, model_parts
from promptlab.results.model_parts import measure_grid
from promptlab.store import Store


def test_geometry_is_that_of_the_grid(tmp_path: Path) -> None:
    rows = Results(Store(tmp_path)).geometry(grids=["poses"])
    assert rows["at"].tolist() == ["pooled", "noun"] and set(rows["model"]) == {"miniature"}
    own = measure_grid("miniature", "poses").geometry
    assert rows.loc[0, "variance_word"] == own.partition.word and rows.loc[0, "probe"] == own.probe
    shares = rows[[f"variance_{name}" for name in ("noun", "word", "frame", "noun_word", "rest")]].sum(axis=1)
    assert shares.tolist() == pytest.approx([1, 1])
    with pytest.raises(PromptlabError, match="did you mean 'poses'"):
        Results(Store(tmp_path)).geometry(grids=["pose"])


def test_detail_is_that_of_the_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {name: model_parts.COLOURS[name] for name in ("red", "blue", "green", "white", "black")}
    monkeypatch.setattr(model_parts, "COLOURS", some)
    monkeypatch.setattr(model_parts, "BAR_WIDTHS", (2, 8))
    rows = Results(Store(tmp_path)).vae_detail().set_index("bar_width")
    claim = ANALYSES["vae_detail"].measure(Store(tmp_path))
    assert rows["kept"].round(4).tolist() == list(claim.detail["kept_by_bar_width"].values())
    assert rows.loc[8, "kept"] - rows.loc[2, "kept"] == pytest.approx(-sum(claim.values.values()) / len(claim.values))
    assert (rows["low"] < rows["kept"]).all() and (rows["kept"] < rows["high"]).all() and set(rows["tier"]) == {"T1"}
    assert 2 * rows.loc[2, "n"] == len(claim.values)
