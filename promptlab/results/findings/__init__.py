"""Every finding that a study's axes allow, in one table. Each finding is one file of this folder.

    file          applies to                          finds
    burn          guidance_scale                      what high guidance does to colour, and from where on
    order         an order of two objects             primacy, colour by position, share of area, side
    needle        tokens, with a needle               recall before and beyond the limit of the encoder
    specificity   ladder                              slope per detail, less that of the filler
    steps         num_inference_steps                 how many steps are enough
    compounding   prompts of two objects              both right, against what independent objects would give
    rarity        one coloured object (miniature)     how success depends on how often training showed the pair
    sensitivity   any order, and a paraphrase         distance between orders, less that between paraphrases
    attention     traced images                       attention, ablation and padding

An image's several targets are averaged. So are cells of one prompt that differ in other axes, unless `where` holds
those fixed. Cells that do not exist at all levels of the axis are left out. README.md shows how to add a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab import plugins
from promptlab.errors import PromptlabError
from promptlab.records import Level
from promptlab.results.queries import StudyScores, study_scores
from promptlab.stats.paired import Effect, Finding, Interval

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["FindingRow", "Result", "findings"]

Result = Finding | Effect | Interval | Mapping[str, Any] | list["FindingRow"]
"""A number with its interval, or columns with their values, or several rows that rest on one computation."""
FIRST = ("burn", "order", "needle", "specificity", "steps", "compounding", "rarity", "sensitivity", "attention")
"""The order of the findings that ship. All share one random generator, so the order is part of their values."""
COLUMNS = (
    *("finding", "module", "axis", "measure", "estimate", "low", "high", "p", "n_prompts", "n", "n_dropped"),
    *("method", "reason", "tier"),
)


@dataclass(frozen=True)
class FindingRow:
    """One row of the table.

    Attributes:
        result: what stands in the row, or a function that computes it. Where that raises ValueError, the row has the
            message as its reason.
        module: where the number is explained; by default the name of the finding's file.
        axis: the axis, or "" for a finding about prompts.
        tier: by default that of the whole study.
    """

    name: str
    axis: str | None
    measure: str
    result: Result | Callable[[], Result]
    module: str = ""
    tier: str | None = None


def findings(store: Store, study: str, where: Mapping[str, Level] | None = None, seed: int = 0) -> pd.DataFrame:
    """One row for each finding of `study`. `where` holds axes at a level.

    Columns: finding, module, axis, measure, estimate, low, high (95 %), p, n_prompts, n (images), n_dropped, method,
    reason, tier. What the data cannot give is NULL with a reason. Raises PromptlabError for an unknown level, and for a
    finding from outside that cannot be used.
    """
    import pandas as pd

    data = study_scores(store, study, where)
    tier = ", ".join(sorted(set(data.rows["tier"].dropna())))
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for name in (*FIRST, *(name for name in plugins.names("finding") if name not in FIRST)):
        applies, find = (_function(name, function) for function in ("applies", "find"))
        if applies(data.columns):
            rows += _rows(name, find, data, rng)
    return pd.DataFrame([{"tier": tier, **row} for row in rows], columns=list(COLUMNS))


def _function(name: str, function: str) -> Callable[..., Any]:
    found = getattr(plugins.module("finding", name), function, None)
    if not callable(found):
        raise PromptlabError(f"{plugins.registry('finding')[name]} has no function {function}(...)")
    return found  # type: ignore[no-any-return]


def _rows(
    name: str, find: Callable[..., Iterable[FindingRow]], data: StudyScores, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    try:
        for row in find(data, rng):
            yield from _expanded(row, name)
    except ValueError as error:
        yield {"finding": name, "module": name, "reason": str(error)}


def _expanded(row: FindingRow, name: str) -> Iterator[dict[str, Any]]:
    """The rows of the table, by column, that `row` of the finding `name` stands for."""
    labels = {"finding": row.name, "module": row.module or name, "measure": row.measure}
    labels |= {key: value for key, value in (("axis", row.axis), ("tier", row.tier)) if value is not None}
    try:
        result = row.result() if callable(row.result) else row.result
    except ValueError as error:
        result = {"reason": str(error)}
    if isinstance(result, list):
        for part in result:
            yield from _expanded(part, name)
    elif isinstance(result, Mapping):
        yield {**labels, **result}
    else:
        yield {**labels, **_columns(result)}


def _columns(result: Finding | Effect | Interval) -> dict[str, Any]:
    n = result.n_pairs if isinstance(result, Effect) else result.n
    p = {} if isinstance(result, Interval) else {"p": result.p}
    names = ("estimate", "low", "high", "n_dropped", "method", "reason")
    return {**{name: getattr(result, name) for name in names}, **p, "n_prompts": result.n_groups, "n": n}
