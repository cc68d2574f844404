"""Do the words look where their objects are? Attention maps against the parsed picture, on a traced subset.

    m_w              attention to the word w, over all steps, divided by its sum over the picture
    attention_mass   sum of m_noun inside the mask of its object, minus the mask's share of the area: 0 is chance
    attention_contrast   A = JS(c1, n2) + JS(c2, n1) - JS(c1, n1) - JS(c2, n2), in nats, between -2 ln 2 and 2 ln 2:
                     positive where each colour word's map is nearer to its own noun's than to the other's

JS is the Jensen-Shannon divergence, 0 for equal maps and ln 2 for maps that nowhere meet. The contrast asks no parser.
An end mark and padding take much of the attention, and a word without use still has a map: no map is a cause (see the
probe `ablation`).

Ours. Bounded in place of the symmetric KL divergence of Rassin et al. 2023, Linguistic Binding in Diffusion Models
(arXiv 2306.08877); the maps follow Tang et al. 2023, What the DAAM (arXiv 2210.04885).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.scene_parser import Scenes, Words, bound_words, mask_on, thing_of
from promptlab.analyzer.probe_bases import Traced
from promptlab.analyzer.probes import Sample
from promptlab.errors import UntraceableError
from promptlab.miniature.parser import Found
from promptlab.records import Measure, Score

__all__ = ["Attention", "jensen_shannon", "load"]

PARTS = ("all", "early", "middle", "late")
_WHERE = "promptlab.analyzer.probes.attention"
MEASURES = (
    Measure("attention_mass", "noun's attention on its object, less the object's area", "share", -1, 1, True, _WHERE),
    Measure(
        "attention_contrast",
        "colour words attend with their own nouns (above 0) or with the other's (below 0)",
        "nat",
        -2 * math.log(2),
        2 * math.log(2),
        True,
        _WHERE,
    ),
)


def jensen_shannon(p: NDArray[np.floating], q: NDArray[np.floating]) -> float:
    """Divergence of two maps of one shape, each divided by its sum first: nats, 0 to ln 2."""
    a, b = (np.asarray(x, np.float64) / np.sum(x, dtype=np.float64) for x in (p, q))
    middle = (a + b) / 2

    def against(x: NDArray[np.float64]) -> float:
        on = x > 0
        return float((x[on] * np.log(x[on] / middle[on])).sum())

    return min(max((against(a) + against(b)) / 2, 0.0), math.log(2))


class Attention(Traced):
    """Attention of nouns and colour words: a mass for each object, and one contrast for two coloured objects."""

    name = "attention"
    version = 1
    measures = MEASURES

    def _judge(self, sample: Sample, found: Mapping[str, tuple[Found, ...]]) -> Iterator[Score]:
        objects = bound_words(sample.prompt)
        problem = None if sample.model else "no model here drew this picture, so there is no attention to read"
        if not objects:
            problem = "the prompt declares no object"
        colours = [one.colour for one in objects if one.colour is not None]
        maps: NDArray[np.floating] = np.zeros(0)
        if problem is None and sample.model is not None:
            try:
                maps = sample.model.attend([*(one.noun for one in objects), *colours])
            except UntraceableError as error:
                problem = str(error)
        for i, one in enumerate(objects):
            yield self._mass(sample, one, objects, found, problem, maps[:, i] if problem is None else maps)
        if problem or len(objects) != 2 or len(colours) != 2:
            why = problem or "a contrast needs two objects, each with its colour"
            yield sample.score(self, "attention_contrast", reason=why)
            return
        parts = {name: _contrast(part) for name, part in zip(PARTS, maps, strict=True) if np.isfinite(part).all()}
        value = parts.pop("all")
        yield sample.score(self, "attention_contrast", "", value, detail=parts)

    def _mass(
        self,
        sample: Sample,
        one: Words,
        objects: Sequence[Words],
        found: Mapping[str, tuple[Found, ...]],
        problem: str | None,
        maps: NDArray[np.floating],
    ) -> Score:
        things = found.get(sample.image_id)
        thing = thing_of(one, objects, things or ())
        problem = problem or (Scenes.objection(sample.pixels.shape) if things is None else None)
        if thing is None:
            problem = problem or f"no {one.noun.text} was found that could be told from others"
        if problem or thing is None:
            return sample.score(self, "attention_mass", one.object, reason=problem)
        mask = mask_on(thing.mask, maps.shape[1:])
        area = float(mask.mean())
        parts = {
            name: float((part * mask).sum() / part.sum()) - area
            for name, part in zip(PARTS, maps.astype(np.float64), strict=True)
            if np.isfinite(part).all()
        }
        value = parts.pop("all")
        return sample.score(self, "attention_mass", one.object, value, detail={**parts, "area": area})


def _contrast(maps: NDArray[np.float32]) -> float:
    """`maps` (4, h, w): both nouns, then both colours."""
    n1, n2, c1, c2 = maps
    own = jensen_shannon(c1, n1) + jensen_shannon(c2, n2)
    return jensen_shannon(c1, n2) + jensen_shannon(c2, n1) - own


def load(pictures: int = 24, parser: str | Path | None = None) -> Attention:
    """The probe; see `Attention`."""
    return Attention(pictures, parser)
