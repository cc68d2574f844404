"""The arithmetic of published judges on recorded answers, fixed logits and hand-made detections."""

from __future__ import annotations

import math
from itertools import product as every
from typing import Any

import numpy as np
import pytest

from judges import Oracle
from promptlab.analyzer.judges import vqa
from promptlab.analyzer.judges.boxes import (
    BASIC_COLOURS,
    Detection,
    Wanted,
    asked_of,
    colour_of,
    geneval,
    read_outcome,
    suppress,
)
from promptlab.analyzer.judges.outcomes import outcome_scores
from promptlab.analyzer.probes import Sample
from promptlab.records import Binding, Prompt, Settings
from promptlab.study.prompts import ObjectSpec, PromptSpec, render


def prompt(first: dict[str, Any], second: dict[str, Any]) -> Prompt:
    objects = {name: ObjectSpec.model_validate(one) for name, one in (("first", first), ("second", second))}
    return render(PromptSpec(template="{first} and {second}", objects=objects))


# T2I-CompBench.

ANSWERS = [[0.93, 0.12], [0.5], [], [1.0, 0.0], [0.9] * 10]
"""P(yes) of each noun phrase of five pictures; the last has more than eight phrases."""


def test_compbench_by_hand_and_the_slow_way() -> None:
    by_hand = [0.93 * 0.12, 0.5, 1.0, 0.0, 0.9**8]
    assert [vqa.product(one) for one in ANSWERS] == pytest.approx(by_hand)
    # As its script does: eight files of answers, 1 where a picture has no such phrase, multiplied file by file.
    files = [[one[k] if k < len(one) else 1.0 for one in ANSWERS] for k in range(8)]
    reward = [1.0] * len(ANSWERS)
    for answers in files:
        reward = [so_far * answer for so_far, answer in zip(reward, answers, strict=True)]
    assert vqa.compbench(ANSWERS) == pytest.approx(sum(reward) / len(reward)) == pytest.approx(sum(by_hand) / 5)
    with pytest.raises(ValueError, match=r"an answer is 1\.2"):
        vqa.product([1.2])
    with pytest.raises(ValueError, match="no picture"):
        vqa.compbench([])


def test_the_share_of_yes() -> None:
    assert vqa.yes_share(0, 0) == 0.5 and vqa.yes_share(2000, -2000) == 1 and vqa.yes_share(-2000, 2000) < 1e-300
    for yes, no in ((1.3, -0.4), (-7.0, 2.0)):
        assert vqa.yes_share(yes, no) == pytest.approx(math.exp(yes) / (math.exp(yes) + math.exp(no)))


def test_contrast_is_the_weakest_against_the_strongest() -> None:
    assert vqa.contrast([0.9, 0.6], [0.1, 0.3]) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="at least one of each"):
        vqa.contrast([0.5], [])


# VQAScore.


def test_vqascore_is_the_exponential_of_minus_the_cross_entropy() -> None:
    import torch

    logits = np.array([[2.0, 0.5, -1.0, 0.0], [0.0, 3.0, 1.0, -2.0]])
    first = math.exp(2) / (math.exp(2) + math.exp(0.5) + math.exp(-1) + 1)
    assert vqa.answer_probability(logits[:1], [0]) == pytest.approx(first)
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor([0, 1]))
    assert vqa.answer_probability(logits, [0, 1]) == pytest.approx(float((-loss).exp()))
    assert vqa.answer_probability(np.array([[1e4, 0.0]]), [0]) == 1
    with pytest.raises(ValueError, match="one row for each"):
        vqa.answer_probability(logits, [0])


# Questions and outcomes.


def test_questions_exchange_the_attribute_and_mend_the_article() -> None:
    asked = vqa.questions(prompt({"noun": "cup", "colour": "red"}, {"noun": "car", "colour": "orange"}))
    assert [(q.phrase, q.bare, q.swapped, q.foreign) for q in asked] == [
        ("a red cup", "a cup", "an orange cup", "orange"),
        ("an orange car", "a car", "a red car", "red"),
    ]
    same = vqa.questions(prompt({"noun": "cup", "colour": "red"}, {"noun": "car", "colour": "red"}))
    assert [q.swapped for q in same] == [None, None]
    assert vqa.questions(Prompt("a red cup", (), (Binding("x", "cup", "red"),))) == ()


def test_outcomes_behind_answers() -> None:
    asked = vqa.questions(prompt({"noun": "cup", "colour": "red"}, {"noun": "car", "colour": "blue"}))
    said = {
        ((1, 1), (1, 1), (0, 0)): "correct",
        ((1, 1), (1, 1), (1, 0)): "correct",  # a thing may have both colours
        ((1, 1), (0, 0), (1, 1)): "swap",
        ((1, 1), (0, 1), (1, 0)): "leak",
        ((1, 1), (0, 1), (0, 0)): "other",
        ((1, 0), (1, 1), (0, 0)): "neglect",
    }
    for (bare, own, foreign), outcome in said.items():
        assert vqa.outcome_of(asked, bare, own, foreign) == outcome


def test_an_outcome_has_all_its_measures() -> None:
    judge, sample = Oracle(None), Sample("x", np.zeros((8, 8, 3), np.uint8), Prompt("a cup"), Settings(), 0)
    scores = {score.measure: score for score in outcome_scores(judge, sample, "leak")}
    assert list(scores) == ["correct", "swap", "leak", "other", "neglect", "fused", "both_present", "accuracy"]
    assert {(score.image, score.probe, score.probe_id) for score in scores.values()} == {("x", "oracle", "oracle-1")}
    assert scores["correct"].label == "leak" and scores["leak"].value == 1 and scores["swap"].value == 0
    assert scores["fused"].value is None and "cannot tell" in str(scores["fused"].reason)
    none = outcome_scores(judge, sample, None, "why")
    assert all(score.value is None and score.reason == "why" for score in none)
    with pytest.raises(ValueError, match="'fused'"):
        list(outcome_scores(judge, sample, "fused"))


# GenEval.

CUP, CHAIR = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
PAIR = (Wanted("cup", 1, "red"), Wanted("chair", 1, "blue"))


def test_geneval_on_detections_made_by_hand() -> None:
    cup, chair = Detection("cup", 0.9, CUP, "red"), Detection("chair", 0.5, CHAIR, "blue")
    assert geneval(PAIR, [cup, chair]) == (True, ())
    assert geneval(PAIR, [cup])[1] == ("expected chair >= 1, found 0",)
    faint = Detection("chair", 0.3, CHAIR, "blue")  # 0.3 itself does not count
    assert not geneval(PAIR, [cup, faint])[0]
    swapped = [Detection("cup", 0.9, CUP, "blue"), Detection("chair", 0.5, CHAIR, "red")]
    assert geneval(PAIR, swapped)[1][0] == "expected red cup >= 1, found 0 (blue)"
    # Of two cups only the more confident is looked at, whatever the colour of the other.
    blue_first = Detection("cup", 0.95, CHAIR, "blue")
    assert not geneval(PAIR, [cup, blue_first, chair])[0]
    assert geneval([Wanted("cup", 2)], [cup, blue_first])[0]
    assert not geneval([Wanted("cup", 1)], [cup, blue_first], exclude=[Wanted("cup", 2)])[0]


def test_geneval_equals_a_slow_twin() -> None:
    """The rule once more, on sorted lists and counts, over many random pictures."""
    draw = np.random.default_rng(0)
    outcomes = []
    for _ in range(300):
        found = [
            Detection(str(draw.choice(["cup", "chair"])), float(draw.random()), CUP, str(draw.choice(["red", "blue"])))
            for _ in range(draw.integers(2, 9))
        ]
        wanted = [
            Wanted("cup", int(draw.integers(1, 3)), str(draw.choice(["red", "blue"]))),
            Wanted("chair", 1, None if draw.random() < 0.3 else "blue"),
        ]
        right = True
        for one in wanted:
            best = sorted((d.score for d in found if d.noun == one.noun and d.score > 0.3), reverse=True)[: one.count]
            colours = [next(d.colour for d in found if d.score == score) for score in best]
            right &= len(best) == one.count and (one.colour is None or colours.count(one.colour) == one.count)
        assert geneval(wanted, found)[0] == right
        outcomes.append(right)
    assert 20 < sum(outcomes) < 280


# Boxes and colours.


def test_colours_are_those_inside_the_ellipse() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[...] = (0, 170, 30)
    y, x = np.mgrid[:40, :60] + 0.5
    picture[((x - 30) / 20) ** 2 + ((y - 20) / 10) ** 2 <= 1] = (220, 10, 10)
    name, shares = colour_of(picture, (10, 10, 50, 30))
    assert name == "red" and shares == {"red": 1.0}
    assert colour_of(picture, (0, 0, 60, 40))[0] == "green"
    mask = np.zeros((40, 60), bool)
    mask[:5] = True
    assert colour_of(picture, (0, 0, 60, 40), mask)[0] == "green"
    for box in ((70, 0, 80, 10), (5, 5, 5, 9), (-9, -9, -1, -1)):
        assert colour_of(picture, box) == ("mixed", {})


def test_a_colour_needs_its_share() -> None:
    picture = np.zeros((10, 30, 3), np.uint8)
    for k, name in enumerate(("red", "green", "blue")):
        picture[:, 10 * k : 10 * k + 10] = BASIC_COLOURS[name]
    whole = np.ones((10, 30), bool)
    name, shares = colour_of(picture, (0, 0, 30, 10), whole)
    assert name == "mixed" and sorted(shares) == ["blue", "green", "red"] and sum(shares.values()) == pytest.approx(1)
    assert colour_of(picture, (0, 0, 30, 10), whole, least=0.3)[0] in shares


def test_every_basic_colour_is_itself() -> None:
    for name, rgb in BASIC_COLOURS.items():
        assert colour_of(np.full((8, 8, 3), rgb, np.uint8), (0, 0, 8, 8))[0] == name


def test_one_thing_counts_once() -> None:
    cup, bowl = Detection("cup", 0.6, CUP), Detection("bowl", 0.8, (0.0, 0.0, 10.0, 9.5))
    assert suppress([cup, bowl, Detection("cup", 0.1, CHAIR)]) == (bowl, Detection("cup", 0.1, CHAIR))
    assert len(suppress([cup, Detection("bowl", 0.8, (5.0, 0.0, 15.0, 10.0))])) == 2


def test_outcomes_of_detections_follow_the_common_rule() -> None:
    asked = asked_of(prompt({"noun": "cup", "colour": "red"}, {"noun": "chair", "colour": "Gray"}))
    assert [(b.noun, b.attribute) for b in asked] == [("cup", "red"), ("chair", "grey")]
    said = {("red", "grey"): "correct", ("grey", "red"): "swap", ("red", "red"): "leak", ("red", "blue"): "other"}
    for colours, outcome in said.items():
        found = [Detection("cup", 0.9, CUP, colours[0]), Detection("chair", 0.9, CHAIR, colours[1])]
        for order in every((0, 1), repeat=1):
            told, taken = read_outcome(asked, found if order == (0,) else found[::-1], (40, 40, 3))
            assert told == outcome and all(taken)
    told, taken = read_outcome(asked, [Detection("cup", 0.9, CUP, "red")], (40, 40, 3))
    assert told == "neglect" and taken[1] is None
