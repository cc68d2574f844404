"""Does a colour word act on its own object? The same picture without the word, on a traced subset.

    change(w, R)      mean CIELAB distance of the picture and the one made without w, same seed, over the places R
    ablation_change   target "first > second": the first object's colour word, on the mask of the second object;
                      "first > elsewhere": outside both
    ablation_contrast change on the own object minus change on the other one: above 0 where the word acts at home
    ablation_loss     1 where an object had its asked colour and has it no longer, -1 the other way round, else 0;
                      targets as of ablation_change
    ablation_loss_contrast  loss of the own object minus loss of the other one

A picture made again without a word also moves and reshapes what has nothing to do with the word, and the change counts
that; the loss does not, since it asks for the colour of the object wherever it is now.

The word's state is replaced by padding (`promptlab.generator.models.attention`). Masks are those of the picture with
all words.

Ours. The causal companion of the probe `attention`. The distance is CIE 1976's Delta-E.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.colour import rgb_to_lab
from promptlab.analyzer.judges.scene_parser import Scenes, Words, bound_words, has_its_colour, mask_on, thing_of
from promptlab.analyzer.probe_bases import Traced
from promptlab.analyzer.probes import Sample
from promptlab.errors import UntraceableError
from promptlab.miniature.parser import Found
from promptlab.records import Measure, Score

__all__ = ["Ablation", "load"]

_WHERE = "promptlab.analyzer.probes.ablation"
MEASURES = (
    Measure("ablation_change", "change where a colour word is taken out", "Delta-E 1976", 0, None, None, _WHERE),
    Measure(
        "ablation_contrast", "that change on the own object less on the other", "Delta-E 1976", None, None, True, _WHERE
    ),
    Measure("ablation_loss", "asked colour lost where a colour word is taken out", "share", -1, 1, None, _WHERE),
    Measure("ablation_loss_contrast", "that loss of the own object less the other's", "share", -2, 2, True, _WHERE),
)


class Ablation(Traced):
    """What colour words do: changes, losses and their contrasts for each colour word of two objects."""

    name = "ablation"
    version = 2
    measures = MEASURES
    target_words = ("elsewhere",)

    def _judge(self, sample: Sample, found: Mapping[str, tuple[Found, ...]]) -> Iterator[Score]:
        objects = bound_words(sample.prompt)
        things = {one.object: thing_of(one, objects, found.get(sample.image_id, ())) for one in objects}
        problem = None if sample.model else "no model here drew this picture, so no word can be taken out"
        if len(objects) != 2 or any(one.colour is None for one in objects):
            problem = "two objects, each with its colour, are needed"
        elif sample.image_id not in found:
            problem = problem or Scenes.objection(sample.pixels.shape)
        gone = [one.noun.text for one in objects if things[one.object] is None]
        if gone:
            problem = problem or f"no {gone[0]} was found that could be told from others"
        pictures: list[NDArray[np.uint8]] = []
        if problem is None and sample.model is not None:
            try:
                pictures = sample.model.without([None, *(one.colour for one in objects)])
            except UntraceableError as error:
                problem = str(error)
        if problem:
            for measure in MEASURES:
                yield sample.score(self, measure.name, reason=problem)
            return
        masks = {name: mask_on(thing.mask, sample.pixels.shape[:2]) for name, thing in things.items() if thing}
        yield from self._changes(sample, objects, masks, [rgb_to_lab(picture) for picture in pictures])
        yield from self._losses(sample, objects, pictures)

    def _changes(
        self,
        sample: Sample,
        objects: Sequence[Words],
        masks: dict[str, NDArray[np.float64]],
        labs: Sequence[NDArray[np.float64]],
    ) -> Iterator[Score]:
        rest = 1 - np.minimum(1, sum(masks.values()))
        for i, one in enumerate(objects):
            distance = np.linalg.norm(labs[i + 1] - labs[0], axis=-1)
            change = {}
            for place, mask in {**masks, "elsewhere": rest}.items():
                target = f"{one.object} > {place}"
                if not mask.any():
                    yield sample.score(self, "ablation_change", target, reason="the objects fill the picture")
                    continue
                change[place] = float((distance * mask).sum() / mask.sum())
                yield sample.score(self, "ablation_change", target, change[place])
            contrast = change[one.object] - change[objects[1 - i].object]
            yield sample.score(self, "ablation_contrast", one.object, contrast)

    def _losses(
        self, sample: Sample, objects: Sequence[Words], pictures: Sequence[NDArray[np.uint8]]
    ) -> Iterator[Score]:
        scenes = self._scenes.read({str(i): picture for i, picture in enumerate(pictures)})
        right = [{one.object: has_its_colour(one, objects, found) for one in objects} for found in scenes.values()]
        for i, one in enumerate(objects):
            loss = {name: float(right[0][name]) - float(right[i + 1][name]) for name in right[0]}
            for name, value in loss.items():
                yield sample.score(self, "ablation_loss", f"{one.object} > {name}", value)
            contrast = loss[one.object] - loss[objects[1 - i].object]
            yield sample.score(self, "ablation_loss_contrast", one.object, contrast)


def load(pictures: int = 24, parser: str | Path | None = None) -> Ablation:
    """The probe; see `Ablation`."""
    return Ablation(pictures, parser)
