"""What people saw in a picture, and which outcome of binding that is: GenEval's annotations.

Each line of the file is one rater's answers about one picture (the questions are those of the authors' template):

    Answer.task-count-K      "how many K are in the image?": 0, 1, ..., 5 (or more)
    Answer.task-color-K      "what color of K are in the image? choose all that apply": red|white; if there are any
    Answer.task-real-K       "how realistic are the K?": 1 completely unrealistic, 2 obvious mistakes, 3 realistic
    Answer.task-quality      "how well does the image fit the caption?": 1 to 4

The rule, first match wins; an object has a colour if the rater chose it, beside whatever others:

    1. *neglect*  an asked object is counted 0. (Answers about it that were given before the count was changed to 0
                  stand in the file, hidden from the rater; they do not count.)
    2. *correct*  every object has its asked colour. An object without an asked colour is always right.
    3. *swap*     no object has its own colour, and each has the other's.
    4. *leak*     an object has the colour that was asked of the other, whether or not it has its own too.
    5. *other*    else.

*fused* cannot be told: nobody was asked. Two readings that would count otherwise: asking that the other's colour be
absent turns most of *correct* into *leak*; calling it *swap* wherever both objects have the other's colour, though one
has its own as well, moves a few from *leak* to *swap*.

Raters see the picture of a prompt; of a picture counts what more than half of them say, and where no outcome has that,
nothing is said about it.

References:
    Ghosh et al. 2023, GenEval: An Object-Focused Framework for Evaluating Text-to-Image Alignment (arXiv 2310.11513),
    annotations and template in djghosh13/geneval. The outcomes are those of `promptlab.records.OUTCOMES`; the rule is
    ours.

The scores of an outcome of binding, for every judge that can tell one: the same measures, said by another probe.

A judge that finds no shapes cannot tell *fused* from *neglect*: it says so with None. Measures are those of the probe
`binding`, so that tables, passports and agreement ask all judges alike.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from promptlab.analyzer.probes import Probe, Sample
from promptlab.analyzer.probes.binding import MEASURES
from promptlab.errors import PromptlabError
from promptlab.records import OUTCOMES, Measure, Score
from promptlab.study.prompt_lists import RequestedObject

__all__ = [
    "NOUN_AND_COLOUR",
    "WHOLE",
    "Judgement",
    "Seen",
    "majority",
    "outcome_scores",
    "outcome_seen",
    "read_annotations",
]

MAX_BYTES = 64_000_000


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


def outcome_seen(asked: Sequence[RequestedObject], seen: Sequence[Seen]) -> str | None:
    """The outcome by the rule above, or None where an answer is missing that decides it."""
    if any(one.count is None for one in seen):
        return None
    if any(one.count == 0 for one in seen):
        return "neglect"
    if any(thing.colour and not one.colours for thing, one in zip(asked, seen, strict=True)):
        return None
    own = [thing.colour is None or thing.colour in one.colours for thing, one in zip(asked, seen, strict=True)]
    if all(own):
        return "correct"
    foreign = [
        any(other.colour in one.colours for k, other in enumerate(asked) if k != i and other.colour != asked[i].colour)
        for i, one in enumerate(seen)
    ]
    if len(asked) == 2 and all(foreign) and not any(own):
        return "swap"
    return "leak" if any(foreign) else "other"


def majority(answers: Sequence[str | bool | None]) -> str | bool | None:
    """What more than half of those who answered say, or None."""
    given = [answer for answer in answers if answer is not None]
    best = Counter(given).most_common(1)
    return best[0][0] if best and 2 * best[0][1] > len(given) else None


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


WHOLE: tuple[Measure, ...] = MEASURES[:8]
"""correct, swap, leak, other, neglect, fused, both_present, accuracy."""
NOUN_AND_COLOUR: tuple[Measure, ...] = MEASURES[8:]
"""noun and colour, of a target object."""


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
