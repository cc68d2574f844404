"""Every error that promptlab raises on purpose.

PromptlabError              exit code 1   anything a person can mend; shown in one line, without a traceback
+-- StudyError              exit code 2   the study file is wrong (file:line:column, given, allowed, nearest)
+-- IncompleteError         exit code 3   the run ended, some images or scores failed
+-- LockedError             exit code 4   another process runs this study
+-- DiskError               exit code 5   no room left, or the folder cannot be written
+-- ModelError              exit code 1   a model folder is missing, partial or unsafe
+-- UntraceableError        exit code 1   a model or picture whose attention cannot be read, and why
+-- StoreError              exit code 1   journal or database damaged (says what, and the command that mends it)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "DiskError",
    "IncompleteError",
    "LockedError",
    "ModelError",
    "PromptlabError",
    "StoreError",
    "StudyError",
    "UntraceableError",
    "nearest",
]


class PromptlabError(Exception):
    """A mistake or mishap with a cause and a cure; `exit_code` is what the command line returns."""

    exit_code = 1


class StudyError(PromptlabError):
    """A study file that cannot be used."""

    exit_code = 2


class IncompleteError(PromptlabError):
    """A run that ended with failures."""

    exit_code = 3


class LockedError(PromptlabError):
    """Another process holds the study."""

    exit_code = 4


class DiskError(PromptlabError):
    """The disk is full or cannot be written."""

    exit_code = 5


class ModelError(PromptlabError):
    """A model that cannot be loaded."""


class UntraceableError(PromptlabError):
    """Attention that cannot be read, or words that cannot be taken out; probes make it the reason of a NULL."""


class StoreError(PromptlabError):
    """A journal or database that cannot be trusted."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for messages: ``"; did you mean 'steps'?"`` or the empty string."""
    match = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""
