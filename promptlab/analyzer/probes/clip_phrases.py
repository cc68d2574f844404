"""Cosine of the image with each phrase of the prompt, and the least of its objects: a baseline for neglect.

A short text fits any text window, so phrases tell what a long prompt lost where the cosine of the whole cannot. Fillers
are left out, and so are bare attributes, which an object's phrase ("a red cup") contains.

References:
    Chefer et al. 2023, Attend-and-Excite: Attention-Based Semantic Guidance for Text-to-Image Diffusion Models
    (arXiv 2301.13826): the minimum over objects, which the neglected one sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from promptlab.analyzer.judges.clip import Clip, Unit, cosine
from promptlab.analyzer.probe_bases import ClipProbe
from promptlab.analyzer.probes import Sample
from promptlab.records import Measure, Phrase, Score

__all__ = ["ClipPhrases", "load"]

_SOURCE = "Chefer et al. 2023 (arXiv 2301.13826)"


class ClipPhrases(ClipProbe):
    """Raw cosine of image and phrase: one score a phrase, whose name is the target, and one for the weakest object."""

    name = "clip_phrases"
    version = 1
    measures = (
        Measure("phrase_cosine", "cosine of picture and target phrase", "", -1, 1, True, _SOURCE),
        Measure("weakest_object", "least cosine of picture and an object's phrase", "", -1, 1, True, _SOURCE),
    )

    def _texts(self, sample: Sample) -> list[str]:
        return [phrase.text for phrase in _phrases(sample)]

    def _judge(self, sample: Sample, clip: Clip, vectors: Mapping[str, Unit]) -> Iterator[Score]:
        judge, phrases = self._judge_of(clip), _phrases(sample)
        values = [cosine(vectors[sample.image_id], text) for text in clip.texts(self._texts(sample))]
        for phrase, value in zip(phrases, values, strict=True):
            detail = {**judge, "text": phrase.text, "truncated": clip.tokens(phrase.text).truncated}
            yield sample.score(self, "phrase_cosine", phrase.name, value, detail=detail)
        objects = {p.name: v for p, v in zip(phrases, values, strict=True) if p.role == "object"}
        if objects:
            weakest = min(objects, key=lambda name: objects[name])
            detail = {**judge, "object": weakest}
            yield sample.score(self, "weakest_object", "", objects[weakest], detail=detail)
        else:
            yield sample.score(self, "weakest_object", reason="the prompt declares no object")


def _phrases(sample: Sample) -> list[Phrase]:
    return [p for p in sample.prompt.phrases if p.role in ("object", "phrase") and p.text.strip()]


def load(model: str = "miniature", checkpoint: str | None = None, prefix: str = "") -> ClipPhrases:
    """The probe; see `ClipPhrases`."""
    return ClipPhrases(model, checkpoint, prefix)
