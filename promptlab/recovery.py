"""Does correction recover rates that the probe was not told? The proof of a passport, on drawn pictures.

For each trial, rates of swap, leak and neglect are drawn (uniform over all triples that sum to at most `MOST`), and so
many pictures are drawn with faults at these rates. The probe says the outcome of each; its word, corrected by its
confusion matrix on other pictures, is held against the rates.

    said        share of pictures that the probe calls so, with an interval over pictures: uncorrected
    corrected   the rate behind it (`calibration.corrected_shares`), with an interval over pictures and calibration
    covered     whether the interval holds the true rate: at 95 %, 19 of 20 are expected, and 18 or more come with
                chance 0.92

Each picture has a prompt of its own. Faults that no outcome counts lie on top, as in calibration.

References:
    Rogan and Gladen 1978, as in `promptlab.calibration`. The trial is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from promptlab.calibration import corrected_shares
from promptlab.miniature.faults import FaultRates, render_with_faults
from promptlab.passports import confusion_of
from promptlab.probes import Look, Probe
from promptlab.progress import Progress, Silent
from promptlab.records import OUTCOMES, Settings
from promptlab.stats import mean_interval
from promptlab.truth import ON_TOP, prompt_of, scene_of_two

__all__ = ["FAULTS", "Recovered", "hidden_rates", "recover"]

FAULTS = ("swap", "leak", "neglect")
MOST = 0.8
BATCH = 64


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
    looks = []
    for i in range(n):
        scene = scene_of_two(rng)
        pixels = render_with_faults(scene, FaultRates(**ON_TOP, **rates), rng)[0].image
        height, width = pixels.shape[:2]
        looks.append(Look(f"hidden-{i}", pixels, prompt_of(scene), Settings(height=height, width=width), 0))
    for start in range(0, n, BATCH):
        batch = looks[start : start + BATCH]
        said = {score.image: score.label for score in probe.score(batch) if score.measure == "correct"}
        yield from (said.get(look.image_id) for look in batch)
