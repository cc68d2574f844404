"""What probes share that ask the model which drew a picture: how many pictures they trace, and the scene parser.

Since tracing costs as much as drawing, `pictures` of a study are traced; how many is no part of what a score means, and
so none of the probe's id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from promptlab.analyzer.judges.scene_parser import Scenes
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.errors import PromptlabError
from promptlab.miniature.parser import Found
from promptlab.records import Measure, Score

__all__ = ["Traced"]


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
