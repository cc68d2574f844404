"""Analyses behind claims that no contrast of a study settles. One file each; the file name is its name in YAML.

An analysis is a module with `load() -> Analysis`. It measures one difference in each unit of inference (a prompt, a
noun, a drawn picture), and statistics are left to whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["Analysis", "Finding"]


@dataclass(frozen=True)
class Finding:
    """What an analysis measured: one number a unit of inference.

    `values` by unit; of an exact claim the only value is the difference from what is claimed, 0 where it holds.
    `reason` says why there is none. `detail` is kept with the verdict.
    """

    measure: str
    values: Mapping[str, float]
    unit: str
    reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


Analysis = Callable[["Store"], Finding]
"""From a store (some ask it for scores) to what was measured."""
