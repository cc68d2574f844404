"""Faults do what their names say, at the rates asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from promptlab.miniature.drawing import BINDING_FAULTS, FaultRates, blob, blur, burn, inject, render, render_with_faults
from promptlab.miniature.world import COLOURS, Scene, Thing, sample_scene
from promptlab.records import OUTCOMES

CUP = Thing("cup", "red", x=0.28, side=0.4)
CAR = Thing("car", "blue", x=0.72, side=0.4)
SCENE = Scene((CUP, CAR), relation="left of", seed=5)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_binding_faults_are_outcomes() -> None:
    assert {"correct", *BINDING_FAULTS} == set(OUTCOMES)


def test_no_rates_no_faults() -> None:
    picture, outcome, added = render_with_faults(SCENE, FaultRates(), _rng())
    assert (outcome, added) == ("correct", ())
    assert np.array_equal(picture.image, render(SCENE).image)


def test_swap_exchanges_the_colours() -> None:
    picture, outcome, _ = render_with_faults(SCENE, FaultRates(swap=1), _rng())
    assert outcome == "swap"
    assert [(t.noun, t.colour) for t in picture.ground_truth] == [("cup", "blue"), ("car", "red")]


def test_leak_gives_both_one_of_the_two_colours() -> None:
    seen = set()
    for seed in range(20):
        scene, outcome, _ = inject(SCENE, FaultRates(leak=1), _rng(seed))
        assert outcome == "leak" and len({t.colour for t in scene.things}) == 1
        seen.add(scene.things[0].colour)
    assert seen == {"red", "blue"}


def test_other_gives_one_thing_a_colour_nobody_named() -> None:
    for seed in range(20):
        scene, outcome, _ = inject(SCENE, FaultRates(other=1), _rng(seed))
        changed = [b for a, b in zip(SCENE.things, scene.things, strict=True) if a != b]
        assert outcome == "other" and len(changed) == 1 and changed[0].colour not in ("red", "blue")


def test_neglect_drops_one_thing() -> None:
    left = set()
    for seed in range(20):
        picture, outcome, _ = render_with_faults(SCENE, FaultRates(neglect=1), _rng(seed))
        assert outcome == "neglect" and len(picture.ground_truth) == 1
        left.add(picture.ground_truth[0].noun)
    assert left == {"cup", "car"}


def test_fused_draws_one_thing_of_two_halves() -> None:
    picture, outcome, _ = render_with_faults(SCENE, FaultRates(fused=1), _rng())
    assert outcome == "fused"
    (truth,) = picture.ground_truth
    assert truth.noun == "cup+car" and truth.mask.sum() > 300


def test_extra_adds_a_thing_nobody_asked_for() -> None:
    for seed in range(20):
        scene, outcome, added = inject(SCENE, FaultRates(extra=1), _rng(seed))
        assert (outcome, added) == ("correct", ("extra",))
        extra, *asked = scene.things
        assert tuple(asked) == SCENE.things and extra.noun not in ("cup", "car")
        areas = [t.mask.sum() for t in render(scene).ground_truth]
        assert min(areas) > 60


def test_extra_does_not_bring_back_what_is_neglected() -> None:
    for seed in range(40):
        scene, _, _ = inject(SCENE, FaultRates(neglect=1, extra=1), _rng(seed))
        assert len(scene.things) == 2 and len({t.noun for t in scene.things} & {"cup", "car"}) == 1


def test_burn_and_blur_change_pixels_only() -> None:
    clean = render(SCENE)
    burnt, outcome, added = render_with_faults(SCENE, FaultRates(burn=1), _rng())
    assert (outcome, added) == ("correct", ("burn",))
    assert np.array_equal(burnt.image, burn(clean.image))
    clipped = [np.mean((p.image == 0) | (p.image == 255)) for p in (clean, burnt)]
    assert clipped[1] > clipped[0] + 0.1
    soft, _, added = render_with_faults(SCENE, FaultRates(blur=1), _rng())
    assert added == ("blur",) and np.array_equal(soft.image, blur(clean.image))
    edges = [np.abs(np.diff(p.image.astype(float), axis=1)).max() for p in (clean, soft)]
    assert edges[1] < 0.6 * edges[0]


@pytest.mark.parametrize("fault", ["swap", "leak", "fused"])
def test_what_one_thing_cannot_show_stays_correct(fault: str) -> None:
    scene = Scene((CUP,))
    rates: dict[str, Any] = {fault: 1.0}
    assert inject(scene, FaultRates(**rates), _rng())[:2] == (scene, "correct")


@pytest.mark.parametrize("fault", ["swap", "leak"])
def test_one_shared_colour_cannot_be_exchanged(fault: str) -> None:
    scene = Scene((CUP, Thing("car", "red")))
    rates: dict[str, Any] = {fault: 1.0}
    assert inject(scene, FaultRates(**rates), _rng())[:2] == (scene, "correct")


def test_rates_are_met() -> None:
    rng, n = _rng(7), 500
    rates = FaultRates(swap=0.15, leak=0.1, other=0.1, neglect=0.2, fused=0.05, extra=0.3, burn=0.2, blur=0.1)
    counts: dict[str, int] = {}
    for _ in range(n):
        _, outcome, added = inject(SCENE, rates, rng)
        for name in (outcome, *added):
            counts[name] = counts.get(name, 0) + 1
    expected = {**{f: getattr(rates, f) for f in (*BINDING_FAULTS, "extra", "burn", "blur")}, "correct": 0.4}
    for name, rate in expected.items():
        # Four standard errors: one run in about two thousand would fail by chance, and the seed is fixed.
        assert abs(counts[name] / n - rate) < 4 * (rate * (1 - rate) / n) ** 0.5, name


def test_same_rng_same_faults() -> None:
    rates = FaultRates(0.15, 0.15, 0.15, 0.15, 0.15, 0.3, 0.3, 0.3)
    scenes = [sample_scene(_rng(k)) for k in range(30)]
    runs = [[render_with_faults(s, rates, _rng(k)) for k, s in enumerate(scenes)] for _ in range(2)]
    for (a, *rest_a), (b, *rest_b) in zip(*runs, strict=True):
        assert rest_a == rest_b and np.array_equal(a.image, b.image)


@pytest.mark.parametrize(
    ("rates", "given"),
    [
        ({"swap": -0.1}, "'swap'.*-0.1"),
        ({"burn": 1.5}, "'burn'.*1.5"),
        ({"blur": float("nan")}, "'blur'.*nan"),
        ({"swap": 0.6, "neglect": 0.6}, "swap=0.6, neglect=0.6"),
    ],
)
def test_impossible_rates_are_refused(rates: dict[str, float], given: str) -> None:
    with pytest.raises(ValueError, match=given):
        FaultRates(**rates)


def test_rates_that_sum_to_one_are_allowed() -> None:
    rates = FaultRates(swap=0.1, leak=0.2, other=0.3, neglect=0.3, fused=0.1)
    outcomes = {inject(SCENE, rates, _rng(k))[1] for k in range(60)}
    assert outcomes == set(BINDING_FAULTS)


def test_blob_is_no_noun() -> None:
    thing = blob(_rng(1))
    assert thing.noun == "unknown" and thing.colour in COLOURS
    (truth,) = render(Scene((thing,), seed=9)).ground_truth
    assert truth.noun == "unknown" and truth.mask.any()
