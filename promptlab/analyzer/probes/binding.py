"""Did each colour land on its object? The outcome of binding, read off the things that the scene parser finds.

    asked    objects that the prompt names, each with a noun and a colour (or none)
    found    things in the picture, each with a noun (or "unknown") and a colour

The rule, first match wins:

    1. Every asked object takes a found thing of its noun, no thing twice. With more things than needed the best fit is
       taken (right colours, then area): a claim holds if something fulfils it, and further things do not count.
    2. *fused*    an object has no thing, and the picture holds a shape that is no noun, or an unasked thing that has
                  grown together with an asked one;
       *neglect*  an object has no thing.
    3. *correct*  every colour is the one asked; an object without a colour is always right.
    4. *swap*     the wrong objects have one another's colours.
    5. *leak*     an object has the colour that was asked of another.
    6. *other*    a colour that is asked of none. Two objects of one colour can only be right or other.

`accuracy` is `correct` where every object is there and NULL elsewhere, so that a missing object is never counted as a
colour gone wrong. Only `correct` carries the outcome as its label, so that each picture counts once.

Ours. The outcomes are those of Feng et al. 2023, Training-Free Structured Diffusion Guidance for Compositional
Text-to-Image Synthesis (arXiv 2212.05032) and Chefer et al. 2023, Attend-and-Excite (arXiv 2301.13826); accuracy given
presence follows Grimal et al. 2024, TIAM (arXiv 2307.05134).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.analyzer.judges.scene_parser import Scenes, plain_noun
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.miniature.parser import Found
from promptlab.miniature.world import COLOURS, NOUNS
from promptlab.records import OUTCOMES, Binding, Measure, Prompt, Score

__all__ = ["BindingOutcome", "claims", "load", "match", "outcome"]

COLOUR_KINDS = ("colour", "color")


def _share(name: str, description: str, higher_is_better: bool) -> Measure:
    return Measure(name, description, "1 or 0", 0, 1, higher_is_better, "promptlab.analyzer.probes.binding")


MEASURES = (
    _share("correct", "every asked object is there in its colour; the label is the outcome", True),
    _share("swap", "all are there, the wrong ones with one another's colours", False),
    _share("leak", "all are there, one with the colour asked of another", False),
    _share("other", "all are there, one with a colour asked of none", False),
    _share("neglect", "an asked object is missing", False),
    _share("fused", "an asked object is missing, and something is no thing or grown together", False),
    _share("both_present", "every asked object is there, whatever its colour", True),
    _share("accuracy", "correct, given that every asked object is there", True),
    _share("noun", "the target object is there", True),
    _share("colour", "the target object has its colour, given that it is there; the label is what it has", True),
)


def claims(prompt: Prompt) -> tuple[Binding, ...]:
    """What the prompt claims about colour: one binding an object, in order of mention, in the miniature's words."""
    found: dict[str, Binding] = {}
    for binding in prompt.bindings:
        one = replace(binding, noun=plain_noun(binding.noun), attribute=None, kind="colour")
        if binding.kind in COLOUR_KINDS and binding.attribute is not None:
            one = replace(one, attribute=binding.attribute.strip().lower())
        if binding.object not in found or one.attribute is not None:
            found[binding.object] = one
    return tuple(found.values())


def match(asked: Sequence[Binding], found: Sequence[Found]) -> tuple[Found | None, ...]:
    """The thing that stands for each asked object, or None."""
    from scipy.optimize import linear_sum_assignment

    taken: list[Found | None] = [None] * len(asked)
    for noun in {binding.noun for binding in asked}:
        objects = [i for i, binding in enumerate(asked) if binding.noun == noun]
        things = [thing for thing in found if thing.noun == noun]
        # All areas together are at most 1, so a right colour outweighs them.
        worth = np.array([[2.0 * _right(asked[i], thing) + thing.area for thing in things] for i in objects])
        if things:
            for row, column in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
                taken[objects[row]] = things[column]
    return tuple(taken)


def outcome(asked: Sequence[Binding], found: Sequence[Found]) -> str:
    """One of `records.OUTCOMES`, by the rule above."""
    taken = match(asked, found)
    if any(thing is None for thing in taken):
        return "fused" if _grown_together(taken, found) else "neglect"
    pairs = [(binding, thing) for binding, thing in zip(asked, taken, strict=True) if thing is not None]
    wrong = [(binding, thing) for binding, thing in pairs if not _right(binding, thing)]
    if not wrong:
        return "correct"
    if sorted(str(binding.attribute) for binding, _ in wrong) == sorted(thing.colour for _, thing in wrong):
        return "swap"
    # A wrong object's own colour is not the one it has, so any asked colour that it has is another's.
    asked_colours = {binding.attribute for binding in asked}
    return "leak" if any(thing.colour in asked_colours for _, thing in wrong) else "other"


def _right(binding: Binding, thing: Found) -> bool:
    return binding.attribute is None or binding.attribute == thing.colour


def _grown_together(taken: Sequence[Found | None], found: Sequence[Found]) -> bool:
    strangers = [thing for thing in found if not any(thing is one for one in taken)]
    if any(thing.noun == "unknown" for thing in strangers):
        return True
    return any(_touch(one.mask, thing.mask) for one in taken if one is not None for thing in strangers)


def _touch(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two masks hold neighbouring blocks, as the parser joins blocks into groups (sides, not corners)."""
    sideways, upright = a[:, 1:] & b[:, :-1] | a[:, :-1] & b[:, 1:], a[1:] & b[:-1] | a[:-1] & b[1:]
    return bool(sideways.any() or upright.any())


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
        asked, objection = claims(sample.prompt), None if found is not None else Scenes.objection(sample.pixels.shape)
        if not asked:
            yield self._missing(sample, "correct", "", "the prompt declares no object")
            return
        problems = [objection or _problem(binding) for binding in asked]
        taken = match(asked, found or ())
        if len(asked) > 1:
            yield from self._whole(sample, asked, found or (), next((p for p in problems if p), None))
        for binding, thing in zip(asked, taken, strict=True):
            yield from self._one(sample, binding, thing, objection)

    def _whole(
        self, sample: Sample, asked: Sequence[Binding], found: Sequence[Found], problem: str | None
    ) -> Iterator[Score]:
        if problem:
            for measure in MEASURES[:8]:
                yield self._missing(sample, measure.name, "", problem)
            return
        result = outcome(asked, found)
        present = result not in ("neglect", "fused")
        detail = {"found": [_plain(thing) for thing in found]}
        yield sample.score(self, "correct", "", float(result == "correct"), result, None, detail)
        for name in OUTCOMES[1:]:
            yield sample.score(self, name, "", float(result == name))
        yield sample.score(self, "both_present", "", float(present))
        if present:
            yield sample.score(self, "accuracy", "", float(result == "correct"))
        else:
            gone = [b.noun for b, thing in zip(asked, match(asked, found), strict=True) if thing is None]
            yield self._missing(sample, "accuracy", "", f"not every object is there: no {', no '.join(gone)}")

    def _one(self, sample: Sample, binding: Binding, thing: Found | None, objection: str | None) -> Iterator[Score]:
        problem = objection or _noun_problem(binding)
        if problem:
            yield self._missing(sample, "noun", binding.object, problem)
        else:
            detail = _plain(thing) if thing else {}
            yield sample.score(self, "noun", binding.object, float(thing is not None), None, None, detail)
        if binding.attribute is None:
            return
        problem = problem or _problem(binding) or (None if thing else f"no {binding.noun} was found")
        if problem or thing is None:
            yield self._missing(sample, "colour", binding.object, problem or "nothing was found")
        else:
            right = float(_right(binding, thing))
            yield sample.score(self, "colour", binding.object, right, thing.colour)

    def _missing(self, sample: Sample, measure: str, target: str, reason: str) -> Score:
        return sample.score(self, measure, target, reason=reason)


def _noun_problem(binding: Binding) -> str | None:
    return None if binding.noun in NOUNS else f"the scene parser does not know {binding.noun!r}: {', '.join(NOUNS)}"


def _problem(binding: Binding) -> str | None:
    if binding.attribute is None or binding.attribute in COLOURS:
        return _noun_problem(binding)
    return f"the scene parser does not know the colour {binding.attribute!r}: {', '.join(COLOURS)}"


def _plain(thing: Found) -> dict[str, Any]:
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
