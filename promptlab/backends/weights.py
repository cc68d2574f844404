"""Safetensors files by their headers: what tensors they hold, without reading one.

    file = 8 bytes, the length n (little-endian) | n bytes of JSON | tensors, at `data_offsets` from there

The header alone tells parameters, precision and whether the file is all there, so no library of tensors is loaded.

References:
    Hugging Face, safetensors format specification.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from promptlab.backends.folders import read_json
from promptlab.errors import ModelError

__all__ = ["check_whole", "header", "parameters", "shards"]

MOST_HEADER = 100_000_000
"""Bytes of a header at most, as in the reference implementation."""


def header(file: Path) -> dict[str, dict[str, Any]]:
    """Entries (dtype, shape, data_offsets) of a file by tensor name. Raises ModelError for a damaged file."""
    if not file.is_file():
        raise ModelError(f"{file} is missing; `promptlab models` with the model's name says how to get it")
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= MOST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            entries = json.loads(stream.read(length))
            last = max(
                (entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0
            )
            held = file.stat().st_size - 8 - length
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is damaged ({error}); get the model again") from error
    if held != last:
        raise ModelError(f"{file} is damaged or only partly there ({held:,} of {last:,} bytes); get the model again")
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}


def shards(folder: Path) -> list[Path]:
    """The weight files that a component would be loaded from: those of its index, or the unsharded one; sorted.

    Full precision wins over variants such as `.fp16`. Files that an index names need not exist.
    """
    for kind in ("", ".fp16"):
        for index in sorted(folder.glob(f"*.safetensors.index{kind}.json")):
            names = set(read_json(index).get("weight_map", {}).values())
            return sorted(folder / name for name in names)
        plain = [f for f in sorted(folder.glob("*.safetensors")) if (".fp16" in f.name) == bool(kind)]
        if plain:
            return plain[:1]
    return []


def parameters(folder: Path) -> int:
    """How many numbers the weight files of a component hold."""
    return sum(math.prod(entry["shape"]) for file in shards(folder) for entry in header(file).values())


def check_whole(folder: Path) -> None:
    """Raises ModelError unless every shard of a component is there, whole, and holds what the index says."""
    held = {file: set(header(file)) for file in shards(folder)}
    for index in folder.glob("*.safetensors.index*.json"):
        for tensor, name in read_json(index).get("weight_map", {}).items():
            file = folder / name
            if file in held and tensor not in held[file]:
                raise ModelError(f"{file} lacks the tensor {tensor} that {index.name} promises; get the model again")
