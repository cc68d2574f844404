"""Which part of a prompt's text states makes the picture: its words, its end mark, or the padding? On a traced subset.

    part_change    mean CIELAB distance (Delta-E 1976) of the picture and the one made, at the same seed, without a part
    part_share     that distance over the one without all three, which is what the text does at all: 0 where the part
                   does nothing, about 1 where all goes with it, above 1 where what is left leads further away
    part_loss      1 where an object had its asked colour and has it no longer, -1 the other way round, else 0

Targets are the parts, `words`, `end`, `padding`, `all`; of a loss "padding > first". Without a part means: its states
are those that the empty prompt has at the same places (`promptlab.generator.models.attention`), other states and the
pooled vectors being what they were. A prompt that fills its encoder has no padding, and its change is exactly 0.

References:
    Toker et al. 2025, Padding Tone (arXiv 2501.06751): padding replaced by clean padding inside the denoiser (IDP), and
    all but chosen tokens (ITE). Zhuang et al. 2024, Magnet (arXiv 2409.19967): padding entangles objects. Shares and
    losses are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.colour import rgb_to_lab
from promptlab.analyzer.judges.scene_parser import Scenes, bound_words, has_its_colour
from promptlab.analyzer.probe_bases import Traced
from promptlab.analyzer.probes import Sample
from promptlab.errors import UntraceableError
from promptlab.miniature.parser import Found
from promptlab.records import Measure, Part, Score

__all__ = ["PARTS", "Padding", "load"]

PARTS: tuple[Part, ...] = ("words", "end", "padding", "all")
_WHERE = "promptlab.analyzer.probes.padding"
MEASURES = (
    Measure(
        "part_change", "change where a part of the text states is taken out", "Delta-E 1976", 0, None, None, _WHERE
    ),
    Measure("part_share", "that change over the change without all of them", "", 0, None, None, _WHERE),
    Measure("part_loss", "asked colour lost where a part is taken out", "share", -1, 1, None, _WHERE),
)


class Padding(Traced):
    """What the parts of a prompt do: changes, shares and losses, for words, end mark and padding."""

    name = "padding"
    version = 1
    measures = MEASURES
    target_words = PARTS

    def _judge(self, sample: Sample, found: Mapping[str, tuple[Found, ...]]) -> Iterator[Score]:
        pictures: list[NDArray[np.uint8]] = []
        problem = "no model here drew this picture, so no part of its text can be taken out"
        if sample.model is not None:
            try:
                pictures = sample.model.without_parts([None, *PARTS])
            except UntraceableError as error:
                problem = str(error)
        if not pictures:
            for measure in MEASURES:
                yield sample.score(self, measure.name, reason=problem)
            return
        yield from self._changes(sample, pictures)
        yield from self._losses(sample, pictures)

    def _changes(self, sample: Sample, pictures: list[NDArray[np.uint8]]) -> Iterator[Score]:
        whole, *labs = (rgb_to_lab(picture) for picture in pictures)
        change = {
            part: float(np.linalg.norm(lab - whole, axis=-1).mean()) for part, lab in zip(PARTS, labs, strict=True)
        }
        for part in PARTS:
            yield sample.score(self, "part_change", part, change[part])
        for part in PARTS[:-1]:
            if change["all"] > 0:
                yield sample.score(self, "part_share", part, change[part] / change["all"])
            else:
                reason = "the picture is the same without any text"
                yield sample.score(self, "part_share", part, reason=reason)

    def _losses(self, sample: Sample, pictures: list[NDArray[np.uint8]]) -> Iterator[Score]:
        objects = [one for one in bound_words(sample.prompt) if one.colour is not None]
        problem = Scenes.objection(sample.pixels.shape) if objects else "the prompt declares no object with a colour"
        if problem:
            yield sample.score(self, "part_loss", reason=problem)
            return
        read = self._scenes.read({str(i): picture for i, picture in enumerate(pictures)})
        for one in objects:
            right = [has_its_colour(one, objects, read.get(str(i), ())) for i in range(len(pictures))]
            for part, still in zip(PARTS, right[1:], strict=True):
                value = float(right[0]) - float(still)
                yield sample.score(self, "part_loss", f"{part} > {one.object}", value)


def load(pictures: int = 24, parser: str | Path | None = None) -> Padding:
    """The probe; see `Padding`."""
    return Padding(pictures, parser)
