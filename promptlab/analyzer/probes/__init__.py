"""Probes look at pictures and yield scores. One file a probe; the file's name is its name in a study.

A probe gets `Sample`s: an image with the prompt that asked for it and how it was made. What it `needs` besides is given
where it exists: the *twin*, made from the prompt with two attributes exchanged (`Prompt.swapped`) at the same settings
and seed, the *siblings*, the same cell at the other seeds, and the *model* that drew it, ready to be asked again. Since
that costs as much as drawing, a probe that needs the model has `pictures`: how many of a study it is shown. One whose
judge runs on a GPU where there is one says `accelerated = True`. Targets are names of the prompt; a probe whose targets
have the form "what > where", or are words of its own such as "elsewhere", lists these words in `target_words`.

The laws, which hold for every probe and are tested on all of them:

    - every sample gets at least one score, of a declared measure, under the probe's `name` and `id`;
    - a value lies within its measure's bounds; what cannot be measured is None with a reason, never NaN or a guess;
    - how samples are batched and ordered changes nothing, to the last bit (a model's calls have one number of rows);
    - a name of a measure means one thing over all probes: names are keys of one table. Probes that answer the same
      question (which outcome of binding?) share its measures.

Probes know neither store nor backends nor each other. A file is a probe if it has a function `load(**options)`
(`promptlab.plugins`); nothing heavy is opened before the first score. `Sample.score` makes a score under the probe's
name and id: `yield sample.score(self, "sharpness", value=0.4)`. A probe of your own: see README.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from promptlab.errors import PromptlabError
from promptlab.records import Measure, Part, Phrase, Prompt, Score, Settings, content_id

__all__ = ["Model", "Need", "Probe", "Sample", "checked_id", "probe_id"]

Need = Literal["twin", "siblings", "model"]


class Model(Protocol):
    """The model that drew a picture, with its settings and seed. All raise UntraceableError where it cannot be."""

    def attend(self, phrases: Sequence[Phrase]) -> NDArray[np.float32]:
        """Attention to each phrase: (4, phrases, h, w), all steps, then early, middle, late (NaN where there is none).

        Where all tokens of the text are taken together, a pixel's attention is 1.
        """
        ...

    def without(self, phrases: Sequence[Phrase | None]) -> list[NDArray[np.uint8]]:
        """The picture once for each, without that phrase; None takes nothing out. uint8 (height, width, 3)."""
        ...

    def without_parts(self, parts: Sequence[Part | None]) -> list[NDArray[np.uint8]]:
        """The same, without a part of the text states: see `promptlab.records.Part`."""
        ...


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture to look at: uint8 (height, width, 3), what asked for it, and its relatives (which have none)."""

    image_id: str
    pixels: NDArray[np.uint8]
    prompt: Prompt
    settings: Settings
    seed: int
    twin: Sample | None = None
    siblings: tuple[Sample, ...] = ()
    model: Model | None = None

    def score(
        self,
        probe: Probe,
        measure: str,
        target: str = "",
        value: float | None = None,
        label: str | None = None,
        reason: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> Score:
        """What `probe` says about this image: see `promptlab.records.Score`."""
        return Score(self.image_id, probe.name, probe.id, measure, target, value, label, reason, detail or {})


class Probe(Protocol):
    """What the analyzer asks of a probe. `id` names the probe, its version, its options and its weights."""

    name: str
    version: int
    needs: frozenset[Need]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What it measures."""
        ...

    @property
    def id(self) -> str:
        """Name, version, and hash of everything else that its scores depend on."""
        ...

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Scores of all looks, in any order."""
        ...


def probe_id(name: str, version: int, options: Mapping[str, Any]) -> str:
    """`name-version-hash`: scores under one id are comparable. `options` are plain data, hashes of weights included."""
    return f"{name}-{version}-{content_id(dict(options))[:8]}"


def checked_id(probe: Probe) -> str:
    """The probe's id. Raises PromptlabError unless it begins with the probe's name, and what the id itself raises."""
    if not probe.id.startswith(f"{probe.name}-"):
        raise PromptlabError(
            f"the probe {probe.name!r} has the id {probe.id!r}; allowed: what probe_id(name, version, options) gives"
        )
    return probe.id
