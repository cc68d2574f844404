"""One figure a claim, for a stranger: the sentence, what was measured, interval, margin, verdict. SVG, no script."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.claims import Settled
from promptlab.results.words import VERDICT_COLOURS, tiers_in_words

if TYPE_CHECKING:
    import altair as alt

__all__ = ["chart", "figure", "write_figures"]

WIDTH, HEIGHT = 780, 116
"""Of the axis, in pixels."""
EXPECTED = "#0072B2"


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
    """The figure of a claim as SVG text, with one title for all of it in place of a label for each mark."""
    text = io.StringIO()
    chart(one).save(text, format="svg")
    head, body = text.getvalue().split(">", 1)
    title = escape(f"{one.claim.id}: {one.claim.claim}. Verdict: {one.verdict}")
    return f'{head} role="img"><title>{title}</title>{body}\n'


def chart(one: Settled) -> alt.VConcatChart:
    """The figure of a claim: sentence and design, verdict, difference on its axis, where else it was measured."""
    import altair as alt

    claim, effect = one.claim, one.effect
    sentence = textwrap.wrap(f"{claim.id}. \u201c{claim.claim}\u201d", 62)
    title = alt.Title(sentence, subtitle=textwrap.wrap(claim.design, 110), anchor="start", offset=14)
    rows: list[alt.Chart | alt.LayerChart] = [_verdict(one.verdict)]
    foot = textwrap.wrap(f"Elsewhere: {claim.comparator}", 120)
    if effect.estimate is None or effect.low is None or effect.high is None:
        reason = effect.reason or "nothing was measured"
        if effect.estimate is not None:
            reason = f"found {effect.estimate + 0:g} away from what is claimed (exact, no interval)"
        rows.append(_lines(textwrap.wrap(reason, 90), 16, "#111"))
    else:
        rows.append(_axis(one, effect.estimate, effect.low, effect.high))
        if effect.n_groups:
            n = f"{effect.n_groups} {effect.detail.get('unit_of_inference', 'prompt')}s, {effect.n_pairs} pairs"
            foot = [*textwrap.wrap(f"{n}; 95 % interval; tier {tiers_in_words(one.tier)}.", 120), *foot]
    rows.append(_lines(foot, 12, "#444"))
    whole = alt.vconcat(*rows, spacing=14, title=title, background="white", padding=24)
    return whole.configure_view(stroke=None).configure_title(fontSize=22, subtitleFontSize=14, subtitleColor="#444")


def _lines(lines: Sequence[str], size: int, colour: str) -> alt.Chart:
    import altair as alt

    words = alt.Chart(alt.Data(values=[{}])).mark_text(
        align="left", baseline="top", fontSize=size, color=colour, text=list(lines), lineHeight=size + 5
    )
    return words.encode(x=alt.value(0), y=alt.value(0)).properties(width=WIDTH, height=(size + 5) * len(lines))


def _verdict(verdict: str) -> alt.LayerChart:
    import altair as alt

    data = alt.Chart(alt.Data(values=[{}])).encode(y=alt.value(9))
    dot = data.mark_circle(size=300, color=VERDICT_COLOURS[verdict], opacity=1).encode(x=alt.value(9))
    word = data.mark_text(align="left", fontSize=16, fontWeight="bold", text=verdict).encode(x=alt.value(26))
    return alt.layer(dot, word).properties(width=WIDTH, height=18)


def _axis(one: Settled, estimate: float, low: float, high: float) -> alt.LayerChart:
    """Zero, the margin's band where the claim expects the dot, and the measured difference with its interval."""
    import altair as alt

    margin, colour = one.claim.margin, VERDICT_COLOURS[one.verdict]
    most = 1.15 * max(abs(low), abs(high), abs(estimate), 1.5 * margin)
    bands = {"more": (margin, most), "less": (-most, -margin), "same": (-margin, margin)}
    start, stop = bands.get(one.claim.expects, (0.0, 0.0))
    scale = alt.Scale(domain=[-most, most], nice=False)
    label = alt.Axis(grid=False, tickCount=7, labelFontSize=12, titleFontSize=12, titleFontWeight="normal")

    def at(value: float, height: int) -> alt.Chart:
        x = alt.X("x:Q", scale=scale, axis=label, title=f"difference in: {one.claim.unit or one.effect.measure}")
        return alt.Chart(alt.Data(values=[{"x": value, "low": low, "high": high, "stop": stop}])).encode(
            x=x, y=alt.value(height)
        )

    found = f"{estimate:+.3g} [{low:+.3g}, {high:+.3g}]"
    return alt.layer(
        at(start, 0).mark_rect(color=EXPECTED, opacity=0.12).encode(x2="stop:Q", y2=alt.value(HEIGHT)),
        at((start + stop) / 2, 12).mark_text(fontSize=12, color=EXPECTED, text="expected by the claim"),
        at(0, 0).mark_rule(color="#333", strokeDash=[4, 3]).encode(y2=alt.value(HEIGHT)),
        at(0, HEIGHT - 10).mark_text(fontSize=12, color="#444", text="no difference", align="left", dx=6),
        at(low, 46).mark_rule(color=colour, strokeWidth=5).encode(x2="high:Q"),
        at(estimate, 46).mark_circle(color=colour, size=250, opacity=1),
        at(estimate, 74).mark_text(fontSize=14, fontWeight="bold", text=found),
    ).properties(width=WIDTH, height=HEIGHT)
