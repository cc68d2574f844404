"""The interaction contrast: does CLIP see that two images carry their colours the other way round?

    T, T'    the prompt and its twin, two attributes exchanged
    x, x'    images of T and T' from the same settings and seed, hence from the same initial noise
    s        cosine of an image and a text
    I        s(x, T) + s(x', T') - s(x, T') - s(x', T), -4..4

In I what a text gets from any image cancels, and what an image gets from any text: only their interaction is left.
It is 0 for a scorer that is blind to binding and for a generator that is, alike; so it says something about a generator
only if the scorer's passport is good. The default scorer is the miniature's own judge, which was taught binding.

Winoground's scores read the same four numbers by rank: text, each image prefers its own text; image, each text its
own image; group, both. Chance is 1/4, 1/4, 1/6.

References:
    Thrush et al. 2022, Winoground: Probing Vision and Language Models for Visio-Linguistic Compositionality
    (arXiv 2204.03162). The contrast, its matrix centred twice, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import Clip, Unit, cosine
from promptlab.analyzer.probe_bases import ClipProbe
from promptlab.analyzer.probes import Need, Sample
from promptlab.records import Measure, Score

__all__ = ["ClipContrast", "interaction", "load", "winoground"]

_SOURCE = "Thrush et al. 2022 (arXiv 2204.03162)"


def interaction(own: float, twin_own: float, crossed: float, twin_crossed: float) -> float:
    """I from s(x, T), s(x', T'), s(x, T') and s(x', T)."""
    return own + twin_own - crossed - twin_crossed


def winoground(own: float, twin_own: float, crossed: float, twin_crossed: float) -> tuple[bool, bool, bool]:
    """Text, image and group score, from the same four numbers in the same order. A tie is no preference."""
    text = own > crossed and twin_own > twin_crossed
    image = own > twin_crossed and twin_own > crossed
    return text, image, text and image


class ClipContrast(ClipProbe):
    """Interaction contrast and Winoground scores of an image and its twin: four scores a sample.

    The detail names the twin: as a target it would part what belongs together.
    """

    name = "clip_contrast"
    version = 1
    measures = (
        Measure("binding_contrast", "interaction of two pictures and their two prompts", "", -4, 4, True, _SOURCE),
        Measure("winoground_text", "each picture prefers its own prompt", "1 or 0", 0, 1, True, _SOURCE),
        Measure("winoground_image", "each prompt prefers its own picture", "1 or 0", 0, 1, True, _SOURCE),
        Measure("winoground_group", "both hold", "1 or 0", 0, 1, True, _SOURCE),
    )
    needs: frozenset[Need] = frozenset({"twin"})

    def _images(self, samples: Sequence[Sample]) -> dict[str, NDArray[Any]]:
        pairs = [(sample, sample.twin) for sample in samples if sample.twin is not None]
        return {one.image_id: one.pixels for pair in pairs for one in pair}

    def _texts(self, sample: Sample) -> list[str]:
        return [sample.prompt.text, sample.twin.prompt.text] if sample.twin else []

    def _judge(self, sample: Sample, clip: Clip, vectors: Mapping[str, Unit]) -> Iterator[Score]:
        twin = sample.twin
        if twin is None:
            swapped = sample.prompt.swapped
            reason = "the prompt has no two attributes to exchange"
            if swapped is not None:
                reason = f"no picture of the twin prompt {swapped!r} at the same settings and seed"
            for measure in self.measures:
                yield sample.score(self, measure.name, reason=reason)
            return
        four = _four(vectors[sample.image_id], vectors[twin.image_id], *clip.texts(self._texts(sample)))
        detail = {
            **self._judge_of(clip),
            "twin": twin.image_id,
            "cosines": [round(s, 6) for s in four],
            "truncated": any(clip.tokens(text).truncated for text in self._texts(sample)),
        }
        yield sample.score(self, "binding_contrast", "", interaction(*four), detail=detail)
        for measure, held in zip(self.measures[1:], winoground(*four), strict=True):
            yield sample.score(self, measure.name, "", float(held))


def _four(picture: Unit, twin: Unit, text: Unit, swapped: Unit) -> tuple[float, float, float, float]:
    return cosine(picture, text), cosine(twin, swapped), cosine(picture, swapped), cosine(twin, text)


def load(model: str = "miniature-scorer", checkpoint: str | None = None, prefix: str = "") -> ClipContrast:
    """The probe; see `ClipContrast`."""
    return ClipContrast(model, checkpoint, prefix)
