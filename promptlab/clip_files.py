"""Where a CLIP model's files lie, what they hash to, and what may not be loaded. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from promptlab.errors import ModelError, nearest

__all__ = ["SHIPPED", "VISION", "checkpoint_of", "config_of", "folder_of", "identity", "sha256", "text_weights"]

SHIPPED = {"miniature": "clip", "miniature-scorer": "scorer"}
"""Models that ship, by name: the ordinary CLIP of the miniature world, and its judge that was taught binding."""

# open_clip prefers a pickle to a safetensors file of any other name, so only these are let in.
VISION = "vision.safetensors"
"""A vision tower whose text tower is the miniature's text encoder."""
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", VISION)


def checkpoint_of(name: str, checkpoint: str | Path | None = None) -> Path:
    """The file of weights of a model, as `load_clip` finds it; imports no torch. Raises ModelError."""
    if name in SHIPPED or name.startswith("local-dir:"):
        if checkpoint is not None:
            raise ModelError(f"model {name!r} has its own weights; leave the checkpoint {str(checkpoint)!r} out")
        folder = folder_of(name)
        found = [folder / file for file in WEIGHTS if (folder / file).is_file()]
        if not (folder / "open_clip_config.json").is_file() or not found:
            cure = "; make it with `promptlab miniature train`" if name in SHIPPED else ""
            need = f"open_clip_config.json and {' or '.join(WEIGHTS)}"
            raise ModelError(f"no CLIP model in {folder}: it needs {need}{cure}")
        return found[0]
    if checkpoint is None:
        known = ", ".join(SHIPPED)
        message = f"no weights for the CLIP model {name!r}: give its checkpoint (a safetensors file), local-dir:/path"
        raise ModelError(f"{message}, or one of {known}{nearest(name, SHIPPED)}")
    path = Path(checkpoint).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelError(f"the checkpoint of {name!r} must be a safetensors file on this disk, given {str(path)!r}")
    return path


def identity(name: str, checkpoint: str | Path | None = None, prefix: str = "") -> dict[str, str]:
    """What makes numbers of a model comparable, as plain data without paths; imports no torch. Raises ModelError."""
    weights = checkpoint_of(name, checkpoint)
    local = name in SHIPPED or name.startswith("local-dir:")
    config = sha256(weights.with_name("open_clip_config.json")) if local else name
    parts = [sha256(weights)] + ([sha256(text_weights())] if weights.name == VISION else [])
    return {"weights": "+".join(parts), "config": config, "prefix": prefix}


def text_weights() -> Path:
    """The text tower of the ordinary CLIP that ships: the pipeline's text encoder, which is not stored twice."""
    from promptlab.miniature.shipped import shipped_folder

    return shipped_folder() / "pipeline" / "text_encoder" / "model.safetensors"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return _sha256(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_of(name: str) -> Path:
    """The folder of a model that ships or of a local-dir name."""
    if name in SHIPPED:
        from promptlab.miniature.shipped import shipped_folder

        return shipped_folder() / SHIPPED[name]
    return Path(name.removeprefix("local-dir:")).expanduser()


def config_of(name: str) -> dict[str, Any]:
    """open_clip's model_cfg. Refuses what open_clip would fetch from elsewhere."""
    import open_clip

    if name in SHIPPED or name.startswith("local-dir:"):
        path = folder_of(name) / "open_clip_config.json"
        try:
            config = json.loads(path.read_text("utf-8"))["model_cfg"]
            fetches = "hf_model_name" in config["text_cfg"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} is no configuration of open_clip: {error!r}") from error
    else:
        config = open_clip.get_model_config(name)
        if config is None:
            raise ModelError(f"open_clip knows no model {name!r}{nearest(name, open_clip.list_models())}")
        text = config["text_cfg"]
        fetches = "hf_model_name" in text or "hf_tokenizer_name" in text or "siglip" in name.lower()
    if fetches:
        raise ModelError(f"model {name!r} would fetch its tokenizer or tower; use a folder with all: local-dir:/path")
    return dict(config)
