"""Guidance row by row through pipelines that know one number.

    noise = u + w (c - u)        u unconditional (or negative) pass, c conditional pass, w the guidance scale

w = 0 is unconditional, w = 1 purely conditional. diffusers' pipelines take one w for a batch, and drop guidance
altogether where w <= 1, so that 0 and 0.5 silently become 1. `RowGuidance` is a `float` that multiplies row by row and
always counts as guidance; every pipeline with two passes writes `guidance_scale * (c - u)`, so no loop is rewritten.

Rows with w = 0 or w = 1 need one pass only, and get it (`single_pass`): at half the cost, and bit for bit the
unconditional sample and the conditional pass, which u + 1 (c - u) in floating-point numbers is not.

References:
    Ho and Salimans 2022, Classifier-Free Diffusion Guidance (arXiv 2207.12598); w as in Saharia et al. 2022,
    Photorealistic Text-to-Image Diffusion Models (arXiv 2205.11487).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ListGuidance", "RowGuidance", "single_pass"]


def single_pass(scale: float) -> bool:
    """Whether w needs one pass only: 0 the unconditional, 1 the conditional one."""
    return scale in (0.0, 1.0)


class RowGuidance(float):
    """Guidance scales of the rows of one batch. Its value is the largest; times a tensor (n, ...) it goes row by row.

    As many rows as the tensor has are needed, else ValueError.
    """

    scales: tuple[float, ...]

    def __new__(cls, scales: Sequence[float]) -> Self:
        """`scales`: one w for each row."""
        self = super().__new__(cls, max(scales))
        self.scales = tuple(float(scale) for scale in scales)
        return self

    def __gt__(self, other: object) -> bool:
        # Pipelines ask `scale > 1` to learn whether two passes are wanted. Here they are, whatever the scales.
        return True

    def __mul__(self, other: Any) -> Any:
        """Row i of a tensor times scale i; an ordinary product with anything else."""
        import torch

        if not isinstance(other, torch.Tensor):
            return super().__mul__(other)
        if len(self.scales) != other.shape[0]:
            raise ValueError(f"{len(self.scales)} guidance scales for {other.shape[0]} rows")
        return self._rows(other)

    def _rows(self, other: Tensor) -> Tensor:
        import torch

        column = torch.tensor(self.scales, dtype=torch.float32, device=other.device)
        column = column.reshape(-1, *[1] * (other.ndim - 1))
        # In float32, as torch does for a Python number: a scale rounded to bfloat16 would be another scale.
        return (other.float() * column).to(other.dtype)


class ListGuidance(RowGuidance):
    """Guidance scales for a pipeline that multiplies one row after the other, in order, at every step."""

    _turns: Iterator[float]

    def __new__(cls, scales: Sequence[float]) -> Self:
        """`scales`: one w for each row. An object serves one call: a call that broke off leaves it amid the rows."""
        self = super().__new__(cls, scales)
        self._turns = cycle(self.scales)
        return self

    def __mul__(self, other: Any) -> Any:
        """A tensor (...) of the next row times its scale; an ordinary product with anything else."""
        import torch

        return next(self._turns) * other if isinstance(other, torch.Tensor) else float(self) * other
