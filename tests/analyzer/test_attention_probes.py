"""What the attention probes make of maps and pictures whose answer is known, and which pictures are traced."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from judges import random_parser
from promptlab.analyzer import PlannedImage, analyze, evenly
from promptlab.analyzer.judges.scene_parser import bound_words, mask_on, thing_of
from promptlab.analyzer.probes import Sample
from promptlab.analyzer.probes.ablation import Ablation
from promptlab.analyzer.probes.attention import Attention, jensen_shannon
from promptlab.errors import ModelError, PromptlabError, UntraceableError
from promptlab.records import Cell, Prompt, Settings
from promptlab.results.findings.attention import _auc_interval
from promptlab.run.tracing import content_words, heat, sheet
from two_things import LEFT, PROMPT, RIGHT, THINGS


class Told:
    """A model whose words look where they are told, and which paints where a word was taken out."""

    def __init__(self, sides: dict[str, np.ndarray]) -> None:
        self.sides = sides

    def attend(self, phrases: Any) -> Any:
        return np.stack([np.stack([self.sides[p.text].astype(np.float32)] * 4) for p in phrases], 1)

    def without(self, phrases: Any) -> Any:
        pictures = []
        for phrase in phrases:
            picture = np.full((128, 128, 3), 100, np.uint8)
            if phrase is not None:
                picture[np.kron(self.sides[phrase.text], np.ones((4, 4))) > 0] = 200
            pictures.append(picture)
        return pictures


def probe_on(kind: Any, model: Any, prompt: Prompt = PROMPT) -> dict[tuple[str, str], Any]:
    probe = kind(parser=random_parser())
    probe._scenes.read = lambda pictures: dict.fromkeys(pictures, THINGS)
    sample = Sample("x", np.zeros((128, 128, 3), np.uint8), prompt, Settings(), 0, model=model)
    return {(s.measure, s.target): s for s in probe.score([sample])}


RIGHT_WAY = Told({"red": LEFT, "cup": LEFT, "blue": RIGHT, "chair": RIGHT})
WRONG_WAY = Told({"red": RIGHT, "cup": LEFT, "blue": LEFT, "chair": RIGHT})


def test_words_that_look_at_home_and_words_that_look_at_the_other() -> None:
    for model, sign in ((RIGHT_WAY, 1), (WRONG_WAY, -1)):
        scores = probe_on(Attention, model)
        assert scores["attention_contrast", ""].value == pytest.approx(sign * 2 * math.log(2))
        for target in ("first", "second"):
            assert scores["attention_mass", target].value == pytest.approx(1 - 128 / 1024)


def test_words_that_act_at_home_and_words_that_act_on_the_other() -> None:
    for model, sign in ((RIGHT_WAY, 1), (WRONG_WAY, -1)):
        scores = probe_on(Ablation, model)
        own, other = scores["ablation_change", "first > first"].value, scores["ablation_change", "first > second"].value
        assert (own > 30 and other == 0) if sign > 0 else (own == 0 and other > 30)
        assert scores["ablation_change", "second > elsewhere"].value == 0
        assert scores["ablation_contrast", "first"].value == pytest.approx(own - other)


def test_a_colour_that_goes_with_its_word_is_lost_at_home() -> None:
    cup, chair = THINGS
    pale = replace(cup, colour="white")
    for seen, losses in (
        ((THINGS, (pale, chair), (cup, chair)), {"first > first": 1, "first > second": 0, "second > second": 0}),
        ((THINGS, (cup,), (cup, chair)), {"first > first": 0, "first > second": 1, "second > second": 0}),
        (((pale, chair), THINGS, (pale, chair)), {"first > first": -1, "first > second": 0, "second > first": 0}),
    ):
        probe = Ablation(parser=random_parser())
        later = iter(seen)
        probe._scenes.read = lambda pictures, later=later: {  # type: ignore[method-assign]
            key: THINGS if key == "x" else next(later) for key in pictures
        }
        sample = Sample("x", np.zeros((128, 128, 3), np.uint8), PROMPT, Settings(), 0, model=RIGHT_WAY)
        scores = {(s.measure, s.target): s.value for s in probe.score([sample])}
        assert {target: scores["ablation_loss", target] for target in losses} == losses
        own, other = scores["ablation_loss", "first > first"], scores["ablation_loss", "first > second"]
        assert scores["ablation_loss_contrast", "first"] == own - other


def test_what_cannot_be_traced_is_null_with_its_reason() -> None:
    class Refuses:
        def attend(self, _: Any) -> Any:
            raise UntraceableError("no such attention")

        without = attend

    for kind in (Attention, Ablation):
        for model, why in ((None, "no model here drew this picture"), (Refuses(), "no such attention")):
            scores = probe_on(kind, model)
            assert all(score.value is None and why in score.reason for score in scores.values())
        with pytest.raises(PromptlabError, match="at least 1"):
            kind(pictures=0)
    alone = Prompt("a red cup", PROMPT.phrases[:2], PROMPT.bindings[:1])
    assert probe_on(Attention, RIGHT_WAY, alone)["attention_mass", "first"].value is not None
    assert "two objects" in probe_on(Attention, RIGHT_WAY, alone)["attention_contrast", ""].reason
    assert "two objects" in probe_on(Ablation, RIGHT_WAY, alone)["ablation_contrast", ""].reason


def test_divergence() -> None:
    from scipy.spatial.distance import jensenshannon

    a, b = np.random.default_rng(0).random((2, 5, 7))
    assert jensen_shannon(a, a) == 0 and jensen_shannon(a, 3 * a) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(a, b) == pytest.approx(jensenshannon(a.ravel(), b.ravel()) ** 2)
    assert jensen_shannon(LEFT, RIGHT) == pytest.approx(math.log(2))


def test_masks_on_other_grids() -> None:
    mask = np.random.default_rng(0).random((32, 32)) > 0.5
    assert np.array_equal(mask_on(mask, (32, 32)), mask)
    assert np.array_equal(mask_on(mask, (64, 64)), np.kron(mask, np.ones((2, 2))))
    assert np.allclose(mask_on(mask, (8, 16)), mask.reshape(8, 4, 16, 2).mean((1, 3)))
    assert mask_on(mask, (5, 7)).mean() == pytest.approx(mask.mean())


def test_words_have_their_places_and_shared_nouns_no_thing() -> None:
    first, second = bound_words(PROMPT)
    assert PROMPT.text[first.noun.start : first.noun.end] == "cup"
    assert PROMPT.text[second.noun.start : second.noun.end] == "chair"
    assert thing_of(first, (first, second), THINGS) is THINGS[0]
    twice = replace(second, noun=replace(second.noun, text="mug"))
    assert thing_of(first, (first, twice), THINGS) is None
    assert [w.text for w in content_words("A photo of a well-made cup, and the dog's chair")] == [
        "well-made",
        "cup",
        "dog's",
        "chair",
    ]


def test_traced_pictures_are_spread_evenly_and_stay_the_same() -> None:
    cells = [Cell("s", (("a", i),), Prompt(f"p{i}"), Settings(), "g") for i in range(6)]
    planned_images = [PlannedImage(cell, seed) for cell in cells for seed in (0, 1)]
    assert [s.cell.levels[0][1] for s in evenly(planned_images, 3)] == [1, 3, 5]
    eight = evenly(planned_images, 8)
    assert len({s.image for s in eight}) == 8 and [s.seed for s in eight] == [0] * 6 + [1, 1]
    assert {s.image for s in evenly(planned_images, 99)} == {s.image for s in planned_images}
    drawn = [PlannedImage(replace(cell, backend="renderer"), 0) for cell in cells]
    assert evenly(drawn, 3) == []


def test_a_model_that_is_missing_stops_the_probe_before_anything_is_recorded() -> None:
    def gone(_: PlannedImage) -> Any:
        raise ModelError("no such model")

    probe = Attention(parser=random_parser())
    planned = PlannedImage(Cell("s", (), PROMPT, Settings(), "g"), 0)
    with pytest.raises(ModelError, match="no such model"):
        list(analyze(probe, [planned], lambda _: np.zeros((128, 128, 3), np.uint8), model=gone))


def test_area_under_the_curve_over_prompts() -> None:
    values, right = np.arange(20.0), np.arange(20) >= 10
    groups = [str(i % 5) for i in range(20)]
    found = _auc_interval(values, right, groups, 0)
    assert (found.estimate, found.low, found.high, found.n, found.n_groups) == (1, 1, 1, 20, 5)
    assert _auc_interval(-values, right, groups, 0).estimate == 0
    one_sided = _auc_interval(values, right | True, groups, 0)
    assert one_sided.estimate is None and "20 correct and 0" in str(one_sided.reason)


def test_heat_lights_where_the_map_is_high() -> None:
    picture = np.full((64, 96, 3), 200, np.uint8)
    lit = heat(picture, np.kron([[0, 1]], np.ones((8, 6))).astype(np.float32))
    assert lit.shape == picture.shape
    assert lit[:, -20:].mean() > 2 * lit[:, :20].mean()
    assert np.ptp(heat(picture, np.ones((8, 12), np.float32))) == 0
    maps = np.random.default_rng(0).random((4, 2, 8, 12)).astype(np.float32)
    plain, tall = sheet(picture, ["a", "b"], maps), sheet(picture, ["a", "b"], maps, "title", thirds=True)
    maps[2:] = np.nan
    assert tall.height > sheet(picture, ["a", "b"], maps, "title", thirds=True).height > plain.height
