"""Images on disk: PNG files named by the hash of their bytes, and image files of any origin, read with distrust.

An image is an array uint8 (height, width, 3), sRGB, upright, transparency on white. Its file carries two text chunks:
`parameters`, as the AUTOMATIC1111 web UI writes it and other tools read it, and `promptlab`, the recipe as JSON.

promptlab reads few formats, with limits on bytes and pixels, so that no file can exhaust the machine. Every file that
is not a complete image within the limits is a StoreError that says why, whatever its decoder raised.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, PngImagePlugin

from promptlab.errors import StoreError
from promptlab.records import canonical_json
from promptlab.store.home import Home, redact, sync_folder, write_whole

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "Picture",
    "decode",
    "is_degenerate",
    "load",
    "parameters",
    "path_of",
    "pixels_hash",
    "read_bytes",
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


Picture = NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 100_000_000
MAX_PIXELS = 64_000_000

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_opening = threading.Lock()


def read_guarded(path: Path) -> Picture:
    """A picture from anywhere, uint8 (height, width, 3), turned upright, transparency on white.

    Raises StoreError, saying why, for every file that is not a whole PNG, JPEG or WebP of at most 100 MB and 64
    megapixels.
    """
    return decode(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """What a picture's file holds, at most 100 MB. Raises StoreError."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise StoreError(f"{path} is no file")
        if size > MAX_BYTES:
            raise StoreError(f"{path} has {size / 1e6:.0f} MB; pictures may have {MAX_BYTES / 1e6:.0f} MB")
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"picture {path} cannot be read: {error.strerror or error}") from error


def decode(data: bytes, path: Path) -> Picture:
    """The picture in `data`, the bytes of the file `path`; see `read_guarded`."""
    try:
        with nullcontext() if _claims_little(data) else _alarmed():
            image = Pillow.open(io.BytesIO(data), formats=FORMATS)
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise StoreError(f"{path} has {width}x{height} pixels; {MAX_PIXELS // 10**6} megapixels are allowed")
            if image.mode not in _MODES:
                raise StoreError(f"{path} has pixels of kind {image.mode}; save it with 8 bits a channel")
            image.load()
            if image.format != "PNG":
                ImageOps.exif_transpose(image, in_place=True)
            if image.has_transparency_data:
                above = image.convert("RGBA")
                flat = Pillow.new("RGBA", above.size, "white")
                flat.alpha_composite(above)
                return np.asarray(flat.convert("RGB"))
            return np.asarray(image.convert("RGB"))
    except StoreError:
        raise
    except MemoryError:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise StoreError(f"{path} is too large to open: over {MAX_PIXELS // 10**6} megapixels") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more
        why = str(error) or type(error).__name__
        raise StoreError(f"{path} is no whole {', '.join(FORMATS)} picture: {why}") from error


def _claims_little(data: bytes) -> bool:
    """Whether this is a PNG that says it is within the limit: of such, Pillow warns of nothing."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    return data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and width * height <= MAX_PIXELS


@contextmanager
def _alarmed() -> Iterator[None]:
    """Inside, Pillow's warning of large files is an error.

    Filters of warnings belong to the whole process: hence the lock, and hence our own pictures, which are read in a
    thread beside a backend that has filters of its own, do without.
    """
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        yield
