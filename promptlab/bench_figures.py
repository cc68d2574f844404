"""What a benchmark says: one measured number, and the goal that it is held against."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Figure"]


@dataclass(frozen=True)
class Figure:
    """One measured number: what it should be, if anything, and whether it is."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False
    detail: dict[str, float | str] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal
