"""Analyses behind claims that no contrast of a study settles. One file each; the file name is its name in YAML.

An analysis is a module with `load() -> Analysis`. It measures one difference in each unit of inference (a prompt, a
noun, a drawn picture), and statistics are left to whoever asked. One that takes long may have `rests_on() -> str`: a
hash of all that decides its values, so that what was found once is found no second time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["Analysis", "Finding", "hash_of"]


@dataclass(frozen=True)
class Finding:
    """What an analysis measured: one number a unit of inference.

    `values` by unit; of an exact claim the only value is the difference from what is claimed, 0 where it holds.
    `tier` says of what: T0 drawn truth, T1 the miniature, T2 a real model. `reason` says why there is no value.
    `detail` is kept with the verdict.
    """

    measure: str
    values: Mapping[str, float]
    unit: str
    reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    tier: str = field(kw_only=True)


Analysis = Callable[["Store"], Finding]
"""From a store (some ask it for scores) to what was measured."""


def hash_of(*paths: Path) -> str:
    """SHA-256 of the bytes of files, and of all files below folders, in the order of their names."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else (path,):
            if file.is_file():
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
