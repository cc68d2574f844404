"""Did each colour land on its object? The outcome of binding, read off the things that the scene parser finds.

The rule is in `promptlab.analyzer.judges.outcomes`. `accuracy` is `correct` where every object is there and NULL
elsewhere, so that a missing object is never counted as a colour gone wrong.

Ours. The outcomes are those of Feng et al. 2023, Training-Free Structured Diffusion Guidance for Compositional
Text-to-Image Synthesis (arXiv 2212.05032) and Chefer et al. 2023, Attend-and-Excite (arXiv 2301.13826); accuracy given
presence follows Grimal et al. 2024, TIAM (arXiv 2307.05134).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from promptlab.analyzer.judges.outcomes import MEASURES, WHOLE, claims, is_right, match, outcome
from promptlab.analyzer.judges.scene_parser import Scenes
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.miniature.parser import Found
from promptlab.miniature.world import COLOURS, NOUNS
from promptlab.records import OUTCOMES, Binding, Score

__all__ = ["BindingOutcome", "load"]


class BindingOutcome:
    """Outcome of binding for prompts with two objects or more; presence and colour of every object.

    Args:
        parser: folder of a scene parser, None for the one that ships.
    """

    name = "binding"
    version = 1
    measures = MEASURES
    needs: frozenset[Need] = frozenset()

    def __init__(self, parser: str | Path | None = None) -> None:
        self._scenes = Scenes(parser)

    @cached_property
    def id(self) -> str:
        """See `Probe.id`; the parser's weights are part of it."""
        return probe_id(self.name, self.version, {"parser": self._scenes.sha256})

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Scores; the target is the object's name, or "" for the prompt as a whole."""
        things = self._scenes.read({sample.image_id: sample.pixels for sample in samples})
        for sample in samples:
            yield from self._judge(sample, things.get(sample.image_id))

    def _judge(self, sample: Sample, found: tuple[Found, ...] | None) -> Iterator[Score]:
        requested = claims(sample.prompt)
        objection = None if found is not None else Scenes.objection(sample.pixels.shape)
        if not requested:
            yield self._missing(sample, "correct", "", "the prompt declares no object")
            return
        problems = [objection or _problem(binding) for binding in requested]
        taken = match(requested, found or ())
        if len(requested) > 1:
            yield from self._whole(sample, requested, found or (), next((p for p in problems if p), None))
        for binding, thing in zip(requested, taken, strict=True):
            yield from self._one(sample, binding, thing, objection)

    def _whole(
        self, sample: Sample, requested: Sequence[Binding], found: Sequence[Found], problem: str | None
    ) -> Iterator[Score]:
        if problem:
            for measure in WHOLE:
                yield self._missing(sample, measure.name, "", problem)
            return
        result = outcome(requested, found)
        present = result not in ("neglect", "fused")
        detail = {"found": [_thing_facts(thing) for thing in found]}
        yield sample.score(self, "correct", "", float(result == "correct"), result, None, detail)
        for name in OUTCOMES[1:]:
            yield sample.score(self, name, "", float(result == name))
        yield sample.score(self, "both_present", "", float(present))
        if present:
            yield sample.score(self, "accuracy", "", float(result == "correct"))
        else:
            gone = [b.noun for b, thing in zip(requested, match(requested, found), strict=True) if thing is None]
            yield self._missing(sample, "accuracy", "", f"not every object is there: no {', no '.join(gone)}")

    def _one(self, sample: Sample, binding: Binding, thing: Found | None, objection: str | None) -> Iterator[Score]:
        problem = objection or _noun_problem(binding)
        if problem:
            yield self._missing(sample, "noun", binding.object, problem)
        else:
            detail = _thing_facts(thing) if thing else {}
            yield sample.score(self, "noun", binding.object, float(thing is not None), None, None, detail)
        if binding.attribute is None:
            return
        problem = problem or _problem(binding) or (None if thing else f"no {binding.noun} was found")
        if problem or thing is None:
            yield self._missing(sample, "colour", binding.object, problem or "nothing was found")
        else:
            right = float(is_right(binding, thing))
            yield sample.score(self, "colour", binding.object, right, thing.colour)

    def _missing(self, sample: Sample, measure: str, target: str, reason: str) -> Score:
        return sample.score(self, measure, target, reason=reason)


def _noun_problem(binding: Binding) -> str | None:
    return None if binding.noun in NOUNS else f"the scene parser does not know {binding.noun!r}: {', '.join(NOUNS)}"


def _problem(binding: Binding) -> str | None:
    if binding.attribute is None or binding.attribute in COLOURS:
        return _noun_problem(binding)
    return f"the scene parser does not know the colour {binding.attribute!r}: {', '.join(COLOURS)}"


def _thing_facts(thing: Found) -> dict[str, Any]:
    return {
        "noun": thing.noun,
        "colour": thing.colour,
        "noun_certainty": round(thing.noun_certainty, 4),
        "colour_certainty": round(thing.colour_certainty, 4),
        "box": list(thing.box),
        "area": round(thing.area, 4),
    }


def load(parser: str | Path | None = None) -> BindingOutcome:
    """The probe; see `BindingOutcome`."""
    return BindingOutcome(parser)
