"""What probes share that work alike: the base of those that ask CLIP, and of those that ask the model that drew.

`ClipProbe` encodes every text of a call with the others, and so every image: CLIP has a fixed number of rows, which one
text would leave nearly empty. `Traced` traces some images of a study only, since tracing costs as much as drawing. How
many is no part of what a score means, and so none of the probe's id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import Clip, Unit, identity, load_clip
from promptlab.analyzer.judges.scene_parser import Scenes
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.errors import PromptlabError
from promptlab.miniature.parser import Found
from promptlab.records import Measure, Score

__all__ = ["ClipProbe", "Traced"]


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


class Traced(ABC):
    """A probe that traces `pictures` of a study, at least 1; `parser` is a scene parser's folder, None for ours."""

    name: str
    version: int
    measures: tuple[Measure, ...]
    needs: frozenset[Need] = frozenset({"model"})

    def __init__(self, pictures: int = 24, parser: str | Path | None = None) -> None:
        if pictures < 1:
            raise PromptlabError(f"pictures is {pictures}: at least 1 must be traced")
        self.pictures = pictures
        self._scenes = Scenes(parser)

    @cached_property
    def id(self) -> str:
        """See `Probe.id`."""
        return probe_id(self.name, self.version, {"parser": self._scenes.sha256})

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Scores of each look in turn; the parser reads all their pictures at once."""
        found = self._scenes.read({sample.image_id: sample.pixels for sample in samples})
        for sample in samples:
            yield from self._judge(sample, found)

    @abstractmethod
    def _judge(self, sample: Sample, found: Mapping[str, tuple[Found, ...]]) -> Iterator[Score]:
        """Scores of one look; `found` has the things in each picture that could be read."""
