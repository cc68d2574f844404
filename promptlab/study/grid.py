"""From a study to its cells.

The grid is the product of the axes in the order of the file, the last varying fastest, without the excluded
combinations. It is counted by multiplication before anything is expanded, so a grid of 10^9 cells is refused at once.
Cells that differ only in settings or manipulations share a `group`, the prompt family over which statistics pair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from promptlab.errors import StudyError
from promptlab.records import AxisColumn, AxisRole, Cell, Level, Prompt, Settings, content_id
from promptlab.study.axes.axis import SETTING_UNITS, SETTINGS, Point, settle, use_of
from promptlab.study.checks import columns_of, unit_axes
from promptlab.study.prompts import Draft, render
from promptlab.study.strict_yaml import Mistake, Route
from promptlab.study.study import Study
from promptlab.study.tokens import Tokens, open_tokens

__all__ = ["MAX_CELLS", "Tokenizer", "axis_columns", "count", "count_images", "expand", "needs_tokenizer"]

MAX_CELLS = 10_000
MAX_WALKED = 1_000_000
"""At most this many combinations are walked through where rules exclude some of them."""

Tokenizer = Tokens | str | Path | Callable[[str], str | Path | None] | None
"""The model's tokenizer: opened, its file or folder, or a function from the model's name to one of these."""


def needs_tokenizer(study: Study) -> bool:
    """Whether an axis counts tokens, so that the model's tokenizer must be at hand to plan."""
    return any(axis.counts_tokens for axis in study.axes.values())


def count(study: Study, max_cells: int = MAX_CELLS) -> int:
    """How many cells the study has. Raises StudyError above `max_cells`."""
    sizes = {name: axis.levels(name).count for name, axis in study.axes.items()}
    columns = columns_of(study.axes)
    touched = {columns[column] for rule in study.exclude for column in rule}
    free = math.prod(size for name, size in sizes.items() if name not in touched)
    walked = math.prod(sizes[name] for name in touched)
    if walked > max(MAX_WALKED, max_cells):
        raise _too_many(study, sizes, free * walked, max_cells)
    if touched:
        rules = _Rules(study, {name: tuple(study.axes[name].levels(name)) for name in sizes if name in touched})
        walked = sum(1 for _ in rules.places())
    cells = free * walked
    if cells > max_cells:
        raise _too_many(study, sizes, cells, max_cells)
    if not cells:
        raise study.error(("exclude",), "these rules exclude every cell", key=True)
    return cells


def count_images(study: Study, max_cells: int = MAX_CELLS) -> int:
    """Cells times seeds: pictures asked for, before those that coincide are made once."""
    return count(study, max_cells) * len(study.seeds)


def expand(
    study: Study,
    tokenizer: Tokenizer = None,
    max_cells: int = MAX_CELLS,
    defaults: Callable[[str], Settings] | None = None,
) -> Iterator[Cell]:
    """The cells, in fixed order. Raises StudyError before the first where there are more than `max_cells`.

    `tokenizer` is needed where `needs_tokenizer(study)`. `defaults` gives a model's own settings by its name, for what
    the study leaves open; without it they are promptlab's.
    """
    count(study, max_cells)
    return _cells(study, tokenizer, defaults or (lambda model: Settings()))


def _cells(study: Study, tokenizer: Tokenizer, defaults: Callable[[str], Settings]) -> Iterator[Cell]:
    axes = study.axes
    rules = _Rules(study, {name: tuple(axis.levels(name)) for name, axis in axes.items()})
    points = list(rules.points.values())
    word_axes = [i for i, (name, axis) in enumerate(axes.items()) if axis.levels(name).slots or axis.manipulates]
    names = unit_axes(axes, study.units)
    units = [i for i, name in enumerate(axes) if name in names]
    kinds = list(axes.values())
    elsewhere = study.backend == "folder"
    spec = study.prompt.model_dump(mode="json", exclude_defaults=True)
    prompts: dict[Any, Prompt] = {}
    groups: dict[Any, str] = {}
    settings: dict[Any, Settings] = {}
    for places in rules.places():
        row = [points[i][k] for i, k in enumerate(places)]
        levels = tuple(itertools.chain.from_iterable(row))
        # a level of null is a setting that nobody knows; but a scheduler of null is the model's own
        chosen = tuple(
            pair for pair in levels if pair[0] in SETTINGS and (pair[1] is not None or pair[0] == "scheduler")
        )
        model = next((str(level) for column, level in levels if column == "model"), study.model)
        if (model, chosen) not in settings:
            base = study.settings.settings(defaults(model))
            settings[model, chosen] = replace(base, **dict(chosen))  # type: ignore[arg-type]
        words = (model, *(places[i] for i in word_axes))
        if words not in prompts:
            prompts[words] = _prompt(study, row, _tokens(tokenizer, model) if needs_tokenizer(study) else None)
        family = tuple(places[i] for i in units)
        if family not in groups:
            unit = [list(pair) for i in units for pair in kinds[i].family(row[i])]
            groups[family] = content_id({"prompt": spec, "unit": unit})
        files = (
            tuple(s for axis, point in zip(kinds, row, strict=True) for s in axis.sources(point)) if elsewhere else ()
        )
        yield Cell(
            study.name, levels, prompts[words], settings[model, chosen], groups[family], study.backend, model, files
        )


def _prompt(study: Study, row: list[Point], tokens: Tokens | None) -> Prompt:
    draft, spec = Draft(), study.prompt
    axes = [(name, axis, point) for (name, axis), point in zip(study.axes.items(), row, strict=True)]
    for name, axis, point in sorted(axes, key=lambda item: item[1].last):
        try:
            axis.apply(point, draft, spec, tokens)
        except Mistake as mistake:
            route: Route = ("axes", name, *mistake.route)
            raise study.error(route, f"{mistake.message} ({_shown(row)})") from None
    try:
        prompt = render(spec, draft)
    except Mistake as mistake:
        raise study.error(("prompt", *mistake.route), f"{mistake.message} ({_shown(row)})") from None
    for _, axis, point in axes:
        prompt = axis.with_claims(point, prompt)
    return prompt


def _shown(row: list[Point]) -> str:
    text = ", ".join(f"{point[0][0]}: {point[0][1]}" for point in row)
    return f"in the cell {text[:120]}"


def _tokens(tokenizer: Tokenizer, model: str) -> Tokens | None:
    if isinstance(tokenizer, Tokens):
        return tokenizer
    path = tokenizer(model) if callable(tokenizer) else tokenizer
    return open_tokens(path) if path is not None else None


def _too_many(study: Study, sizes: dict[str, int], cells: int, max_cells: int) -> StudyError:
    factors = " x ".join(f"{name} {size:,}" for name, size in sizes.items())
    message = f"the axes make {cells:,} cells ({factors}); allowed: {max_cells:,}, or more with --max-cells"
    return study.error(("axes",), message, key=True)


class _Rules:
    """The product of some axes, as indices of points, without what the rules over these axes exclude."""

    def __init__(self, study: Study, points: dict[str, tuple[Point, ...]]) -> None:
        self.points = points
        names, columns = list(points), columns_of(study.axes)
        self.rules: list[dict[int, frozenset[int]]] = []
        for rule in study.exclude:
            matching: dict[int, frozenset[int]] = {}
            for column, levels in rule.items():
                at = names.index(columns[column])
                hit = frozenset(k for k, p in enumerate(points[names[at]]) if _meets(dict(p)[column], column, levels))
                matching[at] = matching.get(at, hit) & hit
            self.rules.append(matching)

    def places(self) -> Iterator[tuple[int, ...]]:
        product = itertools.product(*(range(len(points)) for points in self.points.values()))
        if not self.rules:
            return product
        return (ks for ks in product if not any(all(ks[i] in hit for i, hit in rule.items()) for rule in self.rules))


def _meets(level: Level, column: str, levels: tuple[Level, ...]) -> bool:
    return any(settle(column, other) == level for other in levels)


def axis_columns(study: Study) -> tuple[AxisColumn, ...]:
    """Every column of the study's cells, in the order of its axes."""
    units = unit_axes(study.axes, study.units)
    found: list[AxisColumn] = []
    for name, axis in study.axes.items():
        levels = axis.levels(name)
        for column in levels.columns:
            role: AxisRole = "unit" if name in units else "manipulation"
            if use_of(column.name) != "text":
                role = "setting"
            unit = SETTING_UNITS.get(column.name, column.unit)
            found.append(AxisColumn(column.name, name, axis.kind, column.part, role, unit, len(found), levels.names))
    return tuple(found)
