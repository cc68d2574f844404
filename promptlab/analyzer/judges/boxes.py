"""From boxes that a detector finds to what a prompt got: colours by CIELAB, GenEval's rule, outcomes of binding.

    box       x0, y0, x1, y1 in pixels, x1 and y1 not inside       score   the detector's confidence, 0..1
    share(c)  share of a thing's pixels whose nearest colour name is c
    colour    the name with the largest share, if that is at least `least`; else "mixed"

Pixels are those of the ellipse within the box, or of a mask: a box's corners are mostly background. Names lie at
prototypes in CIELAB, and the nearest (CIEDE2000) is taken, as TIAM does inside masks with its own prototypes. Ours are
the eleven basic colour terms of English at the colours to which most of 222,500 people gave that name.

One thing may answer to several nouns: of boxes that overlap by more than `OVERLAP` (intersection over union) only the
most confident stands, whatever its noun.

GenEval's rule: of each asked class the `count` most confident detections must be there, and as many of them must have
the asked colour; an excluded class must come fewer than `count` times.

References:
    Ghosh et al. 2023, GenEval (arXiv 2310.11513). Grimal et al. 2024, TIAM (arXiv 2307.05134): least share 0.4.
    Berlin and Kay 1969, Basic Color Terms. Munroe 2010, Color Survey Results (xkcd): the prototypes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.colour import name_colour, rgb_to_lab
from promptlab.analyzer.judges.outcomes import match, outcome
from promptlab.miniature.parser import Found
from promptlab.records import Binding, Prompt

__all__ = [
    "BASIC_COLOURS",
    "MIXED",
    "Detection",
    "Wanted",
    "colour_of",
    "geneval",
    "read_outcome",
    "requested_bindings",
    "suppress",
    "things",
]

BASIC_COLOURS: Mapping[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (146, 149, 145),
    "red": (229, 0, 0),
    "orange": (249, 115, 6),
    "yellow": (255, 255, 20),
    "green": (21, 176, 26),
    "blue": (3, 67, 223),
    "purple": (126, 30, 156),
    "pink": (255, 129, 192),
    "brown": (101, 55, 0),
}
MIXED = "mixed"
OVERLAP = 0.8
SPELLINGS = {"gray": "grey"}


@dataclass(frozen=True)
class Detection:
    """A noun that a detector found: its confidence, its box in pixels, and its colour where one was named."""

    noun: str
    score: float
    box: tuple[float, float, float, float]
    colour: str | None = None


@dataclass(frozen=True)
class Wanted:
    """`count` things of a noun, all of `colour` if one is named."""

    noun: str
    count: int = 1
    colour: str | None = None


def colour_of(
    pixels: NDArray[np.uint8],
    box: tuple[float, float, float, float],
    mask: NDArray[np.bool_] | None = None,
    least: float = 0.4,
    palette: Mapping[str, Sequence[int]] = BASIC_COLOURS,
) -> tuple[str, dict[str, float]]:
    """The colour of what lies in a box of a picture (height, width, 3), and the share of each name, largest first.

    `mask` (height, width) says which pixels are the thing's, in place of the ellipse. A box without a pixel is "mixed".
    """
    height, width = pixels.shape[:2]
    x0, y0 = max(0, int(np.floor(box[0]))), max(0, int(np.floor(box[1])))
    x1, y1 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    if x1 <= x0 or y1 <= y0 or box[2] <= box[0] or box[3] <= box[1]:
        return MIXED, {}
    part = pixels[y0:y1, x0:x1]
    if mask is None:
        y, x = np.mgrid[y0:y1, x0:x1] + 0.5
        across, down = (2 * x - box[0] - box[2]) / (box[2] - box[0]), (2 * y - box[1] - box[3]) / (box[3] - box[1])
        inside = across**2 + down**2 <= 1
    else:
        inside = mask[y0:y1, x0:x1]
    chosen = part[inside] if inside.any() else part.reshape(-1, 3)
    # Each distinct colour once, at 32 levels a channel: nearest names of a whole photograph would take seconds.
    coarse, counts = np.unique((chosen >> 3).astype(np.int64) @ [1024, 32, 1], return_counts=True)
    levels = np.stack([coarse // 1024, coarse // 32 % 32, coarse % 32], axis=1)
    names, _ = name_colour(rgb_to_lab((levels * 255 / 31).round().astype(np.uint8)), palette)
    shares = {str(name): float(counts[names == name].sum() / counts.sum()) for name in np.unique(names)}
    shares = dict(sorted(shares.items(), key=lambda item: -item[1]))
    best = next(iter(shares))
    return (best if shares[best] >= least else MIXED), shares


def suppress(found: Iterable[Detection], overlap: float = OVERLAP) -> tuple[Detection, ...]:
    """The detections, most confident first, without those that overlap a more confident one too far."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda detection: -detection.score):
        if all(_union(one.box, other.box) <= overlap for other in kept):
            kept.append(one)
    return tuple(kept)


def _union(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes, 0 for boxes without area."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / whole if whole > 0 else 0.0


def geneval(
    include: Sequence[Wanted], found: Iterable[Detection], exclude: Sequence[Wanted] = (), threshold: float = 0.3
) -> tuple[bool, tuple[str, ...]]:
    """Whether a picture passes by GenEval's rule, and why not; detections at or below the threshold do not count."""
    by_noun: dict[str, list[Detection]] = {}
    for one in sorted(found, key=lambda detection: -detection.score):
        if one.score > threshold:
            by_noun.setdefault(one.noun, []).append(one)
    reasons = []
    for wanted in include:
        matching = by_noun.get(wanted.noun, [])[: wanted.count]
        if len(matching) < wanted.count:
            reasons.append(f"expected {wanted.noun} >= {wanted.count}, found {len(matching)}")
        elif wanted.colour is not None and (n := sum(one.colour == wanted.colour for one in matching)) < wanted.count:
            colours = ", ".join(str(one.colour) for one in matching)
            reasons.append(f"expected {wanted.colour} {wanted.noun} >= {wanted.count}, found {n} ({colours})")
    reasons += [
        f"expected {banned.noun} < {banned.count}, found {len(by_noun[banned.noun])}"
        for banned in exclude
        if len(by_noun.get(banned.noun, [])) >= banned.count
    ]
    return not reasons, tuple(reasons)


def requested_bindings(prompt: Prompt) -> tuple[Binding, ...]:
    """What a prompt claims about colour, one binding an object, in the spelling of `BASIC_COLOURS`."""
    found: dict[str, Binding] = {}
    for binding in prompt.bindings:
        colour = None
        if binding.kind in ("colour", "color") and binding.attribute is not None:
            word = binding.attribute.strip().lower()
            colour = SPELLINGS.get(word, word)
        if binding.object not in found or colour is not None:
            found[binding.object] = Binding(binding.object, binding.noun.strip().lower(), colour)
    return tuple(found.values())


def things(found: Iterable[Detection], shape: tuple[int, ...]) -> tuple[Found, ...]:
    """Detections as the things that the rule of `promptlab.analyzer.probes.binding` reads; their masks hold nothing."""
    height, width = shape[:2]
    empty = np.zeros((1, 1), bool)
    return tuple(
        Found(
            one.noun,
            one.colour or MIXED,
            one.score,
            1.0,
            (round(one.box[0]), round(one.box[1]), round(one.box[2]), round(one.box[3])),
            _within(one.box, height, width) / (height * width),
            empty,
        )
        for one in found
    )


def _within(box: tuple[float, float, float, float], height: int, width: int) -> float:
    """Pixels of a box inside the picture: boxes may stick out."""
    across, down = min(box[2], width) - max(box[0], 0), min(box[3], height) - max(box[1], 0)
    return max(0.0, across) * max(0.0, down)


def read_outcome(
    requested: Sequence[Binding], found: Iterable[Detection], shape: tuple[int, ...]
) -> tuple[str, tuple[Found | None, ...]]:
    """The outcome of binding in a picture of `shape`, and the thing that stands for each asked object (or None).

    Never *fused*: masks are empty here, so that nothing has grown together, and a detector finds asked nouns only.
    """
    seen = things(found, shape)
    return outcome(requested, seen), match(requested, seen)
