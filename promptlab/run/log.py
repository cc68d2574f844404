"""The log of a run, beside its journal: what happened when, warnings of libraries included, keys redacted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from promptlab.store.home import redact

__all__ = ["log", "logging_to"]

log = logging.getLogger("promptlab")


class _Redacted(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line or more, without keys."""
        return redact(super().format(record))


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write every record of level INFO and above to `path` until the end of the block, and warnings as records."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, level = logging.getLogger(), log.level
    root.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        log.error("%s: %s", type(error).__name__, error)
        raise
    finally:
        root.removeHandler(handler)
        log.setLevel(level)
        handler.close()
