"""Which outcome of binding an image shows, by things that a judge found or by answers of people, and its scores.

For things found (each with a noun or "unknown", a colour and a mask), the first rule that matches gives the `outcome`:

    1. Every requested object takes a found thing of its noun, no thing twice. With more things than needed the best fit
       is taken (right colours, then area): a claim holds if something fulfils it, and further things do not count.
    2. *fused*    an object has no thing, and the image holds a shape that is no noun, or an unrequested thing that has
                  grown together with a requested one;
       *neglect*  an object has no thing.
    3. *correct*  every colour is the requested one; an object without a colour is always right.
    4. *swap*     the wrong objects have one another's colours.
    5. *leak*     an object has the colour that was requested of another.
    6. *other*    a colour that was requested of none. Two objects of one colour can only be right or other.

GenEval's annotations are a file with one line for each rater and image (the questions are those of the authors):

    Answer.task-count-K      "how many K are in the image?": 0, 1, ..., 5 (or more)
    Answer.task-color-K      "what color of K are in the image? choose all that apply": red|white; if there are any
    Answer.task-real-K       "how realistic are the K?": 1 completely unrealistic, 2 obvious mistakes, 3 realistic
    Answer.task-quality      "how well does the image fit the caption?": 1 to 4

For answers, `outcome_seen` applies the first rule that matches. An object has a colour if the rater chose it, alone or
among others:

    1. *neglect*  a requested object is counted 0. (The file keeps answers about it from before the count was changed
                  to 0, which the rater no longer saw; they do not count.)
    2. *correct*  every object has its requested colour. An object without a requested colour is always right.
    3. *swap*     no object has its requested colour, and each has the other's.
    4. *leak*     an object has the colour requested of the other, whether or not it has its requested one too.
    5. *other*    else.

Raters cannot report *fused*, since nobody asked them. Two other readings are possible. One could demand that the
other's colour be absent, which turns most of *correct* into *leak*. Or one could call it *swap* wherever both objects
have the other's colour, which moves a few from *leak* to *swap*. For an image, the answer of more than half of its
raters counts; where no answer has that many, there is none.

`outcome_scores` turns an outcome into scores of the same measures as the probe `binding`, so that tables, passports
and agreement treat all judges alike. A judge that sees no shapes cannot tell *fused* from *neglect*, and reports None.

References:
    Ghosh et al. 2023, GenEval: An Object-Focused Framework for Evaluating Text-to-Image Alignment (arXiv 2310.11513),
    annotations and template in djghosh13/geneval. The outcomes are those of `promptlab.records.OUTCOMES`; the rule is
    ours.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.analyzer.judges.scene_parser import plain_noun
from promptlab.analyzer.probes import Probe, Sample
from promptlab.errors import PromptlabError
from promptlab.miniature.parser import Found
from promptlab.records import OUTCOMES, Binding, Measure, Prompt, Score
from promptlab.study.prompt_lists import RequestedObject

__all__ = [
    "MEASURES",
    "NOUN_AND_COLOUR",
    "WHOLE",
    "Judgement",
    "Seen",
    "claims",
    "is_right",
    "majority",
    "match",
    "outcome",
    "outcome_scores",
    "outcome_seen",
    "read_annotations",
]

MAX_BYTES = 64_000_000
COLOUR_KINDS = ("colour", "color")


def _share(name: str, description: str, higher_is_better: bool) -> Measure:
    return Measure(name, description, "1 or 0", 0, 1, higher_is_better, "promptlab.analyzer.judges.outcomes")


WHOLE: tuple[Measure, ...] = (
    _share("correct", "every asked object is there in its colour; the label is the outcome", True),
    _share("swap", "all are there, the wrong ones with one another's colours", False),
    _share("leak", "all are there, one with the colour asked of another", False),
    _share("other", "all are there, one with a colour asked of none", False),
    _share("neglect", "an asked object is missing", False),
    _share("fused", "an asked object is missing, and something is no thing or grown together", False),
    _share("both_present", "every asked object is there, whatever its colour", True),
    _share("accuracy", "correct, given that every asked object is there", True),
)
"""Of the prompt as a whole. Only `correct` carries the outcome as its label, so that each image counts once."""
NOUN_AND_COLOUR: tuple[Measure, ...] = (
    _share("noun", "the target object is there", True),
    _share("colour", "the target object has its colour, given that it is there; the label is what it has", True),
)
"""Of a target object."""
MEASURES = (*WHOLE, *NOUN_AND_COLOUR)


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


def match(requested: Sequence[Binding], found: Sequence[Found]) -> tuple[Found | None, ...]:
    """The thing that stands for each asked object, or None."""
    from scipy.optimize import linear_sum_assignment

    taken: list[Found | None] = [None] * len(requested)
    for noun in {binding.noun for binding in requested}:
        objects = [i for i, binding in enumerate(requested) if binding.noun == noun]
        things = [thing for thing in found if thing.noun == noun]
        # All areas together are at most 1, so a right colour outweighs them.
        worth = np.array([[2.0 * is_right(requested[i], thing) + thing.area for thing in things] for i in objects])
        if things:
            for row, column in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
                taken[objects[row]] = things[column]
    return tuple(taken)


def outcome(requested: Sequence[Binding], found: Sequence[Found]) -> str:
    """One of `records.OUTCOMES`, by the rule above."""
    taken = match(requested, found)
    if any(thing is None for thing in taken):
        return "fused" if _grown_together(taken, found) else "neglect"
    pairs = [(binding, thing) for binding, thing in zip(requested, taken, strict=True) if thing is not None]
    wrong = [(binding, thing) for binding, thing in pairs if not is_right(binding, thing)]
    if not wrong:
        return "correct"
    if sorted(str(binding.attribute) for binding, _ in wrong) == sorted(thing.colour for _, thing in wrong):
        return "swap"
    # A wrong object's own colour is not the one it has, so any asked colour that it has is another's.
    requested_colours = {binding.attribute for binding in requested}
    return "leak" if any(thing.colour in requested_colours for _, thing in wrong) else "other"


def is_right(binding: Binding, thing: Found) -> bool:
    """Whether a thing has the colour that the binding claims, if it claims one."""
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


@dataclass(frozen=True)
class Seen:
    """What a rater says of one object: how many (None: no answer), which colours, how real (1 to 3, or None)."""

    count: int | None
    colours: frozenset[str] = frozenset()
    realism: int | None = None


@dataclass(frozen=True)
class Judgement:
    """One rater's answers about one picture: picture `image` of prompt number `prompt`, objects in the asked order."""

    prompt: int
    image: int
    caption: str
    url: str
    nouns: tuple[str, ...]
    seen: tuple[Seen, ...]
    fit: int | None


def outcome_seen(requested: Sequence[RequestedObject], seen: Sequence[Seen]) -> str | None:
    """The outcome by the rule above, or None where an answer is missing that decides it."""
    if any(one.count is None for one in seen):
        return None
    if any(one.count == 0 for one in seen):
        return "neglect"
    if any(thing.colour and not one.colours for thing, one in zip(requested, seen, strict=True)):
        return None
    has_its_colour = [
        thing.colour is None or thing.colour in one.colours for thing, one in zip(requested, seen, strict=True)
    ]
    if all(has_its_colour):
        return "correct"
    has_other_colour = [
        any(
            other.colour in one.colours
            for k, other in enumerate(requested)
            if k != i and other.colour != requested[i].colour
        )
        for i, one in enumerate(seen)
    ]
    if len(requested) == 2 and all(has_other_colour) and not any(has_its_colour):
        return "swap"
    return "leak" if any(has_other_colour) else "other"


def majority(answers: Sequence[str | bool | None]) -> str | bool | None:
    """What more than half of those who answered say, or None."""
    answered = [answer for answer in answers if answer is not None]
    best = Counter(answered).most_common(1)
    return best[0][0] if best and 2 * best[0][1] > len(answered) else None


_NEEDED = (
    *("Input.prompt_id", "Input.image_id", "Input.image_url", "Input.caption", "Input.object_0_name"),
    *("Input.object_1_name", "Answer.task-quality"),
    *(f"Answer.task-{what}-{k}" for what in ("count", "color", "real") for k in (0, 1)),
)


def read_annotations(path: Path) -> tuple[Judgement, ...]:
    """All judgements of a file in GenEval's form. Raises PromptlabError with the line for what cannot be used."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PromptlabError(f"{path} is over {MAX_BYTES / 1e6:.0f} MB")
        reader = csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""), strict=True)
        for name in _NEEDED:
            if name not in (reader.fieldnames or ()):
                raise PromptlabError(f"{path} has no column {name}: it is no file of GenEval's annotations")
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PromptlabError(f"{path} cannot be read as CSV in UTF-8: {error}") from None
    return tuple(_judgement(row, f"{path}:{n}") for n, row in rows)


def _judgement(row: dict[str, str], where: str) -> Judgement:
    names = tuple(name for name in (row["Input.object_0_name"], row["Input.object_1_name"]) if name)
    seen = []
    for k in range(len(names)):
        colours = frozenset(filter(None, (row[f"Answer.task-color-{k}"] or "").split("|")))
        counted = _whole(row, f"Answer.task-count-{k}", where, 99)
        seen.append(Seen(counted, colours if counted else frozenset(), _whole(row, f"Answer.task-real-{k}", where, 3)))
    prompt, image = (_whole(row, f"Input.{name}", where, 10**6) for name in ("prompt_id", "image_id"))
    if prompt is None or image is None:
        raise PromptlabError(f"{where}: prompt_id and image_id are needed")
    fit = _whole(row, "Answer.task-quality", where, 4)
    return Judgement(prompt, image, row["Input.caption"], row["Input.image_url"], names, tuple(seen), fit)


def _whole(row: dict[str, str], name: str, where: str, most: int) -> int | None:
    text = row[name] or ""
    if not text:
        return None
    if not re.fullmatch(r"\d{1,6}(\.0)?", text) or float(text) > most:
        raise PromptlabError(f"{where}: {name} is {text!r}; a whole number up to {most} is allowed")
    return int(float(text))


def outcome_scores(
    probe: Probe,
    sample: Sample,
    outcome: str | None,
    reason: str | None = None,
    detail: dict[str, Any] | None = None,
) -> Iterator[Score]:
    """A score for each of `WHOLE`; all None with `reason` where no `outcome` is. Raises ValueError for *fused*."""
    score = partial(sample.score, probe)
    if outcome is None:
        for measure in WHOLE:
            yield score(measure.name, reason=reason or "the judge could not tell")
        return
    if outcome not in OUTCOMES or outcome == "fused":
        raise ValueError(f"outcome is {outcome!r}: {', '.join(OUTCOMES[:-1])} are allowed")
    yield score("correct", "", float(outcome == "correct"), outcome, None, detail)
    for name in OUTCOMES[1:-1]:
        yield score(name, "", float(outcome == name))
    yield score("fused", reason="this judge cannot tell fused from neglect")
    present = outcome != "neglect"
    yield score("both_present", "", float(present))
    if present:
        yield score("accuracy", "", float(outcome == "correct"))
    else:
        yield score("accuracy", reason="not every object is there")
