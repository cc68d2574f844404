"""Passports against judges whose errors are known because we make them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from judges import Oracle, random_clip, random_parser, shipped, truth
from promptlab.analyzer.known_truth import SETS, samples_of
from promptlab.analyzer.passports import QUESTIONS, corrected_rate, passports
from promptlab.analyzer.probes import Sample
from promptlab.analyzer.probes.binding import BindingOutcome
from promptlab.analyzer.probes.clip_contrast import ClipContrast
from promptlab.analyzer.probes.exposure import Exposure
from promptlab.miniature.faults import burn
from promptlab.miniature.world import COLOURS
from promptlab.records import OUTCOMES, Passport
from promptlab.stats.calibration import corrected_shares
from promptlab.stats.paired import wilson


def by_kind(probe: Any, n: int = 20, seed: int = 0) -> dict[str, Passport]:
    return {passport.kind: passport for passport in passports(probe, n, seed)}


def outcomes(errs: float = 0.0) -> Oracle:
    """Says the true outcome, and a random other one at the rate `errs`."""
    rng = np.random.default_rng(1)

    def say(sample: Sample) -> tuple[float, str]:
        said = truth(sample)
        if rng.random() < errs:
            said = str(rng.choice([o for o in OUTCOMES if o != said]))
        return float(said == "correct"), said

    return Oracle(say)


# The pictures.


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_the_same_however_many_are_drawn(name: str) -> None:
    (one, *_), (first, *_) = samples_of(name, 1), samples_of(name, 2)
    assert np.array_equal(one.pixels, first.pixels) and one.prompt == first.prompt
    assert one.pixels.shape == (128, 128, 3) and one.prompt.bindings
    assert not np.array_equal(one.pixels, next(iter(samples_of(name, 1, seed=1))).pixels)


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(ValueError, match="sideways"):
        samples_of("sideways", 1)


def test_two_objects_have_two_colours_and_a_twin_prompt() -> None:
    for sample in samples_of("swap", 5):
        a, b = sample.prompt.bindings
        assert a.attribute != b.attribute and sample.prompt.swapped not in (None, sample.prompt.text)


def test_twins_ask_for_each_others_colours() -> None:
    for name in ("pair", "swapped_pair"):
        for sample in samples_of(name, 3):
            assert sample.twin is not None and sample.twin.prompt.text == sample.prompt.swapped
            assert sample.twin.prompt.swapped == sample.prompt.text
            assert (sample.twin.settings, sample.twin.seed) == (sample.settings, sample.seed)
            assert not np.array_equal(sample.pixels, sample.twin.pixels)


def test_cells_have_four_seeds() -> None:
    for name in ("various", "alike"):
        (sample,) = samples_of(name, 1)
        assert [sample.seed, *(other.seed for other in sample.siblings)] == [0, 1, 2, 3]
        assert len({one.prompt for one in (sample, *sample.siblings)}) == 1


def test_burnt_pictures_are_the_plain_ones_burnt() -> None:
    for plain, burnt in zip(samples_of("plain", 3), samples_of("burnt", 3), strict=True):
        assert np.array_equal(burn(plain.pixels), burnt.pixels)


def test_colours_are_asked_and_drawn_or_not() -> None:
    red = COLOURS["red"]
    for name, near in (("red", True), ("not_red", False)):
        for sample in samples_of(name, 10):
            assert [b.attribute for b in sample.prompt.bindings] == ["red"]
            distance = np.abs(sample.pixels.astype(int) - red).sum(-1)
            assert ((distance < 60).mean() > 0.01) >= near


# The passports.


def test_a_perfect_judge() -> None:
    found = by_kind(outcomes())
    passport = found["binding"]
    assert (passport.sensitivity, passport.specificity, passport.youden, passport.auc) == (1, 1, 1, 1)
    assert passport.n == 6 * 20 and passport.detail["counts"] == [20, 0, 100, 0]
    assert (passport.sensitivity_low, passport.sensitivity_high) == wilson(20, 20)
    assert passport.detail["confusion"] == (20 * np.eye(6, dtype=int)).tolist()
    assert set(found) == {"binding", *(f"binding.{fault}" for fault in OUTCOMES[1:])}


def test_a_judge_with_known_errors() -> None:
    passport = by_kind(outcomes(errs=0.2), n=60)["binding"]
    assert passport.sensitivity_low <= 0.8 <= passport.sensitivity_high
    # Of the errors on faulty pictures, one in five says correct.
    assert passport.specificity_low <= 0.96 <= passport.specificity_high
    counts = np.array(passport.detail["confusion"])
    assert counts.sum(1).tolist() == [60] * 6
    labels = [str(o) for o in np.random.default_rng(0).choice(OUTCOMES, 200)]
    groups = [i % 20 for i in range(200)]
    shares = corrected_shares(labels, groups, counts, OUTCOMES, rng=np.random.default_rng(0), resamples=50)
    assert shares.estimate is not None and sum(shares.estimate) == pytest.approx(1)


def test_a_guessing_judge_gets_no_rate() -> None:
    rng = np.random.default_rng(2)
    passport = by_kind(Oracle(lambda sample: (float(rng.random() < 0.5), "correct")), n=40)["binding"]
    assert abs(passport.youden) < 0.4 and passport.auc == pytest.approx(0.5, abs=0.2)
    rate = corrected_rate([1, 0, 1, 1], ["a", "a", "b", "b"], passport, rng=np.random.default_rng(0))
    assert rate.estimate is None and "0.5" in str(rate.reason)


def test_a_good_judge_gets_a_corrected_rate() -> None:
    passport = by_kind(outcomes(errs=0.2), n=60)["binding"]
    said = [1.0, 0.0] * 50
    rate = corrected_rate(said, [i // 5 for i in range(100)], passport, rng=np.random.default_rng(0))
    expected = (0.5 + passport.specificity - 1) / passport.youden
    assert rate.estimate == pytest.approx(expected) and rate.low is not None and rate.high is not None
    assert rate.low <= rate.estimate <= rate.high


def test_a_judge_that_never_answers() -> None:
    passport = by_kind(Oracle(lambda sample: None), n=4)["binding"]
    assert (passport.n, passport.youden, passport.auc) == (0, -1, None)
    assert passport.detail["not_measured"] == 24 and "never measured" in passport.detail["reason"]
    rate = corrected_rate([1, 0], ["a", "b"], passport, rng=np.random.default_rng(0))
    assert rate.estimate is None and "measured nothing" in str(rate.reason)


def test_what_was_not_measured_is_left_out_and_counted() -> None:
    def say(sample: Sample) -> Any:
        return None if sample.image_id.endswith("0") else (float(truth(sample) == "correct"), truth(sample))

    passport = by_kind(Oracle(say), n=20)["binding.swap"]
    assert passport.n == 36 and passport.detail["not_measured"] == 4 and passport.youden == 1


def test_a_cut_is_found_on_other_pictures() -> None:
    seen = Oracle(lambda sample: 0.6 if truth(sample) == "correct" else 0.4, "clip_cosine")
    passport = by_kind(seen, n=10)["swap"]
    assert passport.detail["cut"] == pytest.approx(0.5) and passport.detail["cut_found"]
    assert (passport.n, passport.youden, passport.auc) == (20, 1, 1)
    assert len({sample.image_id for sample in seen.seen if truth(sample) == "swap"}) == 20, "10 to choose, 10 to judge"


def test_a_blind_measure_gains_nothing_from_its_cut() -> None:
    rng = np.random.default_rng(0)
    passport = by_kind(Oracle(lambda sample: float(rng.random()), "clip_cosine"), n=60)["swap"]
    assert abs(passport.youden) < 0.25


def test_families_ask_for_sets_that_exist() -> None:
    assert all(set((*question.yes, *question.no)) <= set(SETS) for question in QUESTIONS)
    assert len({(question.measure, question.name) for question in QUESTIONS}) == len(QUESTIONS)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        passports(outcomes(), n=1)


def test_untrained_judges_get_a_passport_too() -> None:
    found = by_kind(BindingOutcome(random_parser()), n=2)
    assert {"binding", "presence", "noun", *(f"colour.{colour}" for colour in COLOURS)} <= set(found)
    found |= by_kind(ClipContrast(f"local-dir:{random_clip()}"), n=6)
    assert 0 <= (found["swap.group"].auc or 0) <= 1
    for passport in found.values():
        json.dumps(passport.detail, allow_nan=False)


def test_burning_is_seen_in_the_pixels() -> None:
    found = by_kind(Exposure(), n=25)
    # Night and grass are colourful unburnt, so one picture alone does not tell; the same scene burnt always does.
    assert all((found[f"burn.{measure}"].auc or 0) > 0.7 for measure in ("mean_chroma", "p95_chroma", "clipped_share"))


# With the judges that ship.


def test_the_shipped_parser_may_report_binding() -> None:
    found = by_kind(shipped("binding"), n=25)
    assert found["binding"].youden > 0.5 and found["presence"].youden > 0.5 and found["noun"].youden > 0.5


def test_the_shipped_scorer_sees_binding() -> None:
    assert (by_kind(shipped("clip_contrast"), n=40)["swap"].auc or 0) > 0.75
