"""Detector: boxes for every noun of the prompt, colours inside them, and the outcome of binding that follows.

TIAM's design on a detector that is asked in words, OWLv2 or Grounding DINO: each noun by itself, so that what one noun
finds cannot depend on which others are asked; boxes through the processor's own post-processing; colours by nearest
CIELAB prototype; then the rule of `promptlab.analyzer.probes.binding`. The colour is that of the box's ellipse, not
of a mask,
so thin things on a loud ground are named badly: the passport says how badly, on drawn pictures. What a detector does
not find may be there: *neglect* is its word, and it cannot tell *fused*.

References:
    Grimal et al. 2024, TIAM (arXiv 2307.05134). Minderer et al. 2023, Scaling Open-Vocabulary Object Detection (OWLv2,
    arXiv 2306.09683). Liu et al. 2023, Grounding DINO (arXiv 2303.05499).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from promptlab.analyzer.judges.boxes import BASIC_COLOURS, Detection, asked_of, colour_of, read_outcome, suppress
from promptlab.analyzer.judges.outcomes import NOUN_AND_COLOUR, WHOLE, outcome_scores
from promptlab.analyzer.judges.vqa import Judge, identity, open_judge
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.records import Score

__all__ = ["MODEL", "Detector", "load"]

MODEL = "google/owlv2-base-patch16-ensemble"
KINDS = ("owlv2", "owlvit", "grounding-dino")


class Detector:
    """Presence, colour and the outcome of binding by open-vocabulary detection.

    Args:
        model: a folder or OWNER/NAME[@REVISION] in the hub's cache: OWLv2, OWL-ViT or Grounding DINO.
        threshold: confidence above which a box counts, 0..1.
        least: share of a thing's pixels that its colour must have, 0..1.
    """

    name = "detector"
    version = 1
    measures = (*WHOLE, *NOUN_AND_COLOUR)
    needs: frozenset[Need] = frozenset()
    accelerated = True

    def __init__(self, model: str = MODEL, threshold: float = 0.25, least: float = 0.4) -> None:
        self._model, self._threshold, self._least = model, threshold, least

    @cached_property
    def id(self) -> str:
        """See `Probe.id`; the judge's files and both thresholds are part of it."""
        options = {**identity(self._model), "threshold": self._threshold, "least": self._least}
        return probe_id(self.name, self.version, options)

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Scores; the target is the object's name, or "" for the prompt as a whole."""
        for sample in samples:
            asked = asked_of(sample.prompt)
            if not asked:
                yield sample.score(self, "correct", reason="the prompt declares no object")
                continue
            found = self.detections(sample, list(dict.fromkeys(binding.noun for binding in asked)))
            said, taken = read_outcome(asked, found, sample.pixels.shape)
            strange = [b.attribute for b in asked if b.attribute is not None and b.attribute not in BASIC_COLOURS]
            why = f"no basic colour: {', '.join(strange)} ({', '.join(BASIC_COLOURS)} are)" if strange else None
            if len(asked) > 1:
                told = None if why else said
                yield from outcome_scores(self, sample, told, why, {"found": [_plain(f) for f in found]})
            for binding, thing in zip(asked, taken, strict=True):
                there = float(thing is not None)
                detail = {"box": list(thing.box), "confidence": round(thing.noun_certainty, 4)} if thing else {}
                yield sample.score(self, "noun", binding.object, there, detail=detail)
                if binding.attribute is None:
                    continue
                reason = None if thing else f"no {binding.noun} was found"
                if binding.attribute not in BASIC_COLOURS:
                    reason = f"{binding.attribute!r} is no basic colour: {', '.join(BASIC_COLOURS)}"
                if reason or thing is None:
                    yield sample.score(self, "colour", binding.object, reason=reason)
                else:
                    right = float(thing.colour == binding.attribute)
                    yield sample.score(self, "colour", binding.object, right, thing.colour)

    @cached_property
    def _opened(self) -> Judge:
        return open_judge(self._model, "AutoModelForZeroShotObjectDetection", KINDS)

    def detections(self, sample: Sample, nouns: Sequence[str]) -> tuple[Detection, ...]:
        """What is found of each noun, in its colour, most confident first. Raises ModelError."""
        found = suppress(one for noun in nouns for one in self._boxes(sample, noun))
        return tuple(replace(one, colour=colour_of(sample.pixels, one.box, least=self._least)[0]) for one in found)

    def _boxes(self, sample: Sample, noun: str) -> Iterator[Detection]:
        import torch
        from PIL import Image

        judge = self._opened
        dino = judge.model.config.model_type == "grounding-dino"
        # Each detector was trained on its own wording: a caption that ends in a full stop, a photo's description.
        text: Any = f"{noun}." if dino else [[f"a photo of {_an(noun)}"]]
        picture = Image.fromarray(sample.pixels)
        inputs = judge.processor(text=text, images=picture, return_tensors="pt").to(judge.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(judge.model.dtype)
        with torch.inference_mode():
            outputs = judge.model(**inputs)
        more = {"input_ids": inputs["input_ids"], "text_threshold": self._threshold} if dino else {}
        (result,) = judge.processor.post_process_grounded_object_detection(
            outputs, threshold=self._threshold, target_sizes=[sample.pixels.shape[:2]], **more
        )
        for score, box in zip(result["scores"].float().tolist(), result["boxes"].float().tolist(), strict=True):
            if min(box[2] - box[0], box[3] - box[1]) >= 1:  # less than a pixel shows nothing
                yield Detection(noun, score, (box[0], box[1], box[2], box[3]))


def _an(noun: str) -> str:
    from promptlab.study.prompts import article

    return f"{article(noun)} {noun}"


def _plain(one: Detection) -> dict[str, Any]:
    box = [round(side, 1) for side in one.box]
    return {"noun": one.noun, "colour": one.colour, "confidence": round(one.score, 4), "box": box}


def load(model: str = MODEL, threshold: float = 0.25, least: float = 0.4) -> Detector:
    """The probe; see `Detector`."""
    return Detector(model, threshold, least)
