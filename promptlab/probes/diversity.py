"""How different the pictures of one cell are over its seeds.

    seed_distance    mean of 1 - cos between a picture and its siblings, under one CLIP model
    vendi            Vendi score of all pictures of the cell, 1 (all alike) to n
    scene_entropy    entropy in bits of what the parser reads: nouns with their colours, a scene one label
    object_entropy   the same for one object: its colour, or "missing"

The last three belong to the cell, not to one of its pictures; they stand once, on its first seed, and say in the target
or the detail from how many pictures they come. They depend on that number: compare only at equal n, and one encoder.

References:
    Friedman and Dieng 2023, The Vendi Score: A Diversity Evaluation Metric for Machine Learning (arXiv 2210.02410).
    Shannon 1948, A Mathematical Theory of Communication.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from promptlab.clip import Unit, identity, load_clip
from promptlab.diversity import entropy_bits
from promptlab.diversity import vendi as vendi_score
from promptlab.miniature.parser import Found
from promptlab.probes import Look, Need, probe_id
from promptlab.records import Measure, Score
from promptlab.scenes import Scenes, plain_noun

__all__ = ["Diversity", "load"]

_VENDI = "Friedman and Dieng 2023 (arXiv 2210.02410)"


class Diversity:
    """Diversity over the seeds of a cell.

    Args:
        model, checkpoint: encoder of pictures, see `promptlab.clip.load_clip`.
        parser: folder of a scene parser, None for the one that ships.
    """

    name = "diversity"
    version = 1
    measures: tuple[Measure, ...] = (
        Measure("seed_distance", "mean cosine distance to the other seeds", "", 0, 2, None, "ours"),
        Measure("vendi", "effective number of different pictures in the cell", "pictures", 1, None, None, _VENDI),
        Measure("scene_entropy", "entropy of the cell's scenes as parsed", "bits", 0, None, None, "Shannon 1948"),
        Measure("object_entropy", "entropy of the target's colour", "bits", 0, None, None, "Shannon 1948"),
    )
    needs: frozenset[Need] = frozenset({"siblings"})

    def __init__(
        self, model: str = "miniature", checkpoint: str | Path | None = None, parser: str | Path | None = None
    ) -> None:
        self._use = (model, checkpoint)
        self._scenes = Scenes(parser)

    @cached_property
    def id(self) -> str:
        """See `Probe.id`."""
        return probe_id(self.name, self.version, {"clip": identity(*self._use), "parser": self._scenes.sha256})

    def score(self, looks: Sequence[Look]) -> Iterator[Score]:
        """The distance for every look; what belongs to the cell for its first seed, target `seeds=n` or the object."""
        shown = {one.image_id: one.pixels for look in looks for one in (look, *look.siblings)}
        vectors = load_clip(*self._use).pictures(shown)
        firsts = [look for look in looks if all(look.seed < other.seed for other in look.siblings)]
        parsed = self._scenes.read({one.image_id: one.pixels for look in firsts for one in (look, *look.siblings)})
        first = {id(look) for look in firsts}
        for look in looks:
            if not look.siblings:
                for measure in self.measures[:3]:
                    yield Score(look.image_id, self.id, measure.name, reason="the cell has no picture at another seed")
                continue
            yield self._distance(look, vectors)
            if id(look) in first:
                yield from self._cell(look, vectors, parsed)

    def _distance(self, look: Look, vectors: Mapping[str, Unit]) -> Score:
        others = np.stack([vectors[other.image_id] for other in look.siblings])
        value = float(np.clip(1 - (others @ vectors[look.image_id]).mean(), 0, 2))
        detail = {"seeds": 1 + len(others)}
        return Score(look.image_id, self.id, "seed_distance", "", value, detail=detail)

    def _cell(
        self, look: Look, vectors: Mapping[str, Unit], parsed: Mapping[str, tuple[Found, ...]]
    ) -> Iterator[Score]:
        images = [one.image_id for one in (look, *sorted(look.siblings, key=lambda other: other.seed))]
        target = f"seeds={len(images)}"
        value = max(1.0, vendi_score(np.stack([vectors[image] for image in images])))
        yield Score(look.image_id, self.id, "vendi", target, value)
        objection = Scenes.objection(look.pixels.shape)
        if objection or any(image not in parsed for image in images):
            reason = objection or "the scene parser cannot read every picture of the cell"
            yield Score(look.image_id, self.id, "scene_entropy", target, reason=reason)
            return
        scenes = [parsed[image] for image in images]
        labels = [tuple(sorted((thing.noun, thing.colour) for thing in scene)) for scene in scenes]
        yield Score(look.image_id, self.id, "scene_entropy", target, entropy_bits(labels))
        for name, noun in {binding.object: plain_noun(binding.noun) for binding in look.prompt.bindings}.items():
            bits = entropy_bits([_colour_of(noun, scene) for scene in scenes])
            detail = {"seeds": len(images), "noun": noun}
            yield Score(look.image_id, self.id, "object_entropy", name, bits, detail=detail)


def _colour_of(noun: str, scene: Sequence[Found]) -> str:
    """Colour of the largest thing of a noun, or "missing"."""
    things = [thing for thing in scene if thing.noun == noun]
    return max(things, key=lambda thing: thing.area).colour if things else "missing"


def load(model: str = "miniature", checkpoint: str | None = None, parser: str | None = None) -> Diversity:
    """The probe; see `Diversity`."""
    return Diversity(model, checkpoint, parser)
