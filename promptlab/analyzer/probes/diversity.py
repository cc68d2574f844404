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

How different the pictures of one prompt are, over its seeds.

    x    embeddings (n, d), one row a picture, scaled here to unit length
    K    their cosines x x^T (n, n);  l  the eigenvalues of K / n, which sum to 1
    V    Vendi score exp(-sum l ln l): the effective number of different pictures, from 1 (all alike) to n
    H    entropy -sum f log2 f of the labels' frequencies f, in bits

All three depend on n: compare only at equal n, and V only with one kernel (here the cosine of one encoder).

References:
    The Vendi Score: A Diversity Evaluation Metric for Machine Learning, Friedman and Dieng 2023 (arXiv 2210.02410).
    A Mathematical Theory of Communication, Shannon 1948.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import Unit, identity, load_clip
from promptlab.analyzer.judges.scene_parser import Scenes, plain_noun
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.miniature.parser import Found
from promptlab.records import Measure, Score

if TYPE_CHECKING:
    from promptlab.stats.resampling import Floats

__all__ = ["Diversity", "entropy_bits", "load", "mean_pairwise_cosine_distance", "vendi"]

_VENDI = "Friedman and Dieng 2023 (arXiv 2210.02410)"


class Diversity:
    """Diversity over the seeds of a cell.

    Args:
        model, checkpoint: encoder of pictures, see `promptlab.analyzer.judges.clip.load_clip`.
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

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """The distance for every look; what belongs to the cell for its first seed, target `seeds=n` or the object."""
        shown = {one.image_id: one.pixels for sample in samples for one in (sample, *sample.siblings)}
        vectors = load_clip(*self._use).pictures(shown)
        firsts = [sample for sample in samples if all(sample.seed < other.seed for other in sample.siblings)]
        parsed = self._scenes.read(
            {one.image_id: one.pixels for sample in firsts for one in (sample, *sample.siblings)}
        )
        first = {id(sample) for sample in firsts}
        for sample in samples:
            if not sample.siblings:
                for measure in self.measures[:3]:
                    yield sample.score(self, measure.name, reason="the cell has no picture at another seed")
                continue
            yield self._distance(sample, vectors)
            if id(sample) in first:
                yield from self._cell(sample, vectors, parsed)

    def _distance(self, sample: Sample, vectors: Mapping[str, Unit]) -> Score:
        others = np.stack([vectors[other.image_id] for other in sample.siblings])
        value = float(np.clip(1 - (others @ vectors[sample.image_id]).mean(), 0, 2))
        detail = {"seeds": 1 + len(others)}
        return sample.score(self, "seed_distance", "", value, detail=detail)

    def _cell(
        self, sample: Sample, vectors: Mapping[str, Unit], parsed: Mapping[str, tuple[Found, ...]]
    ) -> Iterator[Score]:
        images = [one.image_id for one in (sample, *sorted(sample.siblings, key=lambda other: other.seed))]
        target = f"seeds={len(images)}"
        value = max(1.0, vendi(np.stack([vectors[image] for image in images])))
        yield sample.score(self, "vendi", target, value)
        objection = Scenes.objection(sample.pixels.shape)
        if objection or any(image not in parsed for image in images):
            reason = objection or "the scene parser cannot read every picture of the cell"
            yield sample.score(self, "scene_entropy", target, reason=reason)
            return
        scenes = [parsed[image] for image in images]
        labels = [tuple(sorted((thing.noun, thing.colour) for thing in scene)) for scene in scenes]
        yield sample.score(self, "scene_entropy", target, entropy_bits(labels))
        for name, noun in {binding.object: plain_noun(binding.noun) for binding in sample.prompt.bindings}.items():
            bits = entropy_bits([_colour_of(noun, scene) for scene in scenes])
            detail = {"seeds": len(images), "noun": noun}
            yield sample.score(self, "object_entropy", name, bits, detail=detail)


def _colour_of(noun: str, scene: Sequence[Found]) -> str:
    """Colour of the largest thing of a noun, or "missing"."""
    things = [thing for thing in scene if thing.noun == noun]
    return max(things, key=lambda thing: thing.area).colour if things else "missing"


def load(model: str = "miniature", checkpoint: str | None = None, parser: str | None = None) -> Diversity:
    """The probe; see `Diversity`."""
    return Diversity(model, checkpoint, parser)


def _unit_rows(embeddings: NDArray[Any], at_least: int) -> Floats:
    x = np.asarray(embeddings, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] < at_least or x.shape[1] < 1:
        raise ValueError(f"embeddings has shape {x.shape}: (n, d) with n >= {at_least} is allowed")
    if not np.isfinite(x).all():
        raise ValueError("embeddings holds NaN or infinite values: leave such pictures out, and count them")
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if (length == 0).any():
        raise ValueError("an embedding is all 0: it points nowhere and has no cosine")
    unit: Floats = x / length
    return unit


def vendi(embeddings: NDArray[Any]) -> float:
    """Vendi score with the cosine kernel, in [1, n], of embeddings (n, d), n >= 1."""
    from scipy import special  # late: a study file is checked by asking probes what they measure, without scipy

    x = _unit_rows(embeddings, at_least=1)
    # K / n has the squared singular values of x / sqrt(n): no n x n matrix, and none below 0 by rounding.
    eigenvalues = np.linalg.svd(x, compute_uv=False) ** 2 / len(x)
    return float(np.exp(special.entr(eigenvalues).sum()))


def mean_pairwise_cosine_distance(embeddings: NDArray[Any]) -> float:
    """Mean of 1 - cos over all pairs of different rows of embeddings (n, d), n >= 2; in [0, n / (n - 1)]."""
    x = _unit_rows(embeddings, at_least=2)
    n = len(x)
    together = x.sum(axis=0)
    # |sum x|^2 = n + 2 sum over pairs of cos.
    return float(max(0.0, (n * n - together @ together) / (n * (n - 1))))


def entropy_bits(labels: Sequence[Hashable]) -> float:
    """Plug-in entropy of labels in bits, in [0, log2 n]; with few labels it lies below the truth."""
    from scipy import special

    if not len(labels):
        raise ValueError("no label given: entropy needs at least one")
    from promptlab.stats.resampling import positions_of

    names, index = positions_of(labels)
    share = np.bincount(index, minlength=len(names)) / len(index)
    return float(special.entr(share).sum() / np.log(2))
