"""Order sensitivity: exact distances by hand, a planted order found, orders that change nothing told from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from promptlab.results.findings import findings
from promptlab.results.findings.sensitivity import Encoder, distances, encoder_of, image_rows, sensitivity, vectors
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study

STUDY = """\
name: said
question: Is a change of order more than a change of words?
backend: renderer
prompt:
  template: "{wording} {first} and {second}"
  objects:
    first: {noun: "{a}", colour: red}
    second: {noun: "{b}", colour: blue}
axes:
  pair: {zip: [{a: cup, b: chair}, {a: car, b: hat}, {a: ball, b: lamp}]}
  order: {order: [first, second]}
  wording: {paraphrase: [a photo of, a picture of]}
seeds: 2
probes: [exposure]
"""
ORDERS, WORDINGS = ("first, second", "second, first"), ("a photo of", "a picture of")


def rows_of(prompts: int, seeds: int = 2) -> pd.DataFrame:
    """A picture for each prompt, order, wording and seed, its pixels named after them."""
    made = [
        (f"p{p}", seed, {"order": order, "wording": wording}, f"{p}/{i}/{j}/{seed}")
        for p in range(prompts)
        for i, order in enumerate(ORDERS)
        for j, wording in enumerate(WORDINGS)
        for seed in range(seeds)
    ]
    return pd.DataFrame(made, columns=["prompt_group", "seed", "levels", "pixels"])


def turned(order: float, wording: float, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Vectors on a sphere that the second order turns by one angle, and the second wording by another, at rights."""
    out = {}
    for file in rows["pixels"]:
        _, i, j, _ = (int(part) for part in file.split("/"))
        a, b = order * i, wording * j
        out[file] = np.kron([np.cos(a), np.sin(a)], [np.cos(b), np.sin(b)]).astype(np.float32)
    return out


def found_in(rows: pd.DataFrame, found: dict[str, np.ndarray], seed: int = 0):  # type: ignore[no-untyped-def]
    parts = [distances(rows, found, axis).assign(kind=kind) for kind, axis in KINDS]
    return sensitivity(pd.concat(parts), rng=np.random.default_rng(seed))


KINDS = (("order", "order"), ("paraphrase", "wording"))


def test_planted_angles_come_out() -> None:
    rows = rows_of(4)
    effect = found_in(rows, turned(np.pi / 2, np.pi / 3, rows))
    assert effect.mean_a == pytest.approx(1) and effect.mean_b == pytest.approx(0.5)
    assert effect.estimate == pytest.approx(0.5) and (effect.n_groups, effect.n_pairs) == (4, 8)


def test_an_encoder_without_order_lies_below_the_floor() -> None:
    rows = rows_of(4)
    assert found_in(rows, turned(0, np.pi / 3, rows)).estimate == pytest.approx(-0.5)
    assert found_in(rows, turned(0, 0, rows)).estimate == pytest.approx(0, abs=1e-7)


def test_an_order_that_is_one_more_paraphrase_is_rarely_found() -> None:
    """A/A: every picture is noise of its own, so both distances have one distribution."""
    draw, rejected, estimates = np.random.default_rng(0), 0, []
    rows = rows_of(8, seeds=1)
    for k in range(120):
        noise = draw.normal(size=(len(rows), 16))
        found = dict(zip(rows["pixels"], noise / np.linalg.norm(noise, axis=1, keepdims=True), strict=True))
        effect = found_in(rows, found, k)
        rejected += effect.p is not None and effect.p <= 0.05
        estimates.append(effect.estimate)
    assert rejected <= 14 and np.mean(estimates) == pytest.approx(0, abs=0.03)


def test_pictures_pair_only_where_all_else_agrees() -> None:
    rows = rows_of(1, seeds=1)
    rows["levels"] = [{**levels, "w": str(k)} for k, levels in enumerate(rows["levels"])]
    assert not len(distances(rows, {}, "order"))
    again = rows_of(1, seeds=1)
    again["pixels"] = "one"  # one picture for all prompts
    assert distances(again, {"one": np.array([3.0])}, "order")["value"].tolist() == [0, 0]
    assert distances(again, {}, "order")["value"].isna().all()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("said")
    plain = STUDY.replace("name: said", "name: plain").replace("wording: {paraphrase:", "wording: {zip: {wording:")
    for text in (STUDY, plain.replace("a picture of]}", "a picture of]}}").replace("  wording: {zip", "  w: {zip")):
        run_study(parse_study(text), Store(folder), RunOptions(passports_n=0))
    return folder


def test_a_renderer_moves_what_is_named_first_and_hears_no_paraphrase(home: Path) -> None:
    store = Store(home)
    row = findings(store, "said").set_index("finding").loc["order sensitivity"]
    rows = image_rows(store, "said", {})
    known = vectors(store, rows, Encoder("miniature"))
    assert distances(rows, known, "wording")["value"].tolist() == [0] * 12
    by_hand = distances(rows, known, "order").groupby("prompt_group")["value"].mean().mean()
    assert row["estimate"] == pytest.approx(by_hand) and row["estimate"] > 0 and row["low"] > 0
    assert (row["n_prompts"], row["n"], row["n_dropped"], row["tier"]) == (3, 6, 0, "T0")
    assert "miniature" in row["measure"] and row["axis"] == "order"


def test_without_a_paraphrase_axis_it_says_how_to_add_one(home: Path) -> None:
    row = findings(Store(home), "plain").set_index("finding").loc["order sensitivity"]
    assert pd.isna(row["estimate"]) and "add one, as in axes: {wording: {paraphrase:" in row["reason"]
    held = findings(Store(home), "said", {"wording": "a photo of"}).set_index("finding")
    assert "no paraphrase axis" in held.loc["order sensitivity", "reason"]


def test_pictures_that_are_gone_are_counted(home: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    run_study(parse_study(STUDY), store, RunOptions(passports_n=0))
    rows = image_rows(store, "said", {})
    gone = rows["file"].iloc[0]
    (store.home.images / gone[:2] / f"{gone}.png").unlink()
    row = findings(store, "said").set_index("finding").loc["order sensitivity"]
    assert row["estimate"] > 0 and row["n"] + row["n_dropped"] == 6


def test_the_encoder_is_that_of_the_studys_own_probe(home: Path) -> None:
    store = Store(home)
    assert encoder_of(store, "said", ["T0"]) == Encoder("miniature")
    assert encoder_of(store, "said", ["T1", "T2"]) is None
    other = "probes: [exposure, {name: clip_similarity, model: ViT-B-32, checkpoint: here.safetensors}]"
    text = STUDY.replace("name: said", "name: named").replace("probes: [exposure]", other)
    with store.open_run("named", text=text):
        pass
    store.publish()
    assert encoder_of(store, "named", ["T2"]) == Encoder("ViT-B-32", "here.safetensors")
