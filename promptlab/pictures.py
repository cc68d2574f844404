"""Pictures on disk: PNG files named by the hash of their bytes, read with distrust.

A picture is an array uint8 (height, width, 3), sRGB. Its file carries two text chunks: `parameters`, as the
AUTOMATIC1111 web UI writes it and other tools read it, and `promptlab`, the recipe as JSON. What is read back, and
every picture from elsewhere, goes through `promptlab.decoding`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import PngImagePlugin

from promptlab.decoding import MAX_BYTES, Picture, decode, read_guarded
from promptlab.durable import sync_folder, write_whole
from promptlab.errors import StoreError
from promptlab.home import Home
from promptlab.records import canonical_json
from promptlab.redaction import redact

__all__ = [
    "MAX_BYTES",
    "Picture",
    "is_degenerate",
    "load",
    "parameters",
    "path_of",
    "pixels_hash",
    "read_guarded",
    "save",
    "thumbnail",
]

COMPRESSION = 1
"""zlib level. On photograph-like pictures level 1 takes 60 % of the time of level 6 and gives files 12 % larger."""

_HASH = re.compile(r"[0-9a-f]{64}")


def parameters(recipe: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> str:
    """The recipe in the words of the A1111 web UI: prompt, negative prompt, then `Steps: 25, CFG scale: 5.0, ...`.

    `more` are facts of its own, which come last.
    """
    named = {
        "Steps": recipe.get("num_inference_steps"),
        "Sampler": recipe.get("scheduler"),
        "CFG scale": recipe.get("guidance_scale"),
        "Distilled CFG Scale": recipe.get("distilled_guidance_scale"),  # as Forge calls it
        "Seed": recipe.get("seed"),
        "Size": f"{recipe['width']}x{recipe['height']}" if {"width", "height"} <= recipe.keys() else None,
        "Model": recipe.get("model"),
        **(more or {}),
    }
    facts = [f"{name}: {_quoted(value)}" for name, value in named.items() if value is not None]
    lines = [str(recipe.get("prompt", ""))]
    if recipe.get("negative_prompt"):
        lines.append(f"Negative prompt: {recipe['negative_prompt']}")
    return "\n".join([*lines, ", ".join(facts)])


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ",:\n") else text


def path_of(home: Home, file: str) -> Path:
    """Where the picture with this hash lies. Raises StoreError for anything but 64 hexadecimal digits."""
    if not _HASH.fullmatch(file):
        raise StoreError(f"{file!r} names no picture: pictures are named by 64 hexadecimal digits")
    return home.images / file[:2] / f"{file}.png"


def pixels_hash(image: Picture) -> str:
    """SHA-256 of the raw RGB bytes: equal for equal pixels, whatever wrote the file."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def save(image: Picture, home: Home, recipe: Mapping[str, Any]) -> tuple[str, str]:
    """Keep a picture, uint8 (height, width, 3): the hashes of its file and of its pixels. Saving again changes nothing.

    Raises DiskError; ValueError for another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"a picture is uint8 (height, width, 3); this is {image.dtype} {image.shape}")
    notes = PngImagePlugin.PngInfo()
    for keyword, text in (("parameters", parameters(recipe)), ("promptlab", canonical_json(dict(recipe)))):
        add = notes.add_text if text.isascii() and "\0" not in text else notes.add_itxt
        add(keyword, redact(text))
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "PNG", pnginfo=notes, compress_level=COMPRESSION)
    data = buffer.getvalue()
    file = hashlib.sha256(data).hexdigest()
    path = path_of(home, file)
    if path.exists() and path.read_bytes() == data:
        # The run that renamed it may have died before the folder was synced.
        sync_folder(path.parent)
    else:
        write_whole(path, data, "picture")
    return file, pixels_hash(image)


def load(home: Home, file: str) -> Picture:
    """The picture with this hash, uint8 (height, width, 3). Raises StoreError if it is gone or not what was saved."""
    path = path_of(home, file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"picture {path} cannot be read ({error.strerror}); `promptlab run` makes it again") from error
    if hashlib.sha256(data).hexdigest() != file:
        raise StoreError(f"picture {path} is damaged; `promptlab rebuild` sets it aside, then `run` makes it again")
    return decode(data, path)


def is_degenerate(image: Picture) -> str | None:
    """Why a picture, uint8 (height, width, 3), shows nothing at all; None if it shows something, however dark."""
    pixels = image.reshape(-1, 3)
    if image.max() <= 4:
        return "all black"
    spread = float(pixels.std(axis=0).max())
    if spread < 0.5:
        return f"flat: one colour (standard deviation {spread:.2f} of 255)"
    for sample in (pixels[:: max(1, len(pixels) // 4096)], pixels):
        colours = np.unique(sample.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)).size
        if colours > 2:
            break
    else:
        return f"only {colours} colours"
    if spread > 10:
        return None  # grain of at most 8 and 0.05 % of strays cannot spread so far
    height, width = (n - n % 8 for n in image.shape[:2])
    blocks = image[:height, :width].reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3)).reshape(-1, 3)
    structure = float(blocks.std(axis=0).max()) if blocks.size else spread
    strays = (np.abs(pixels - np.median(pixels, axis=0)).max(axis=1) > 8).mean()
    if structure < 0.75 and strays < 0.0005:
        return f"flat: one colour and grain (blocks of 8x8 pixels spread {structure:.2f} of 255)"
    return None


def thumbnail(home: Home, file: str, side: int = 256) -> Path:
    """A WebP of the picture, at most `side` pixels wide and high, made once."""
    path = home.thumbs / f"{side}" / file[:2] / f"{path_of(home, file).stem}.webp"
    if not path.exists():
        image = Pillow.fromarray(load(home, file))
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=85)
        write_whole(path, buffer.getvalue(), "picture")
    return path
