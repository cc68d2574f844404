"""Claims end to end on drawn truth, the analyses on planted truth, and what must hold of the miniature exactly."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptlab.claims import STUDY, Settled, analyses, load_claims, run_claims
from promptlab.claims.analyses import ANALYSES, Analysis, explained
from promptlab.generator.backends import Job
from promptlab.generator.backends.diffusion import load
from promptlab.records import Cell, Prompt, Settings
from promptlab.resources import claims_folder
from promptlab.results import model_parts, tables
from promptlab.run.plan import plan_study
from promptlab.store import Store
from promptlab.study.study import load_study
from tiny import pictures

DRAWN = """
name: planted
question: Does a renderer that swaps colours get them wrong?
backend: renderer
prompt:
  template: "a photo of {first} and {second}"
  objects:
    first: {noun: "{noun_1}", colour: red}
    second: {noun: "{noun_2}", colour: blue}
axes:
  pair:
    zip:
      - {noun_1: cup, noun_2: chair}
      - {noun_1: book, noun_2: house}
      - {noun_1: car, noun_2: fish}
      - {noun_1: tree, noun_2: bottle}
      - {noun_1: hat, noun_2: ball}
      - {noun_1: dog, noun_2: box}
      - {noun_1: star, noun_2: lamp}
      - {noun_1: house, noun_2: ball}
  model: [miniature, swap=0.9]
  guidance_scale: [1, 5]
seeds: 1
probes: [binding]
contrasts:
  - {name: swaps, measure: binding.correct, axis: model, levels: [swap=0.9, miniature], where: {guidance_scale: 1}}
  - {name: nothing, measure: binding.correct, axis: guidance_scale, levels: [5, 1]}
"""
PLANTED = """
id: {id}
claim: "{id} is so"
source: here
study: planted.yaml
contrast: {contrast}
expects: {expects}
margin: {margin}
unit: share
design: d
size: s
comparator: c
"""


def written(folder: Path) -> Path:
    """A folder of three claims about a drawn world: one planted, one of nothing at all, one that asks for too much."""
    folder.mkdir()
    (folder / "planted.yaml").write_text(DRAWN, encoding="utf-8")
    asked = (("C1", "swaps", "less", 0.2), ("C2", "nothing", "same", 0.1), ("C3", "nothing", "more", 0.5))
    for id_, contrast, expects, margin in asked:
        text = PLANTED.format(id=id_, contrast=contrast, expects=expects, margin=margin)
        (folder / f"{id_.lower()}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store, tuple[Settled, ...]]:
    folder = written(tmp_path_factory.mktemp("claims") / "mine")
    store = Store(tmp_path_factory.mktemp("home"))
    return folder, store, run_claims(store, load_claims(folder))


def test_a_planted_effect_is_found_and_nothing_is_not(planted: tuple[Path, Store, tuple[Settled, ...]]) -> None:
    _, store, (swaps, same, more) = planted
    assert swaps.verdict == "supported" and swaps.effect.estimate is not None and swaps.effect.estimate < -0.5
    # all 8 prompts agree to the last picture, but 8 are too few to exclude a tenth: resampling alone would say [0, 0]
    assert (same.effect.estimate, same.effect.p, same.verdict) == (0, 1, "not testable here")
    high = 1 - 0.025 ** (1 / 8)
    assert (same.effect.low, same.effect.high) == pytest.approx((-high, high))
    assert more.verdict == "contradicted"
    assert {one.tier for one in (swaps, same, more)} == {"T0"}
    frame = tables.claims(store)
    assert frame["claim_id"].tolist() == ["C1", "C2", "C3"] and set(frame["tier"]) == {"T0"}
    assert frame["verdict"].tolist() == [one.verdict for one in (swaps, same, more)]
    assert frame["n"].tolist() == [8] * 3 and frame["margin"].tolist() == [0.2, 0.1, 0.5]


def test_again_makes_nothing_and_says_the_same(planted: tuple[Path, Store, tuple[Settled, ...]]) -> None:
    folder, store, before = planted
    pictures_there = store.images()
    again = run_claims(store, load_claims(folder))
    assert again == before and store.images() == pictures_there


def test_one_of_a_set_pays_for_the_set_and_loses_no_other(
    planted: tuple[Path, Store, tuple[Settled, ...]], tmp_path: Path
) -> None:
    folder, store, whole = planted
    chosen, family = load_claims(folder, ["C1"]), load_claims(folder)
    (alone,) = run_claims(store, chosen, family=family)
    assert alone == whole[0]
    assert {e.contrast: e.verdict for e in store.effects(STUDY)} == {o.claim.id: o.verdict for o in whole}
    (fresh,) = run_claims(Store(tmp_path / "fresh"), chosen, family=family)
    assert fresh.effect.p is not None and fresh.effect.p_adjusted == pytest.approx(2 * fresh.effect.p)
    assert fresh.effect.p_adjusted == whole[0].effect.p_adjusted


def test_what_an_analysis_found_stays_until_what_it_rests_on_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    measure = ANALYSES["latent_size"].measure

    def counted(store: Store) -> Any:
        calls.append(1)
        return measure(store)

    claims, store = load_claims(only=["C1"]), Store(tmp_path / "home")
    for key, ran in (("a", 1), ("a", 1), ("b", 2)):
        monkeypatch.setitem(ANALYSES, "latent_size", Analysis(counted, lambda key=key: key))
        (one,) = run_claims(store, claims)
        assert (len(calls), one.verdict, one.tier) == (ran, "supported", "T1")


def test_studies_of_the_claims_plan() -> None:
    claims = load_claims()
    plans = {claim.study: plan_study(load_study(claim.study), None) for claim in claims if claim.study}
    assert len(plans) >= 8
    for path, plan in plans.items():
        assert plan.cells and {cell.model for cell in plan.cells} <= {"miniature", "miniature-bag"}, path


# Analyses, on truth that is known.


def finding(name: str, store: Any = None) -> Any:
    return ANALYSES[name].measure(store)


def test_configs_are_read() -> None:
    assert finding("latent_size").values == {"vae": 0} and finding("latent_size").detail["ratio"] == 48
    width = finding("text_width")
    assert not width.values and "128 wide" in width.reason and width.tier == "T1"


def test_contrast_kept_of_bars() -> None:
    drawn = model_parts.bars(2, np.array([255.0, 0, 0]), np.array([0, 0, 255.0]), True)
    assert [tuple(drawn[0, x]) for x in range(4)] == [(255, 0, 0)] * 2 + [(0, 0, 255)] * 2
    assert model_parts.kept(drawn, drawn) == 1
    assert model_parts.kept(drawn, drawn * 0 + 7) == 0
    assert model_parts.kept(drawn, drawn / 4 + 9) == pytest.approx(0.25)
    level = model_parts.bars(2, np.array([255.0, 0, 0]), np.array([0, 0, 255.0]), False)
    assert np.array_equal(level, drawn.swapaxes(0, 1))


def test_the_autoencoder_keeps_broad_bars_better(monkeypatch: pytest.MonkeyPatch) -> None:
    some = {name: model_parts.COLOURS[name] for name in ("red", "blue")}
    monkeypatch.setattr(model_parts, "COLOURS", some)
    monkeypatch.setattr(model_parts, "BAR_WIDTHS", (2, 8))
    found = finding("vae_detail")
    assert len(found.values) == 2 and max(found.values.values()) < 0
    assert set(found.detail["kept_by_bar_width"]) == {"2", "8"}
    hashes = [ANALYSES[name].rests_on for name in ("vae_detail", "vae_detail", "ablation")]
    one, again, other = (rests_on() for rests_on in hashes if rests_on)
    assert one == again != other


def test_variance_by_verb() -> None:
    rng = np.random.default_rng(0)
    frames, verbs = rng.normal(size=(6, 1, 8)), rng.normal(size=(1, 3, 8))
    assert explained(frames + verbs) == pytest.approx(1)
    assert explained(frames + 0 * verbs) == pytest.approx(0)
    states = frames + verbs + rng.normal(size=(6, 3, 8))
    twice = np.broadcast_to(states.swapaxes(0, 1), (2, 3, 6, 8))  # nouns, words, frames: a noun and its double
    parts = model_parts.partition(twice, rng=rng, permutations=1)
    assert explained(states) == pytest.approx(parts.word / (1 - parts.frame))
    noise = np.mean([explained(rng.normal(size=(6, 3, 8))) for _ in range(300)])
    assert noise == pytest.approx(1 / 6, abs=0.01)  # labels without meaning explain one part in as many as frames


def test_verbs_of_a_dog_lie_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptlab.miniature.world.COLOURS", {"red": 0, "blue": 0})
    monkeypatch.setattr(analyses, "PERMUTATIONS", 50)
    found = finding("verb_geometry")
    assert set(found.values) == {"red", "blue"} and min(found.values.values()) > 0.2


def test_a_word_is_replaced_where_it_stands() -> None:
    import torch

    states = torch.arange(12.0).reshape(1, 6, 2)
    ids = [1, 5, 6, 7, 0, 0]
    changed = analyses.without_word(states, ids, [5, 6], 1)
    assert torch.equal(changed[0, 1:3], states[0, -1:].expand(2, -1))
    assert torch.equal(changed[0, [0, 3, 4, 5]], states[0, [0, 3, 4, 5]]) and states[0, 1, 0] == 2
    for wrong, at in (([5, 6], 2), ([0], 4)):
        with pytest.raises(ValueError, match=r"no such word|no padding"):
            analyses.without_word(states, ids, wrong, at)


def test_ablation_measures_the_miniature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyses, "ABLATION_PAIRS", analyses.ABLATION_PAIRS[3:5])
    monkeypatch.setattr(analyses, "ABLATION_SEEDS", (0,))
    found = finding("ablation")
    assert len(found.values) + found.detail["without_both_objects"] == 2 and found.detail["pictures"] == 6
    assert all(abs(value) < 255 for value in found.values.values())


RARITY = """
name: rarity
question: Does the analysis find what is planted?
backend: renderer
model: swap_colour=0
prompt: {template: "a photo of {thing}", objects: {thing: {noun: "{noun}", colour: "{colour}"}}}
axes: {noun: [cup, chair], colour: [red, blue, green, white]}
units: [noun, colour]
seeds: 1
probes: [binding]
"""


def test_rarity_finds_a_planted_slope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    colours = ("red", "blue", "green", "white")
    share = {"red": 0.0, "blue": 0.5, "green": 1.0, "white": 1.0}
    rows = [{"noun": n, "colour": c, "share": share[c], "n": 2} for n in ("cup", "chair") for c in colours]

    class Planted:
        def query(self, sql: str, parameters: Any = ()) -> pd.DataFrame:
            assert parameters == ["rarity"]
            return pd.DataFrame(rows)

    counts = {"red": 10, "blue": 100, "green": 1000, "white": 0}
    with (tmp_path / "pair_counts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["noun", "colour", "things"])
        table.writerows([n, c, counts[c]] for n in ("cup", "chair") for c in colours)
    monkeypatch.setattr(analyses, "shipped_folder", lambda: tmp_path)
    found = finding("rarity", Planted())
    assert found.values == pytest.approx({"cup": 0.5, "chair": 0.5})
    assert (found.detail["seen"], found.detail["never_seen"]) == (0.5, 1.0)


# What must hold of the miniature, exactly.


def asked(prompt: str, scale: float = 5.0, model: str = "miniature") -> Job:
    return Job.of(Cell("s", (), Prompt(prompt), Settings(scale, 2), "g", model=model), 3)


def test_zero_is_no_prompt_and_what_is_cut_off_draws_nothing() -> None:
    backend = load("miniature")
    red, blue, empty = pictures(backend, [asked("a red cup", 0), asked("a blue chair", 0), asked("", 1)])
    assert np.array_equal(red, blue) and np.array_equal(red, empty)
    study = load_study(claims_folder().parent / "token_length.yaml")
    cells = [cell for cell in plan_study(study, None).cells if dict(cell.levels)["length_at"] == 85]
    texts = [cell.prompt.text for cell in cells[:3]]
    assert len(set(texts)) == 3
    start = next(phrase.start for phrase in cells[0].prompt.phrases if phrase.name == "thing")
    lost = pictures(backend, [asked(text) for text in (*texts, texts[0][:start].rstrip(" ,"))])
    assert all(np.array_equal(one, lost[0]) for one in lost)  # with any thing, and with none
    backend.close()


def test_the_bag_draws_the_same_in_any_order() -> None:
    texts = ("a red cup and a blue chair", "a blue chair and a red cup", "a blue cup and a red chair")
    for model in ("miniature", "miniature-bag"):
        backend = load(model)
        made = [one.astype(int) for one in pictures(backend, [asked(text, model=model) for text in texts])]
        backend.close()
        apart = max(int(np.abs(one - made[0]).max()) for one in made[1:])
        # sums in another order of words may round otherwise: one step of 255
        assert apart <= 1 if model == "miniature-bag" else apart > 5
