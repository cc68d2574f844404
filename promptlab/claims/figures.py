"""One figure a claim, for a stranger: the sentence, what was measured, interval, margin, verdict.

SVG, written by hand: a dot with a bar, a band where the claim expects it, and words. No script, no font, no link.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from promptlab.claims import Settled
from promptlab.results.words import VERDICT_COLOURS, tiers_in_words

__all__ = ["figure", "write_figures"]

WIDTH, LEFT, RIGHT = 860, 40, 820


def write_figures(settled: Sequence[Settled], folder: Path) -> list[Path]:
    """`folder`/<id>.svg for each claim. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in settled:
        path = folder / f"{one.claim.id}.svg"
        path.write_text(figure(one), encoding="utf-8")
        paths.append(path)
    return paths


def figure(one: Settled) -> str:
    """The figure of a claim as SVG text."""
    claim, effect = one.claim, one.effect
    parts: list[str] = []
    y = 40
    for line in textwrap.wrap(f"{claim.id}. \u201c{claim.claim}\u201d", 62):
        parts.append(_text(LEFT, y, line, 22, weight="bold"))
        y += 28
    parts.append(_badge(RIGHT, y, one.verdict))
    for line in textwrap.wrap(claim.design, 84):
        parts.append(_text(LEFT, y, line, 14, fill="#444"))
        y += 19
    y += 26
    if effect.estimate is None or effect.low is None or effect.high is None:
        said = effect.reason or "nothing was measured"
        if effect.estimate is not None:
            said = f"found {effect.estimate + 0:g} away from what is claimed (exact, no interval)"
        parts.append(_text(LEFT, y + 10, said, 16))
        y += 40
    else:
        parts += _axis(one, effect.estimate, effect.low, effect.high, y)
        y += 130
    foot = ""
    if effect.n_groups and effect.low is not None:
        n = f"{effect.n_groups} {effect.detail.get('unit_of_inference', 'prompt')}s, {effect.n_pairs} pairs"
        foot = f"{n}{'; 95 % interval' if effect.low is not None else ''}; tier {tiers_in_words(one.tier)}."
    for line in (foot, *textwrap.wrap(f"Elsewhere: {claim.comparator}", 110)):
        if line:
            parts.append(_text(LEFT, y, line, 12, fill="#444"))
            y += 17
    title = escape(f"{claim.id}: {claim.claim}. Verdict: {one.verdict}")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 10}" font-family="sans-serif" role="img">'
    )
    return f'{head}<title>{title}</title><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'


def _text(x: float, y: float, words: str, size: int, fill: str = "", weight: str = "", anchor: str = "") -> str:
    more = (f' font-weight="{weight}"' if weight else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill or "#111"}"{more}>{escape(words)}</text>'


def _badge(x: float, y: float, verdict: str) -> str:
    width = 9.2 * len(verdict) + 24
    size, fill = f'width="{width:.1f}" height="28"', VERDICT_COLOURS[verdict]
    box = f'<rect x="{x - width:.1f}" y="{y - 18}" {size} rx="14" fill="{fill}"/>'
    return box + _text(x - width / 2, y + 1, verdict, 15, fill="white", weight="bold", anchor="middle")


def _axis(one: Settled, estimate: float, low: float, high: float, y: float) -> list[str]:
    """Zero, the margin's band where the claim expects the dot, and the measured difference with its interval."""
    claim = one.claim
    most = 1.15 * max(abs(low), abs(high), abs(estimate), 1.5 * claim.margin)

    def at(value: float) -> float:
        return LEFT + (value + most) / (2 * most) * (RIGHT - LEFT)

    bands = {"more": (claim.margin, most), "less": (-most, -claim.margin), "same": (-claim.margin, claim.margin)}
    a, b = bands.get(claim.expects, (0.0, 0.0))
    middle, colour = y + 42, VERDICT_COLOURS[one.verdict]
    parts = [
        f'<rect x="{at(a):.1f}" y="{y}" width="{at(b) - at(a):.1f}" height="84" fill="#0072B2" opacity="0.12"/>',
        _text((at(a) + at(b)) / 2, y + 14, "expected by the claim", 11, fill="#0072B2", anchor="middle"),
        f'<line x1="{LEFT}" y1="{y + 84}" x2="{RIGHT}" y2="{y + 84}" stroke="#888"/>',
        f'<line x1="{at(0):.1f}" y1="{y}" x2="{at(0):.1f}" y2="{y + 90}" stroke="#333" stroke-dasharray="4 3"/>',
        f'<path d="M{at(low):.1f} {middle}H{at(high):.1f}" stroke="{colour}" stroke-width="5"/>',
        f'<circle cx="{at(estimate):.1f}" cy="{middle}" r="9" fill="{colour}"/>',
        _text(at(0), y + 104, "no difference", 12, anchor="middle", fill="#444"),
        _text(
            at(estimate), middle + 28, f"{estimate:+.3g} [{low:+.3g}, {high:+.3g}]", 14, anchor="middle", weight="bold"
        ),
    ]
    unit = claim.unit or one.effect.measure
    parts.append(_text(RIGHT, y + 104, f"difference in: {unit}", 12, anchor="end", fill="#444"))
    return parts
