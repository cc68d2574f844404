"""The outcome of binding, case by case, and what the probe makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from judges import shipped, thing
from promptlab.analyzer.judges.outcomes import claims, match, outcome
from promptlab.analyzer.judges.scene_parser import Scenes
from promptlab.analyzer.passports import prompt_of, samples_of
from promptlab.analyzer.probes import Sample
from promptlab.analyzer.probes.binding import BindingOutcome
from promptlab.miniature.drawing import FaultRates, render_with_faults
from promptlab.miniature.parser import Found, group_blocks
from promptlab.miniature.train.data import label_map
from promptlab.miniature.world import Scene, sample_scene
from promptlab.records import OUTCOMES, Binding, Prompt, Score, Settings


def asked(*pairs: str) -> tuple[Binding, ...]:
    """From "red cup", "blue chair": the claims; a bare noun claims no colour."""
    words = [pair.split() for pair in pairs]
    return tuple(Binding(f"o{i}", w[-1], w[0] if len(w) > 1 else None) for i, w in enumerate(words))


def found(*pairs: str, step: int = 10) -> list[Found]:
    return [thing(pair.split()[1], pair.split()[0], step * i) for i, pair in enumerate(pairs)]


CUP_AND_CHAIR = asked("red cup", "blue chair")


@pytest.mark.parametrize(
    ("claims", "things", "expected"),
    [
        (CUP_AND_CHAIR, ["red cup", "blue chair"], "correct"),
        (CUP_AND_CHAIR, ["blue cup", "red chair"], "swap"),
        (CUP_AND_CHAIR, ["red cup", "red chair"], "leak"),
        (CUP_AND_CHAIR, ["blue cup", "blue chair"], "leak"),
        (CUP_AND_CHAIR, ["blue cup", "green chair"], "leak"),  # one leaked, one went elsewhere
        (CUP_AND_CHAIR, ["green cup", "blue chair"], "other"),
        (CUP_AND_CHAIR, ["green cup", "pink chair"], "other"),
        (CUP_AND_CHAIR, ["red cup"], "neglect"),
        (CUP_AND_CHAIR, ["blue cup"], "neglect"),  # a missing object goes before any colour
        (CUP_AND_CHAIR, [], "neglect"),
        (CUP_AND_CHAIR, ["red cup", "blue star"], "neglect"),  # something else, apart from it
        (CUP_AND_CHAIR, ["red unknown"], "fused"),
        (CUP_AND_CHAIR, ["red cup", "blue unknown"], "fused"),
        (CUP_AND_CHAIR, ["red cup", "blue chair", "green unknown"], "correct"),  # further things do not count
        (CUP_AND_CHAIR, ["blue cup", "red cup", "blue chair"], "correct"),  # a claim holds if something fulfils it
        (asked("red cup", "red chair"), ["red cup", "red chair"], "correct"),
        (asked("red cup", "red chair"), ["red cup", "blue chair"], "other"),  # one colour cannot swap or leak
        (asked("red cup", "blue cup"), ["blue cup", "red cup"], "correct"),
        (asked("red cup", "blue cup"), ["red cup"], "neglect"),  # one cup is not two
        (asked("red cup", "blue cup"), ["red cup", "red cup"], "leak"),
        (asked("red cup", "chair"), ["red cup", "green chair"], "correct"),  # no colour asked, none is wrong
        (asked("red cup", "chair"), ["green cup", "red chair"], "other"),
        (asked("red cup", "blue chair", "green car"), ["blue cup", "green chair", "red car"], "swap"),
        (asked("red cup", "blue chair", "green car"), ["blue cup", "red chair", "green car"], "swap"),
        (asked("red cup", "blue chair", "green car"), ["green cup", "blue chair", "green car"], "leak"),
        (asked("red cup"), ["red cup"], "correct"),
        (asked("red cup"), ["blue cup"], "other"),
        (asked("red cup"), ["red unknown"], "fused"),
    ],
)
def test_outcome(claims: Sequence[Binding], things: list[str], expected: str) -> None:
    assert outcome(claims, found(*things)) == expected
    assert expected in OUTCOMES


def test_things_grown_together_are_fused() -> None:
    assert outcome(CUP_AND_CHAIR, found("red cup", "blue star", step=8)) == "fused"
    assert outcome(CUP_AND_CHAIR, found("red cup", "blue chair", step=8)) == "correct"
    # Two strangers that touch each other say nothing of the cup.
    strangers = [thing("star", "red", 12), thing("hat", "red", 20)]
    assert outcome(CUP_AND_CHAIR, [thing("cup", "red", 0), *strangers]) == "neglect"


@pytest.mark.parametrize("seed", range(20))
def test_order_of_claims_and_things_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    colours = [str(c) for c in rng.choice(["red", "blue", "green"], 6)]
    nouns = [str(n) for n in rng.choice(["cup", "chair", "unknown"], 3)]
    claimed = asked(f"{colours[0]} cup", f"{colours[1]} chair")
    things = found(*(f"{c} {n}" for c, n in zip(colours[2:], nouns, strict=False)))
    first = outcome(claimed, things)
    for order in permutations(things):
        assert outcome(claimed, order) == outcome(claimed[::-1], order) == first


def test_the_larger_of_two_equal_things_is_taken() -> None:
    small, large = thing("cup", "green", 0, 0.1), thing("cup", "pink", 10, 0.2)
    assert match(asked("red cup"), [small, large]) == (large,)


def test_claims_keep_colours_and_speak_the_miniatures_words() -> None:
    bindings = (
        Binding("a", "Mug", "small", "size"),
        Binding("a", "Mug", "Red", "colour"),
        Binding("b", "cottage", "large", "size"),
        Binding("c", "dog", "blue", "color"),
    )
    assert claims(Prompt("x", bindings=bindings)) == (
        Binding("a", "cup", "red"),
        Binding("b", "house", None),
        Binding("c", "dog", "blue"),
    )


def judge(monkeypatch: pytest.MonkeyPatch, bindings: Sequence[Binding], things: Sequence[Found]) -> dict[str, Score]:
    monkeypatch.setattr(Scenes, "read", lambda self, pictures: dict.fromkeys(pictures, tuple(things)))
    monkeypatch.setattr(Scenes, "sha256", "0")
    sample = Sample("x", np.zeros((128, 128, 3), np.uint8), Prompt("x", bindings=tuple(bindings)), Settings(), 0)
    return {f"{s.measure} {s.target}".strip(): s for s in BindingOutcome().score([sample])}


def test_scores_of_a_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = judge(monkeypatch, CUP_AND_CHAIR, found("blue cup", "red chair"))
    values = {name: score.value for name, score in scores.items()}
    assert values == {
        **dict.fromkeys(("correct", "leak", "other", "neglect", "fused", "accuracy"), 0.0),
        **{"swap": 1.0, "both_present": 1.0, "noun o0": 1.0, "noun o1": 1.0, "colour o0": 0.0, "colour o1": 0.0},
    }
    assert {name for name, score in scores.items() if score.label in OUTCOMES} == {"correct"}, "a picture counts once"
    assert scores["correct"].label == "swap" and scores["colour o0"].label == "blue"
    assert [one["noun"] for one in scores["correct"].detail["found"]] == ["cup", "chair"]


def test_accuracy_is_given_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = judge(monkeypatch, CUP_AND_CHAIR, found("red cup"))
    assert scores["correct"].value == 0 and scores["correct"].label == "neglect"
    assert scores["accuracy"].value is None and "no chair" in str(scores["accuracy"].reason)
    assert scores["noun o1"].value == 0 and scores["colour o1"].value is None
    assert scores["colour o0"].value == 1


def test_one_object_has_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(monkeypatch, asked("red cup"), found("red cup")).keys() == {"noun o0", "colour o0"}
    assert judge(monkeypatch, asked("cup"), found("red cup")).keys() == {"noun o0"}


def test_words_it_does_not_know_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = judge(monkeypatch, asked("red cup", "blue zebra"), found("red cup"))
    assert scores["correct"].value is None and "zebra" in str(scores["correct"].reason)
    assert scores["noun o1"].value is None and scores["noun o0"].value == 1 and scores["colour o0"].value == 1
    scores = judge(monkeypatch, asked("grey cup", "blue chair"), found("red cup", "blue chair"))
    assert scores["accuracy"].value is None and scores["noun o0"].value == 1
    assert scores["colour o0"].value is None and "grey" in str(scores["colour o0"].reason)


def test_nothing_asked_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = judge(monkeypatch, (), found("red cup"))
    assert [(name, score.reason) for name, score in scores.items()] == [("correct", "the prompt declares no object")]


@pytest.mark.parametrize("extra", [0.0, 1.0])
@pytest.mark.parametrize("name", OUTCOMES)
def test_the_rule_is_exact_where_the_blocks_are(name: str, extra: float) -> None:
    for i in range(8):
        rng = np.random.default_rng([OUTCOMES.index(name), i])
        scene = Scene(())
        while len({one.colour for one in scene.things}) < 2:
            scene = sample_scene(rng, count=2, pairs="all")
        rates = FaultRates(extra=extra, **({} if name == "correct" else {name: 1.0}))
        drawn, truth, _ = render_with_faults(scene, rates, rng)
        # Of a thing in two colours the left one stands here; what it is called does not matter to what is fused.
        things = tuple(replace(one, colour=one.colour.split("+")[0]) for one in drawn.ground_truth)
        nouns, colours = label_map((), things)
        blocks = group_blocks(np.eye(16)[nouns].transpose(2, 0, 1), np.eye(11)[colours].transpose(2, 0, 1)[1:])
        assert outcome(claims(prompt_of(scene)), blocks) == truth == name


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_trained_parser_reads_each_outcome(name: str) -> None:
    said = [s.label for s in shipped("binding").score(list(samples_of(name, 30))) if s.measure == "correct"]
    assert said.count(name) >= 18, said
