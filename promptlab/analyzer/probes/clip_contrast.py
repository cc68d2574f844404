"""The interaction contrast: does CLIP see that two pictures carry their colours the other way round?

    T, T'    the prompt and its twin, two attributes exchanged
    x, x'    pictures of T and T' from the same settings and seed, hence from the same initial noise
    s        cosine of a picture and a text
    I        s(x, T) + s(x', T') - s(x, T') - s(x', T), -4..4

In I what a text gets from any picture cancels, and what a picture gets from any text: only their interaction is left.
It is 0 for a scorer that is blind to binding and for a generator that is, alike; so it says something about a generator
only if the scorer's passport is good. The default scorer is the miniature's own judge, which was taught binding.

Winoground's scores read the same four numbers by rank: text, each picture prefers its own text; image, each text its
own picture; group, both. Chance is 1/4, 1/4, 1/6.

References:
    Thrush et al. 2022, Winoground: Probing Vision and Language Models for Visio-Linguistic Compositionality
    (arXiv 2204.03162). The contrast, its matrix centred twice, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from promptlab.analyzer.judges.clip import Unit, cosine, identity, load_clip
from promptlab.analyzer.probes import Need, Sample, probe_id
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


class ClipContrast:
    """Interaction contrast and Winoground scores of a picture and its twin.

    Args:
        model, checkpoint, prefix: see `promptlab.analyzer.judges.clip.load_clip`.
    """

    name = "clip_contrast"
    version = 1
    measures: tuple[Measure, ...] = (
        Measure("binding_contrast", "interaction of two pictures and their two prompts", "", -4, 4, True, _SOURCE),
        Measure("winoground_text", "each picture prefers its own prompt", "1 or 0", 0, 1, True, _SOURCE),
        Measure("winoground_image", "each prompt prefers its own picture", "1 or 0", 0, 1, True, _SOURCE),
        Measure("winoground_group", "both hold", "1 or 0", 0, 1, True, _SOURCE),
    )
    needs: frozenset[Need] = frozenset({"twin"})

    def __init__(self, model: str = "miniature-scorer", checkpoint: str | Path | None = None, prefix: str = "") -> None:
        self._use = (model, checkpoint, prefix)

    @cached_property
    def id(self) -> str:
        """See `Probe.id`."""
        return probe_id(self.name, self.version, identity(*self._use))

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Four scores a look. The detail names the twin: as a target it would part what belongs together."""
        clip = load_clip(*self._use)
        pairs = [(sample, sample.twin) for sample in samples if sample.twin is not None]
        pictures = clip.pictures({one.image_id: one.pixels for pair in pairs for one in pair})
        judge = {"model": clip.provenance["model"], "sha256": clip.provenance["sha256"]}
        for sample in samples:
            twin = sample.twin
            if twin is None:
                swapped = sample.prompt.swapped
                reason = "the prompt has no two attributes to exchange"
                if swapped is not None:
                    reason = f"no picture of the twin prompt {swapped!r} at the same settings and seed"
                for measure in self.measures:
                    yield Score(sample.image_id, self.id, measure.name, reason=reason)
                continue
            mine, other = clip.texts([sample.prompt.text, twin.prompt.text])
            four = _four(pictures[sample.image_id], pictures[twin.image_id], mine, other)
            detail = {
                **judge,
                "twin": twin.image_id,
                "cosines": [round(s, 6) for s in four],
                "truncated": any(clip.tokens(one.prompt.text).truncated for one in (sample, twin)),
            }
            yield Score(sample.image_id, self.id, "binding_contrast", "", interaction(*four), detail=detail)
            for measure, held in zip(self.measures[1:], winoground(*four), strict=True):
                yield Score(sample.image_id, self.id, measure.name, "", float(held))


def _four(picture: Unit, twin: Unit, text: Unit, swapped: Unit) -> tuple[float, float, float, float]:
    return cosine(picture, text), cosine(twin, swapped), cosine(picture, swapped), cosine(twin, text)


def load(model: str = "miniature-scorer", checkpoint: str | None = None, prefix: str = "") -> ClipContrast:
    """The probe; see `ClipContrast`."""
    return ClipContrast(model, checkpoint, prefix)
