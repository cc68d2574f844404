"""Can a study find what it says it looks for? Asked of its plan, before anything is made.

A contrast may say `detect: 0.10`: a difference of rates of ten points must be found with 80 % power. What its design
can find is in `promptlab.power`, with the families that the contrast pairs (both levels there, `where` met), as many
seeds as the study has, and level 0.05, over the number of confirmatory contrasts where it is one of them (Holm's first
step). Pairs at other levels of the other axes are not counted as more seeds: that errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promptlab import plugins
from promptlab.axes import settle
from promptlab.power import smallest_detectable
from promptlab.records import Cell
from promptlab.study import Contrast, Study

__all__ = ["Power", "check_detects", "families_of", "power_table"]

MOST = 1_000
"""Families, or seeds, beyond which advice is of no use."""


@dataclass(frozen=True)
class Power:
    """A design, and the smallest difference of rates that it finds with 80 % power; None where it finds none."""

    families: int
    seeds: int
    detectable: float | None


def power_table(families: int, seeds: int, alpha: float = 0.05) -> tuple[Power, ...]:
    """This design, and those with twice and four times the families, each with these seeds and twice as many."""
    return tuple(
        Power(n, m, smallest_detectable(n, m, alpha=alpha))
        for n in (families, 2 * families, 4 * families)
        for m in (seeds, 2 * seeds)
        if n >= 2
    )


def families_of(contrast: Contrast, cells: Sequence[Cell]) -> int:
    """Prompt families with a cell at each of the two levels, whose other levels agree and meet `where`."""
    arms: list[set[tuple[str, object]]] = [set(), set()]
    wanted = [settle(contrast.axis, level) for level in contrast.levels]
    where = {axis: settle(axis, level) for axis, level in contrast.where.items()}
    for cell in cells:
        levels = dict(cell.levels)
        if levels.get(contrast.axis) in wanted and all(levels.get(axis) == level for axis, level in where.items()):
            rest = frozenset((axis, level) for axis, level in levels.items() if axis != contrast.axis)
            arms[wanted.index(levels[contrast.axis])].add((cell.group, rest))
    return len({group for group, _ in arms[0] & arms[1]})


def check_detects(study: Study, cells: Sequence[Cell]) -> None:
    """Raise StudyError for the first contrast whose design cannot find what it must, with designs that can."""
    confirmatory = sum(contrast.family == "confirmatory" for contrast in study.contrasts)
    for i, contrast in enumerate(study.contrasts):
        if contrast.detect is None:
            continue
        _check_rate(study, i, contrast)
        alpha = 0.05 / confirmatory if contrast.family == "confirmatory" else 0.05
        families, seeds = families_of(contrast, cells), len(study.seeds)
        able = smallest_detectable(families, seeds, alpha=alpha) if families >= 2 else None
        if able is not None and able <= contrast.detect:
            continue
        finds = f"finds {able:.2f} or more" if able is not None else "finds no difference of rates"
        raise study.error(
            ("contrasts", i, "detect"),
            f"{contrast.detect:g} must be found, but this design ({families} prompt families, {seeds} seeds, level "
            f"{alpha:.2g}) {finds} with 80 % power; {_advice(contrast.detect, families, seeds, alpha)}",
        )


def _check_rate(study: Study, i: int, contrast: Contrast) -> None:
    use = next(use for use in study.probes if use.name == contrast.probe)
    name = contrast.measure.split(".", 1)[1]
    unit = {m.name: m.unit for m in plugins.load("probe", use.name, **use.options).measures}.get(name)
    if unit is not None and unit != "1 or 0":
        raise study.error(
            ("contrasts", i, "detect"),
            f"{contrast.measure} is no rate (its unit: {unit or 'none'}), and how much it varies is not known before a "
            "run; allowed: detect for measures that are 1 or 0, such as binding.correct",
        )


def _advice(detect: float, families: int, seeds: int, alpha: float) -> str:
    more = next((n for n in range(max(2, families), MOST) if _finds(detect, n, seeds, alpha)), None)
    longer = None
    if families >= 2:
        longer = next((m for m in range(seeds, MOST) if _finds(detect, families, m, alpha)), None)
    ways = [f"{n} {what}" for n, what in ((more, "families"), (longer, "seeds")) if n]
    return f"it would take {' or '.join(ways)}" if ways else f"no design of up to {MOST} families can"


def _finds(detect: float, families: int, seeds: int, alpha: float) -> bool:
    able = smallest_detectable(families, seeds, alpha=alpha)
    return able is not None and able <= detect
