"""The loop over missing images: jobs go to a backend, images to disk, and records to the caller as they come.

Threads encode the files while the backend makes the next images. At most AHEAD files are unfinished, so a crash loses
little. Every job gets exactly one record, whatever happens to it. When something stops the loop (Ctrl-C, a full disk),
the caller first gets the images that are finished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptlab.generator.backends import Backend, Job, Made
from promptlab.records import Image

__all__ = ["AHEAD", "generate"]

AHEAD = 16
"""Images whose files may still be unfinished while the backend makes the next batch."""

Save = Callable[[NDArray[np.uint8], dict[str, Any]], tuple[str, str]]
"""Saves an image with its recipe, and returns the hashes of its file and of its pixels."""
Check = Callable[[NDArray[np.uint8]], str | None]
"""Returns why an image shows nothing at all, or None."""


def generate(
    backend: Backend, jobs: Iterable[Job], save: Save, is_degenerate: Check | None = None, workers: int = 2
) -> Iterator[Image]:
    """Make `jobs` and yield one record for each image id.

    Args:
        save: saves the pixels with the recipe.
        is_degenerate: returns why an image shows nothing at all, or None.
        workers: threads that encode and write files.

    Raises whatever the backend or `save` raises, after yielding the finished images.
    """
    wanted = {job.image_id: job for job in jobs}
    waiting: deque[Future[Image]] = deque()
    stop: BaseException | None = None
    pool = ThreadPoolExecutor(workers, thread_name_prefix="promptlab-save")
    try:
        coming = iter(backend.generate(list(wanted.values())))
        while True:
            try:
                made = next(coming, None)
                if made is None:
                    break
                job = wanted.pop(made.image_id, None)
                if job is not None:
                    waiting.append(pool.submit(_finish, job, made, save, is_degenerate))
                if waiting and (len(waiting) > AHEAD or waiting[0].done()):
                    waiting[0].result()  # raises what writing the file raised
            except BaseException as error:  # Ctrl-C too: first comes what is finished
                stop = error
                break
            while waiting and waiting[0].done() and not waiting[0].exception():
                yield waiting.popleft().result()
        while waiting:
            failure = waiting[0].exception()
            future = waiting.popleft()
            if failure is None:
                yield future.result()
            stop = stop or failure
        if stop is not None:
            raise stop
        for job in wanted.values():
            yield Image(job.image_id, job.recipe, "error", f"the backend {backend.name} gave no picture")
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(job: Job, made: Made, save: Save, is_degenerate: Check | None) -> Image:
    """Save an image, if there is one, and return its record."""
    clipped = made.clipped if made.clipped is not None and isfinite(made.clipped) else None
    image = Image(
        job.image_id,
        job.recipe,
        made.status,
        made.reason,
        seconds=made.seconds,
        clipped=clipped,
        batch_size=made.batch_size,
    )
    if made.status != "ok":
        return image
    pixels = made.pixels
    if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        received = "nothing" if pixels is None else f"{pixels.dtype} {pixels.shape}"
        return replace(image, status="invalid_image", reason=f"a picture is uint8 (height, width, 3); given {received}")
    why = is_degenerate(pixels) if is_degenerate else None
    file, digest = save(pixels, job.recipe)
    height, width = pixels.shape[:2]
    image = replace(image, file=file, pixels=digest, width=width, height=height)
    return replace(image, status="degenerate", reason=why) if why else image
