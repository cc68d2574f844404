"""The probe: the largest difference of two neighbouring pixels of a row, as a share of the range of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from promptlab import Measure, Sample, Score
from promptlab.analyzer.passports import Question
from promptlab.analyzer.probes import probe_id

kind = "probe"


def load(channel: int = 0) -> Sharp:
    return Sharp(channel)


class Sharp:
    name = "sharp"
    version = 1
    measures = (Measure("sharpness", "largest difference of two neighbouring pixels", "share", 0, 1),)
    needs: frozenset[str] = frozenset()
    questions = (Question("burn.sharpness", "sharpness", ("burnt",), ("plain",), None),)

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.id = probe_id(self.name, self.version, {"channel": channel})

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        for sample in samples:
            grey = sample.pixels[..., self.channel].astype(int)
            yield sample.score(self, "sharpness", value=float(np.abs(np.diff(grey)).max()) / 255)
