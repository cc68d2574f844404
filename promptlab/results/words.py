"""Words and colours that every way of showing results shares: terminal, report, figures, dashboard.

Colours are those of Okabe and Ito (2008), which people with any colour vision tell apart.
"""

from __future__ import annotations

from collections.abc import Callable

from promptlab.records import OUTCOMES

__all__ = ["OUTCOME_COLOURS", "TIERS", "VERDICT_COLOURS", "tiers_in_words", "with_interval"]

TIERS = {
    "T0": "drawn truth, which says how far a probe can be trusted and nothing about a model",
    "T1": "the miniature, whose rates say nothing about SDXL or FLUX",
    "T2": "a real model",
}
"""What a number of each tier speaks about."""

GREEN, RED, AMBER, PINK, BLUE, GREY = "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#56B4E9", "#8A8A8A"

OUTCOME_COLOURS = dict(zip(OUTCOMES, (GREEN, RED, AMBER, PINK, BLUE, GREY), strict=True))
VERDICT_COLOURS = {"supported": GREEN, "partly": AMBER, "contradicted": RED, "not testable here": "#777777"}


def tiers_in_words(tiers: str) -> str:
    """What "T1" or "T0, T1" stand for; a name that is not a tier stays as it is."""
    return "; ".join(f"{t}: {TIERS[t]}" if t in TIERS else t for t in tiers.split(", "))


def with_interval(
    show: Callable[[float], str], value: float | None, low: float | None = None, high: float | None = None
) -> str:
    """`value [low, high]`, each by `show`; "value, no interval" without one, "-" without a value. NaN is no value."""
    if value is None or value != value:
        return "-"
    if low is None or high is None or low != low or high != high:
        return f"{show(value)}, no interval"
    return f"{show(value)} [{show(low)}, {show(high)}]"
