"""Cosine of picture and prompt under CLIP: the field's baseline, kept honest. It is no measure of binding.

The cosine is raw; its detail says under which model, weights and preprocessing it holds, how many tokens the prompt has
and whether the model missed its end. Compare only within a prompt and a model: levels differ between prompts for
reasons that have nothing to do with the picture.

References:
    Hessel et al. 2021, CLIPScore: A Reference-free Evaluation Metric for Image Captioning (arXiv 2104.08718).
    Yuksekgonul et al. 2023, When and Why Vision-Language Models Behave like Bags-of-Words, and What to Do About It?
    (arXiv 2210.01936): why a right and a swapped picture get nearly the same cosine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from promptlab.analyzer.judges.clip import cosine, identity, load_clip
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.records import Measure, Score

__all__ = ["ClipSimilarity", "load"]


class ClipSimilarity:
    """Raw cosine of picture and whole prompt.

    Args:
        model, checkpoint, prefix: see `promptlab.analyzer.judges.clip.load_clip`.
    """

    name = "clip_similarity"
    version = 1
    measures: tuple[Measure, ...] = (
        Measure("clip_cosine", "cosine of picture and prompt", "", -1, 1, True, "Hessel et al. 2021"),
    )
    needs: frozenset[Need] = frozenset()

    def __init__(self, model: str = "miniature", checkpoint: str | Path | None = None, prefix: str = "") -> None:
        self._use = (model, checkpoint, prefix)

    @cached_property
    def id(self) -> str:
        """See `Probe.id`."""
        return probe_id(self.name, self.version, identity(*self._use))

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """One score a look; the target is "", the prompt as a whole."""
        clip = load_clip(*self._use)
        pictures = clip.pictures({sample.image_id: sample.pixels for sample in samples})
        texts = clip.texts([sample.prompt.text for sample in samples])
        for sample, text in zip(samples, texts, strict=True):
            if not sample.prompt.text:
                yield Score(sample.image_id, self.id, "clip_cosine", reason="the prompt is empty")
                continue
            length = clip.tokens(sample.prompt.text)
            detail = {**clip.provenance, "tokens": length.tokens, "truncated": length.truncated}
            value = cosine(pictures[sample.image_id], text)
            yield Score(sample.image_id, self.id, "clip_cosine", value=value, detail=detail)


def load(model: str = "miniature", checkpoint: str | None = None, prefix: str = "") -> ClipSimilarity:
    """The probe; see `ClipSimilarity`."""
    return ClipSimilarity(model, checkpoint, prefix)
