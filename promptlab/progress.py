"""How long work tells where it is: to a terminal, a log, or nobody."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """How a run tells where it is: a stage with a total, steps of it, and lines to say."""

    def stage(self, what: str, total: int) -> None:
        """A stage of `total` steps begins."""
        ...

    def step(self, count: int = 1) -> None:
        """So many steps of the stage are done."""
        ...

    def say(self, line: str) -> None:
        """One line for the person."""
        ...


class Silent:
    """Tells nothing."""

    def stage(self, what: str, total: int) -> None:
        """Nothing."""

    def step(self, count: int = 1) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""
