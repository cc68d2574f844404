"""Passports: how well a probe does on images whose truth is known, before it may report a rate.

A *question* to a probe is a measure, images of which the answer is yes, and images of which it is no. A measure of 1
and 0 says yes above 0.5, the interaction contrast above 0. For other measures the cut with the highest Youden's J is
chosen on images of their own, and judged on others. An answer of None is left out, and counted.

    Se, Sp   shares of yes-images and no-images that are answered rightly, with Wilson intervals
    J        Se + Sp - 1, with Newcombe's interval; below 0.5 no rate is corrected
    AUC      chance that a yes-image has the higher value, with DeLong's interval

The question `binding` of a probe that tells outcomes carries the confusion matrix, rows of truth, in its detail.
A passport holds for the renderer's images and for what resembles them. It does not carry over to photographs.

`recover` is the proof of a passport: does correction recover rates that the probe was not told? For each trial, rates
of swap, leak and neglect are drawn (uniform over all triples that sum to at most `MOST`), then images with faults at
these rates, each of a prompt of its own. The probe says the outcome of each; its word, corrected by its
confusion matrix on other images, is held against the rates. Faults that no outcome counts lie on top, as in
calibration.

    said        share of images that the probe calls so, with an interval over images: uncorrected
    corrected   the rate behind it (`calibration.corrected_shares`), with an interval over images and calibration
    covered     whether the interval holds the true rate: at 95 %, 19 of 20 are expected, and 18 or more come with
                chance 0.92

References:
    Estimating Prevalence from the Results of a Screening Test, Rogan and Gladen 1978.
    Probable Inference, the Law of Succession, and Statistical Inference, Wilson 1927.
    Index for Rating Diagnostic Tests, Youden 1950. The trial of `recover` is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from promptlab.analyzer.known_truth import ON_TOP, prompt_of, samples_of, scene_of_two
from promptlab.analyzer.probes import Probe, Sample
from promptlab.miniature.faults import FaultRates, render_with_faults
from promptlab.miniature.world import COLOURS
from promptlab.progress import Progress, Silent
from promptlab.records import OUTCOMES, Passport, Score, Settings
from promptlab.stats.calibration import (
    Accuracy,
    auc,
    auc_interval,
    corrected_shares,
    sensitivity_specificity,
    youden_interval,
)
from promptlab.stats.calibration import corrected_rate as corrected
from promptlab.stats.paired import Interval, mean_interval
from promptlab.stats.resampling import Groups, Values

__all__ = [
    "FAULTS",
    "QUESTIONS",
    "Question",
    "Recovered",
    "accuracy_of",
    "confusion_of",
    "corrected_rate",
    "hidden_rates",
    "passports",
    "recover",
]

BATCH = 64


@dataclass(frozen=True)
class Question:
    """Does `measure` tell the sets `yes` from the sets `no`? `cut` is None where it has to be found."""

    name: str
    measure: str
    yes: tuple[str, ...]
    no: tuple[str, ...]
    cut: float | None = 0.5


QUESTIONS = (
    Question("binding", "correct", ("correct",), OUTCOMES[1:]),
    *(Question(f"binding.{fault}", "correct", ("correct",), (fault,)) for fault in OUTCOMES[1:]),
    *(Question(fault, fault, (fault,), tuple(o for o in OUTCOMES if o != fault)) for fault in OUTCOMES[1:]),
    Question("presence", "both_present", ("correct", "swap", "leak", "other"), ("neglect",)),
    Question("noun", "noun", ("noun",), ("no_noun",)),
    *(Question(f"colour.{colour}", "colour", (colour,), (f"not_{colour}",)) for colour in COLOURS),
    Question("swap", "binding_contrast", ("pair",), ("swapped_pair",), 0.0),
    *(
        Question(f"swap.{part}", f"winoground_{part}", ("pair",), ("swapped_pair",))
        for part in ("text", "image", "group")
    ),
    Question("noun", "vqa_noun", ("noun",), ("no_noun",)),
    *(Question(f"colour.{colour}", "vqa_yes", (colour,), (f"not_{colour}",)) for colour in COLOURS),
    Question("swap.contrast", "vqa_contrast", ("correct",), ("swap",), 0.0),
    Question("swap.product", "blip_vqa", ("correct",), ("swap",), None),
    Question("neglect.product", "blip_vqa", ("correct",), ("neglect",), None),
    Question("swap", "vqascore", ("correct",), ("swap",), None),
    Question("neglect", "vqascore", ("correct",), ("neglect",), None),
    Question("swap.contrast", "vqascore_contrast", ("correct",), ("swap",), 0.0),
    Question("swap", "clip_cosine", ("correct",), ("swap",), None),
    Question("neglect", "clip_cosine", ("correct",), ("neglect",), None),
    Question("swap.weakest", "weakest_object", ("correct",), ("swap",), None),
    Question("neglect.weakest", "weakest_object", ("correct",), ("neglect",), None),
    *(
        Question(f"burn.{measure}", measure, ("burnt",), ("plain",), None)
        for measure in ("colourfulness", "mean_chroma", "p95_chroma", "clipped_share", "rms_contrast")
    ),
    *(
        Question(f"variety.{measure}", measure, ("various",), ("alike",), None)
        for measure in ("seed_distance", "vendi", "scene_entropy", "object_entropy")
    ),
)
"""Every question; a probe is asked those about its measures."""


def passports(probe: Probe, n: int = 400, seed: int = 0, progress: Progress | None = None) -> tuple[Passport, ...]:
    """A passport for each question that the probe's measures belong to, from `n` pictures of each set.

    Where a cut has to be found, `n` further pictures of each set are drawn. A probe without such measures has none. A
    probe from outside may bring questions of its own, as its attribute `questions`.
    `progress` is told of one stage, its steps pictures.
    Raises ModelError when the probe's model is missing, ValueError for n below 2.
    """
    if n < 2:
        raise ValueError(f"n is {n}: at least 2 pictures of each set are needed, 400 for intervals of about 0.03")
    measures = {measure.name for measure in probe.measures}
    questions = [
        question for question in (*QUESTIONS, *getattr(probe, "questions", ())) if question.measure in measures
    ]
    twice = {name for question in questions if question.cut is None for name in (*question.yes, *question.no)}
    names = dict.fromkeys(name for question in questions for name in (*question.yes, *question.no))
    sizes = {name: 2 * n if name in twice else n for name in names}
    told, _ = progress or Silent(), probe.id  # a probe whose judge is missing says so before a stage begins
    if sizes:
        told.stage(f"passport of {probe.name}", sum(sizes.values()))
    answers = {name: list(_answers(probe, name, size, seed, told)) for name, size in sizes.items()}
    return tuple(_passport(probe, question, answers, n) for question in questions)


_Answers = dict[str, Score]


def _answers(probe: Probe, name: str, n: int, seed: int, told: Progress) -> Iterator[_Answers]:
    """For each picture of a set, the probe's score by measure (the first, where there are several targets)."""
    samples = samples_of(name, n, seed)
    while batch := list(islice(samples, BATCH)):
        found: dict[str, _Answers] = {sample.image_id: {} for sample in batch}
        for score in probe.score(batch):
            found[score.image].setdefault(score.measure, score)
        told.step(len(batch))
        yield from found.values()


def _values(answers: dict[str, list[_Answers]], question: Question, part: slice) -> tuple[list[float], list[int], int]:
    """Values that were measured, their truth, and how many were not measured."""
    values, truth, dropped = [], [], 0
    for so, names in ((1, question.yes), (0, question.no)):
        for name in names:
            for answer in answers[name][part]:
                score = answer.get(question.measure)
                if score is None or score.value is None:
                    dropped += 1
                    continue
                values.append(score.value)
                truth.append(so)
    return values, truth, dropped


def _best_cut(values: list[float], truth: list[int]) -> float:
    """The cut with the highest J, halfway between two values; half the mean where one truth has no value."""
    x, so = np.asarray(values), np.asarray(truth, bool)
    levels = np.unique(x)
    if so.all() or not so.any() or len(levels) < 2:
        return float(x.mean()) if len(x) else 0.0
    cuts = (levels[1:] + levels[:-1]) / 2
    above = 1 - np.searchsorted(np.sort(x[so]), cuts, side="right") / so.sum()
    below = np.searchsorted(np.sort(x[~so]), cuts, side="right") / (~so).sum()
    return float(cuts[int(np.argmax(above + below))])


def _passport(probe: Probe, question: Question, answers: dict[str, list[_Answers]], n: int) -> Passport:
    cut = question.cut
    judged = slice(0, n)
    if cut is None:
        values, truth, _ = _values(answers, question, slice(n, None))
        cut = _best_cut(values, truth)
    values, truth, dropped = _values(answers, question, judged)
    detail: dict[str, Any] = {
        "measure": question.measure,
        "yes": list(question.yes),
        "no": list(question.no),
        "cut": cut,
        "cut_found": question.cut is None,
        "not_measured": dropped,
        "on_top": ON_TOP,
    }
    if question.name == "binding":
        detail |= _confusion(answers, n)
    if len(set(truth)) < 2:
        detail["reason"] = "one of the two truths was never measured"
        return Passport(probe.name, probe.id, question.name, len(values), 0, 0, 1, 0, 0, 1, -1, None, detail)
    found = sensitivity_specificity([float(value > cut) for value in values], truth)
    area = auc(values, truth)
    detail["auc_interval"] = list(auc_interval(values, truth))
    bounds = (found.sensitivity_low, found.sensitivity_high), (found.specificity_low, found.specificity_high)
    detail["youden_interval"] = list(youden_interval(found.sensitivity, found.specificity, *bounds))
    detail["counts"] = [found.true_positives, found.false_negatives, found.true_negatives, found.false_positives]
    return Passport(
        probe.name,
        probe.id,
        question.name,
        found.n,
        found.sensitivity,
        found.sensitivity_low,
        found.sensitivity_high,
        found.specificity,
        found.specificity_low,
        found.specificity_high,
        found.youden,
        area,
        detail,
    )


def confusion_of(probe: Probe, n: int, seed: int = 0, progress: Progress | None = None) -> list[list[int]]:
    """Counts of the outcomes said (columns) for each true one (rows), in the order of `OUTCOMES`, n pictures a row.

    `progress` is told of steps, one a picture.
    """
    answers = {truth: list(_answers(probe, truth, n, seed, progress or Silent())) for truth in OUTCOMES}
    counts: list[list[int]] = _confusion(answers, n)["confusion"]
    return counts


def _confusion(answers: dict[str, list[_Answers]], n: int) -> dict[str, Any]:
    """Counts of outcomes said (columns) for each true one (rows), for `calibration.corrected_shares`."""
    counts = [[0] * len(OUTCOMES) for _ in OUTCOMES]
    for row, truth in zip(counts, OUTCOMES, strict=True):
        for answer in answers[truth][:n]:
            label = answer["correct"].label
            if label is not None:
                row[OUTCOMES.index(label)] += 1
    return {"classes": list(OUTCOMES), "confusion": counts}


def accuracy_of(passport: Passport) -> Accuracy:
    """The passport as `calibration` reads it. Raises ValueError for one that measured nothing."""
    counts = passport.detail.get("counts")
    if counts is None:
        raise ValueError(f"the passport {passport.kind!r} of {passport.probe} measured nothing")
    true_positives, false_negatives, true_negatives, false_positives = counts
    return Accuracy(
        true_positives,
        false_negatives,
        true_negatives,
        false_positives,
        passport.sensitivity,
        passport.sensitivity_low,
        passport.sensitivity_high,
        passport.specificity,
        passport.specificity_low,
        passport.specificity_high,
    )


def corrected_rate(said: Values, groups: Groups, passport: Passport, *, rng: np.random.Generator) -> Interval:
    """The rate behind what a probe `said` (0, 1 or None) of pictures of the prompts `groups`, by Rogan and Gladen.

    Prompts and calibration pictures are both resampled. Below J = 0.5 the estimate is None, with the reason.
    """
    if "counts" not in passport.detail:
        reason = f"the passport {passport.kind!r} of {passport.probe} measured nothing"
        return Interval(None, None, None, 0, 0, len(said), "none", 0.95, reason)
    return corrected(said, groups, accuracy_of(passport), rng=rng)


FAULTS = ("swap", "leak", "neglect")
MOST = 0.8


@dataclass(frozen=True)
class Recovered:
    """One fault of one trial: the true rate, what the probe said, and what correction made of it, with intervals.

    The corrected numbers are None where the probe is too weak to be corrected; `reason` says so.
    """

    trial: int
    fault: str
    rate: float
    n: int
    said: float
    said_low: float
    said_high: float
    corrected: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    @property
    def said_covers(self) -> bool:
        """Whether the uncorrected interval holds the true rate."""
        return self.said_low <= self.rate <= self.said_high

    @property
    def covers(self) -> bool | None:
        """Whether the corrected interval holds the true rate."""
        return None if self.low is None or self.high is None else self.low <= self.rate <= self.high


def hidden_rates(rng: np.random.Generator) -> dict[str, float]:
    """Rates of `FAULTS`, uniform over all triples whose sum is at most `MOST`."""
    shares = rng.dirichlet(np.ones(len(FAULTS) + 1)) * MOST
    return dict(zip(FAULTS, map(float, shares), strict=False))


def recover(
    probe: Probe,
    *,
    trials: int = 20,
    pictures: int = 200,
    calibration: int = 400,
    seed: int = 0,
    resamples: int = 2000,
    progress: Progress | None = None,
) -> Iterator[Recovered]:
    """A row for each trial and fault, as they are ready; `progress` is told of one stage, its steps pictures.

    Arguments:
        pictures: drawn in each trial.
        calibration: pictures of each outcome behind the confusion matrix; others than those of any trial.

    Raises ValueError for a probe that tells no outcome, ModelError where its judge is missing.
    """
    if "correct" not in {measure.name for measure in probe.measures}:
        raise ValueError(f"{probe.name} tells no outcome of binding: there is no rate to recover")
    if trials < 1 or pictures < 20:
        raise ValueError(f"{trials} trials of {pictures} pictures: at least 1 of 20 are needed")
    told = progress or Silent()
    told.stage(f"{probe.name}, hidden rates", len(OUTCOMES) * calibration + trials * pictures)
    counts = np.array(confusion_of(probe, calibration, seed, told))
    for trial in range(trials):
        rng = np.random.default_rng([seed, 7, trial])
        rates = hidden_rates(rng)
        labels = list(_said(probe, rates, pictures, rng))
        told.step(pictures)
        groups = list(range(len(labels)))
        shares = corrected_shares(labels, groups, counts, OUTCOMES, rng=rng, resamples=resamples)
        for fault, rate in rates.items():
            hits = [None if label is None else float(label == fault) for label in labels]
            raw = mean_interval(hits, groups, rng=rng, resamples=resamples)
            if raw.estimate is None or raw.low is None or raw.high is None:
                raise ValueError(f"{probe.name} told the outcome of no picture: {shares.reason}")
            i = OUTCOMES.index(fault)
            corrected, low, high = (
                None if part is None else part[i] for part in (shares.estimate, shares.low, shares.high)
            )
            yield Recovered(
                trial, fault, rate, raw.n, raw.estimate, raw.low, raw.high, corrected, low, high, shares.reason
            )


def _said(probe: Probe, rates: dict[str, float], n: int, rng: np.random.Generator) -> Iterator[str | None]:
    """The outcome that the probe says of each of `n` pictures with faults at these rates; it sees pictures alone."""
    samples = []
    for i in range(n):
        scene = scene_of_two(rng)
        pixels = render_with_faults(scene, FaultRates(**ON_TOP, **rates), rng)[0].image
        height, width = pixels.shape[:2]
        samples.append(Sample(f"hidden-{i}", pixels, prompt_of(scene), Settings(height=height, width=width), 0))
    for start in range(0, n, BATCH):
        batch = samples[start : start + BATCH]
        said = {score.image: score.label for score in probe.score(batch) if score.measure == "correct"}
        yield from (said.get(sample.image_id) for sample in batch)
