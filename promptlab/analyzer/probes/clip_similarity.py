"""Cosine of image and prompt under CLIP: the field's baseline, kept honest. It is no measure of binding.

The cosine is raw; its detail says under which model, weights and preprocessing it holds, how many tokens the prompt has
and whether the model missed its end. Compare only within a prompt and a model: levels differ between prompts for
reasons that have nothing to do with the image.

References:
    Hessel et al. 2021, CLIPScore: A Reference-free Evaluation Metric for Image Captioning (arXiv 2104.08718).
    Yuksekgonul et al. 2023, When and Why Vision-Language Models Behave like Bags-of-Words, and What to Do About It?
    (arXiv 2210.01936): why a right and a swapped image get nearly the same cosine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from promptlab.analyzer.judges.clip import Clip, Unit, cosine
from promptlab.analyzer.probe_bases import ClipProbe
from promptlab.analyzer.probes import Sample
from promptlab.records import Measure, Score

__all__ = ["ClipSimilarity", "load"]


class ClipSimilarity(ClipProbe):
    """Raw cosine of image and whole prompt: one score a sample, whose target is ""."""

    name = "clip_similarity"
    version = 1
    measures = (Measure("clip_cosine", "cosine of picture and prompt", "", -1, 1, True, "Hessel et al. 2021"),)

    def _texts(self, sample: Sample) -> list[str]:
        return [sample.prompt.text]

    def _judge(self, sample: Sample, clip: Clip, vectors: Mapping[str, Unit]) -> Iterator[Score]:
        if not sample.prompt.text:
            yield sample.score(self, "clip_cosine", reason="the prompt is empty")
            return
        length = clip.tokens(sample.prompt.text)
        detail = {**clip.provenance, "tokens": length.tokens, "truncated": length.truncated}
        value = cosine(vectors[sample.image_id], clip.texts(self._texts(sample))[0])
        yield sample.score(self, "clip_cosine", value=value, detail=detail)


def load(model: str = "miniature", checkpoint: str | None = None, prefix: str = "") -> ClipSimilarity:
    """The probe; see `ClipSimilarity`."""
    return ClipSimilarity(model, checkpoint, prefix)
