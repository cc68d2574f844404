"""A picture of the store traced again, and means over two axes: what pages show of a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptlab.errors import UntraceableError
from promptlab.generator.backends import Job
from promptlab.generator.backends.diffusion import load
from promptlab.records import Cell, Prompt, Settings
from promptlab.results import tables
from promptlab.run.plan import token_limits
from promptlab.run.tracing import cell_of, retrace
from promptlab.store import Store
from promptlab.store.pictures import pixels_hash

SETTINGS = Settings(guidance_scale=4.0, num_inference_steps=3, height=16, width=32)


def recipe(model: str, text: str) -> dict[str, Any]:
    return Cell("mine", (("a", 1),), Prompt(text), SETTINGS, "g", model=model).recipe(5)


def test_the_same_picture_is_made_again_and_another_is_told(family_folder: Callable[[str], Path]) -> None:
    model = str(family_folder("sd"))
    stored = recipe(model, "a red cup")
    cell, seed = cell_of(stored)
    assert cell.recipe(seed) == stored, "the cell is that of the recipe"
    backend = load(model, batch_size=3)
    (made,) = backend.generate([Job.of(cell, seed)])
    assert made.pixels is not None
    found, same = retrace(stored, pixels_hash(made.pixels), made.batch_size)
    assert same and np.array_equal(found.picture, made.pixels)
    assert found.words == ("red", "cup") and found.maps.shape == (4, 2, 8, 16)
    assert not retrace({**stored, "seed": 6}, pixels_hash(made.pixels), made.batch_size)[1]


def test_it_is_made_again_in_its_precision(family_folder: Callable[[str], Path]) -> None:
    model = str(family_folder("sd"))
    (made,) = load(model, 3, "bfloat16").generate([Job.of(*cell_of(recipe(model, "a red cup")))])
    assert made.pixels is not None
    wanted = recipe(model, "a red cup"), pixels_hash(made.pixels), 3
    assert retrace(*wanted, "bfloat16")[1] and not retrace(*wanted, "float32")[1]


def test_words_that_are_cut_off_have_no_map(family_folder: Callable[[str], Path]) -> None:
    found, _ = retrace(recipe(str(family_folder("sd")), "a red cup" + " of the" * 60 + " chair"), None, 1)
    assert found.words == ("red", "cup")


@pytest.mark.parametrize(("backend", "why"), [("renderer", "drawn by the renderer"), ("folder", "made elsewhere")])
def test_a_picture_that_no_model_made_says_so(backend: str, why: str) -> None:
    with pytest.raises(UntraceableError, match=why):
        retrace({**recipe("miniature", "a red cup"), "backend": backend}, None)


def test_each_encoder_has_its_limit(family_folder: Callable[[str], Path]) -> None:
    assert token_limits(str(family_folder("sd"))) == {"CLIP": 77}
    assert sorted(token_limits(str(family_folder("flux-dev"))).values())[0] == 77
    assert len(token_limits(str(family_folder("flux-dev")))) == 2


def test_means_over_two_axes_are_those_of_pandas(shown: Path) -> None:
    store = Store(shown)
    found = tables.crossed_means(store, "longer", "mean_luma", "details", "details_arm")
    rows = store.query("SELECT levels, value FROM scored WHERE study = 'longer' AND measure = 'mean_luma'")
    rows["level"] = [levels["details"] for levels in rows["levels"]]
    rows["part"] = [levels["details_arm"] for levels in rows["levels"]]
    slow = rows.groupby(["part", "level"])["value"].agg(["mean", "size"])
    assert len(found) == len(slow) > 3
    for row in found.itertuples():
        assert row.mean == pytest.approx(slow.loc[(row.part, row.level), "mean"])
        assert row.n == slow.loc[(row.part, row.level), "size"] and row.low <= row.mean <= row.high
    assert not len(tables.crossed_means(store, "longer", "mean_luma", "details", "no_such_axis"))
