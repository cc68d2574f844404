"""Judges of photographs: transformers models that answer questions about pictures or find things in them.

A judge is a folder, or OWNER/NAME[@REVISION] in the cache of the hub, with config.json, safetensors and what its
processor needs. Nothing is fetched, no code of a model's own runs, no pickle is opened. On a GPU the judge runs in the
precision of its checkpoint, else in float32.

References:
    `promptlab.backends.hub` for the cache.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from promptlab.backends.hub import is_hub_name, pull, snapshot
from promptlab.clip_files import sha256
from promptlab.errors import ModelError

__all__ = ["JUDGE_FILES", "Judge", "identity", "judge_folder", "open_judge"]

JUDGE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What a judge needs: weights as safetensors, configurations, vocabularies."""


@dataclass(frozen=True, eq=False)
class Judge:
    """A loaded model with its processor, in eval mode on `device`."""

    model: Any
    processor: Any
    device: str
    precision: str


def judge_folder(model: str | Path) -> Path:
    """Where a judge's files lie. Raises ModelError with the command that gets what is missing."""
    name = str(model)
    path = Path(name).expanduser()
    cure = f"; get it with {pull(name, JUDGE_FILES)}" if is_hub_name(name) else ""
    if not path.is_dir():
        if not is_hub_name(name):
            raise ModelError(f"no folder {path}: a judge is a folder or OWNER/NAME in the cache of the hub")
        path = snapshot(name, JUDGE_FILES)
    for pattern in ("config.json", "*.safetensors"):
        if not any(path.glob(pattern)):
            raise ModelError(f"no {pattern} in {path}: a judge needs its weights as safetensors and its config{cure}")
    return path


def identity(model: str | Path) -> dict[str, str]:
    """What makes a judge's answers comparable, as plain data without paths; imports no torch. Raises ModelError.

    `weights` hashes the weights, `files` every other file of the folder that it is read from.
    """
    folder = judge_folder(model)
    weights = sorted(folder.glob("*.safetensors"))
    others = sorted(path for pattern in JUDGE_FILES if "safetensors" not in pattern for path in folder.glob(pattern))
    read = [path for path in others if path.name not in ("README.txt", "model.safetensors.index.json")]
    return {
        "weights": "+".join(sha256(path) for path in weights),
        "files": "+".join(f"{path.name}:{sha256(path)[:16]}" for path in read),
    }


def open_judge(model: str | Path, head: str, kinds: tuple[str, ...] = ()) -> Judge:
    """The judge, loaded once. `head` is a class of transformers; `kinds` are the model types allowed, all if empty.

    Raises ModelError for a folder that is none, for another kind, and for what transformers cannot load.
    """
    folder = judge_folder(model)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'} is no configuration of transformers: {error!r}") from error
    if kinds and kind not in kinds:
        raise ModelError(f"{model} is of the kind {kind!r}: {', '.join(kinds)} are allowed here")
    return _open(folder, head, sha256(folder / "config.json"))


@lru_cache(maxsize=2)
def _open(folder: Path, head: str, _config: str) -> Judge:
    import torch
    import transformers

    from promptlab.backends.quiet import quiet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with quiet():
            processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
            model = getattr(transformers, head).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype="auto" if device == "cuda" else torch.float32
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder} cannot be loaded as {head}: {str(error).strip().splitlines()[0]}") from error
    model.eval().to(device)
    return Judge(model, processor, device, str(model.dtype).removeprefix("torch."))
