"""diffusers and transformers without their progress bars and notes: what promptlab has to say, it says itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, both libraries log errors only, draw no bars and warn of nothing."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    kept = [
        (lib, lib.get_verbosity(), lib.is_progress_bar_enabled()) for lib in (diffusers_logging, transformers_logging)
    ]
    try:
        for lib, _, _ in kept:
            lib.set_verbosity_error()
            lib.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for lib, verbosity, bars in kept:
            lib.set_verbosity(verbosity)
            if bars:
                lib.enable_progress_bar()
