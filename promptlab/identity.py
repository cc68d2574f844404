"""What makes two things the same: one text for one value, its hash, and the file of a picture made elsewhere.

`promptlab.records` passes all of it on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Source", "canonical_json", "content_id"]


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, UTF-8, no NaN. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(value: Any) -> str:
    """Hash of a value's canonical JSON: 32 hexadecimal digits (128 bits of SHA-256)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Source:
    """A picture made elsewhere: the repeat that it is of its cell, its file, and the SHA-256 of the file's bytes.

    Without a hash the file is not here, and `name` is its address.

    `name` is its path inside the imported folder, which may move; `tile` is the part of a contact sheet that it is: row
    and column from 1, of so many rows and columns.
    """

    seed: int
    path: str
    name: str
    sha256: str | None
    tile: tuple[int, int, int, int] | None = None
