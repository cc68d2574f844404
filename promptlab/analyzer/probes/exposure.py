"""Colour and exposure: what guidance burns. Every measure is read off the pixels, no model is asked.

All of them depend on what the picture shows (a white canvas clips by design), so only differences at the same prompt
and seed, or the excess over a reference, mean anything.

References:
    Hasler and Suesstrunk 2003, Measuring Colourfulness in Natural Images (M3).
    Colorimetry, CIE 15:2004 (CIELAB). Peli 1990, Contrast in Complex Images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np

from promptlab.analyzer.judges import colour
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.records import Measure, Score

__all__ = ["Exposure", "load"]


def _mean_chroma(pixels: np.ndarray) -> float:
    return float(colour.chroma(colour.rgb_to_lab(pixels)).mean())


def _mean_luma(pixels: np.ndarray) -> float:
    return float((pixels @ (colour.LUMA / 255)).mean())


_CIE = "CIE 15:2004"
_READ: dict[Measure, Callable[[np.ndarray], float]] = {
    Measure(
        "colourfulness",
        "M3: 15 slightly, 33 moderately, 45 averagely, 59 quite, 82 highly, 109 extremely colourful",
        "",
        0,
        None,
        None,
        "Hasler and Suesstrunk 2003",
    ): lambda pixels: float(colour.colourfulness(pixels)),
    Measure("mean_chroma", "mean CIELAB chroma", "CIELAB", 0, 135, None, _CIE): _mean_chroma,
    Measure("p95_chroma", "95th percentile of CIELAB chroma", "CIELAB", 0, 135, None, _CIE): (
        lambda pixels: float(colour.p95_chroma(pixels))
    ),
    Measure("clipped_share", "share of pixels with a channel at 0 or 255", "share", 0, 1, False, "ours"): (
        lambda pixels: float(colour.clipped_share(pixels))
    ),
    Measure("rms_contrast", "standard deviation of luma", "", 0, 0.5, None, "Peli 1990"): (
        lambda pixels: float(colour.rms_contrast(pixels))
    ),
    Measure("mean_luma", "mean luma, BT.709 weights of rgb / 255", "", 0, 1, None, "ITU-R BT.709"): _mean_luma,
}


class Exposure:
    """Colourfulness, chroma, clipping, contrast and brightness of a picture."""

    name = "exposure"
    version = 1
    measures: tuple[Measure, ...] = tuple(_READ)
    needs: frozenset[Need] = frozenset()

    @cached_property
    def id(self) -> str:
        """See `Probe.id`."""
        return probe_id(self.name, self.version, {})

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Six scores a look, of the picture as a whole."""
        for sample in samples:
            for measure, read in _READ.items():
                value = read(sample.pixels)
                if measure.upper is not None:
                    value = min(value, measure.upper)  # rounding may leave a bound by 1e-16
                yield sample.score(self, measure.name, "", value)


def load() -> Exposure:
    """The probe; see `Exposure`."""
    return Exposure()
