"""Images made elsewhere: promptlab generates nothing, and opens and checks the file of each job.

The study's list of images (written by `promptlab import`) gives every job a file and the SHA-256 of its content. A file
that is missing, has changed, or is no whole image within the limits gets the status `invalid_image` with the reason.
The others are taken upright and at their own size; a contact sheet gives one tile for each job. `model` records who
made the images and has no effect.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from promptlab.errors import PromptlabError, StoreError
from promptlab.generator.backends import Job, Made

__all__ = ["Folder", "load"]


def load(model: str = "unknown", batch_size: int | None = None) -> Folder:
    """Create the backend. `batch_size` has no effect, since files are opened one by one."""
    return Folder(model)


class Folder:
    """Opens the file of each job, one after the other."""

    name = "folder"

    def __init__(self, model: str = "unknown") -> None:
        self.model = model

    def provenance(self) -> dict[str, Any]:
        """Who made the images, as the study says, and the version of what decodes them."""
        import PIL

        return {"backend": self.name, "model": self.model, "versions": {"pillow": PIL.__version__}}

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """Open the file of every job, in order. Raises PromptlabError if a job has none."""
        for job in jobs:
            if job.source is None:
                raise PromptlabError(
                    f"no file is given for {job.prompt!r}: the backend folder takes its pictures from a list of files; "
                    "`promptlab import FOLDER` writes one"
                )
        return map(_open, jobs)

    def close(self) -> None:
        """Does nothing: no memory is held."""


def _open(job: Job) -> Made:
    from promptlab.store.pictures import decode, read_bytes

    if job.source is None:
        raise ValueError(f"image {job.image_id} has no file to open: the backend folder makes none")
    began = time.perf_counter()
    path = Path(job.source.path)
    try:
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        if digest != job.source.sha256:
            raise StoreError(f"{path} has changed since it was imported: `promptlab import` takes it as a new picture")
        pixels = decode(data, path)
        if job.source.tile:
            row, column, rows, columns = job.source.tile
            height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
            if not height or not width:
                raise StoreError(f"{path} is too small for {rows}x{columns} tiles")
            pixels = pixels[(row - 1) * height : row * height, (column - 1) * width : column * width]
    except StoreError as error:
        return Made(job.image_id, status="invalid_image", reason=str(error))
    return Made(job.image_id, pixels, seconds=time.perf_counter() - began, batch_size=1)
