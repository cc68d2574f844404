"""Picture files read with distrust: few formats, limits on bytes and pixels, so that no file can exhaust the machine.

A picture is an array uint8 (height, width, 3), sRGB, upright, transparency on white. Every file that is not a whole
picture within the limits is a StoreError that says why, whatever its decoder raised.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from promptlab.errors import StoreError

__all__ = ["FORMATS", "MAX_BYTES", "MAX_PIXELS", "Picture", "decode", "read_bytes", "read_guarded"]

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
