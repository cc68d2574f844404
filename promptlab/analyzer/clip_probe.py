"""What probes share that compare images with texts under CLIP: how the model is opened, their id, their judge.

Every text of a call is encoded with the others, and so is every image: CLIP has a fixed number of rows, which one text
would leave nearly empty.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import Clip, Unit, identity, load_clip
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.records import Measure, Score

__all__ = ["ClipProbe"]


class ClipProbe(ABC):
    """A probe that asks a CLIP model.

    Args:
        model, checkpoint, prefix: see `promptlab.analyzer.judges.clip.load_clip`.
    """

    name: str
    version: int
    measures: tuple[Measure, ...]
    needs: frozenset[Need] = frozenset()

    def __init__(self, model: str, checkpoint: str | Path | None = None, prefix: str = "") -> None:
        self._use = (model, checkpoint, prefix)

    @cached_property
    def id(self) -> str:
        """See `Probe.id`."""
        return probe_id(self.name, self.version, identity(*self._use))

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Scores of each sample in turn."""
        clip = load_clip(*self._use)
        vectors = clip.pictures(self._images(samples))
        clip.texts([text for sample in samples for text in self._texts(sample)])  # it remembers them
        for sample in samples:
            yield from self._judge(sample, clip, vectors)

    def _images(self, samples: Sequence[Sample]) -> dict[str, NDArray[Any]]:
        """The images that are looked at, by id."""
        return {sample.image_id: sample.pixels for sample in samples}

    @abstractmethod
    def _texts(self, sample: Sample) -> list[str]:
        """The texts that the sample's image is compared with."""

    @abstractmethod
    def _judge(self, sample: Sample, clip: Clip, vectors: Mapping[str, Unit]) -> Iterator[Score]:
        """Scores of one sample; `vectors` has the images by id."""

    @staticmethod
    def _judge_of(clip: Clip) -> dict[str, Any]:
        return {"model": clip.provenance["model"], "sha256": clip.provenance["sha256"]}
