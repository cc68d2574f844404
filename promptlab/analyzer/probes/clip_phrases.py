"""Cosine of the picture with each phrase of the prompt, and the least of its objects: a baseline for neglect.

A short text fits any text window, so phrases tell what a long prompt lost where the cosine of the whole cannot. Fillers
are left out, and so are bare attributes, which an object's phrase ("a red cup") contains.

References:
    Chefer et al. 2023, Attend-and-Excite: Attention-Based Semantic Guidance for Text-to-Image Diffusion Models
    (arXiv 2301.13826): the minimum over objects, which the neglected one sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from promptlab.analyzer.judges.clip import cosine, identity, load_clip
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.records import Measure, Score

__all__ = ["ClipPhrases", "load"]

_SOURCE = "Chefer et al. 2023 (arXiv 2301.13826)"


class ClipPhrases:
    """Raw cosine of picture and phrase.

    Args:
        model, checkpoint, prefix: see `promptlab.analyzer.judges.clip.load_clip`.
    """

    name = "clip_phrases"
    version = 1
    measures: tuple[Measure, ...] = (
        Measure("phrase_cosine", "cosine of picture and target phrase", "", -1, 1, True, _SOURCE),
        Measure("weakest_object", "least cosine of picture and an object's phrase", "", -1, 1, True, _SOURCE),
    )
    needs: frozenset[Need] = frozenset()

    def __init__(self, model: str = "miniature", checkpoint: str | Path | None = None, prefix: str = "") -> None:
        self._use = (model, checkpoint, prefix)

    @cached_property
    def id(self) -> str:
        """See `Probe.id`."""
        return probe_id(self.name, self.version, identity(*self._use))

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """One score a phrase, target its name; and one a look for the weakest object, target ""."""
        clip = load_clip(*self._use)
        pictures = clip.pictures({sample.image_id: sample.pixels for sample in samples})
        judge = {"model": clip.provenance["model"], "sha256": clip.provenance["sha256"]}
        for sample in samples:
            phrases = [p for p in sample.prompt.phrases if p.role in ("object", "phrase") and p.text.strip()]
            values = [cosine(pictures[sample.image_id], text) for text in clip.texts([p.text for p in phrases])]
            for phrase, value in zip(phrases, values, strict=True):
                detail = {**judge, "text": phrase.text, "truncated": clip.tokens(phrase.text).truncated}
                yield Score(sample.image_id, self.id, "phrase_cosine", phrase.name, value, detail=detail)
            objects = {p.name: v for p, v in zip(phrases, values, strict=True) if p.role == "object"}
            if objects:
                weakest = min(objects, key=lambda name: objects[name])
                detail = {**judge, "object": weakest}
                yield Score(sample.image_id, self.id, "weakest_object", "", objects[weakest], detail=detail)
            else:
                yield Score(sample.image_id, self.id, "weakest_object", reason="the prompt declares no object")


def load(model: str = "miniature", checkpoint: str | None = None, prefix: str = "") -> ClipPhrases:
    """The probe; see `ClipPhrases`."""
    return ClipPhrases(model, checkpoint, prefix)
