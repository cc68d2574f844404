"""The scores of an outcome of binding, for every judge that can tell one: the same measures, said by another probe.

A judge that finds no shapes cannot tell *fused* from *neglect*: it says so with None. Measures are those of the probe
`binding`, so that tables, passports and agreement ask all judges alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from promptlab.probes.binding import MEASURES
from promptlab.records import OUTCOMES, Measure, Score

__all__ = ["NOUN_AND_COLOUR", "WHOLE", "outcome_scores"]

WHOLE: tuple[Measure, ...] = MEASURES[:8]
"""correct, swap, leak, other, neglect, fused, both_present, accuracy."""
NOUN_AND_COLOUR: tuple[Measure, ...] = MEASURES[8:]
"""noun and colour, of a target object."""


def outcome_scores(
    image: str, probe: str, outcome: str | None, reason: str | None = None, detail: dict[str, Any] | None = None
) -> Iterator[Score]:
    """A score for each of `WHOLE`; all None with `reason` where no `outcome` is. Raises ValueError for *fused*."""
    if outcome is None:
        for measure in WHOLE:
            yield Score(image, probe, measure.name, reason=reason or "the judge could not tell")
        return
    if outcome not in OUTCOMES or outcome == "fused":
        raise ValueError(f"outcome is {outcome!r}: {', '.join(OUTCOMES[:-1])} are allowed")
    yield Score(image, probe, "correct", "", float(outcome == "correct"), outcome, None, detail or {})
    for name in OUTCOMES[1:-1]:
        yield Score(image, probe, name, "", float(outcome == name))
    yield Score(image, probe, "fused", reason="this judge cannot tell fused from neglect")
    present = outcome != "neglect"
    yield Score(image, probe, "both_present", "", float(present))
    if present:
        yield Score(image, probe, "accuracy", "", float(outcome == "correct"))
    else:
        yield Score(image, probe, "accuracy", reason="not every object is there")
