"""How to run a study: the options that the command line and a Python caller share."""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.study.grid import MAX_CELLS

__all__ = ["DEFAULTS", "RunOptions"]


@dataclass(frozen=True)
class RunOptions:
    """Choices of one run. `batch_size`, `workers`, `compile` and `dtype` may round pixels; no other changes a score.

    Attributes:
        batch_size: images a call of the model, to which every call is padded; the backend's own choice if None.
        max_cells: larger grids are refused.
        wait: seconds to wait for another run of the same study to end.
        retry: make again whatever did not end ok, refusals and NaN included.
        passports_n: rendered images a cell for probes that have no passport yet; 0 leaves them without.
        make: whether missing images are made; False only scores those present.
        workers: processes that make images, one a GPU; with `ray`, actors. One, or None, is this process itself.
        ray: address of a Ray cluster whose machines share the store's home; without `workers`, one actor a GPU.
        compile: auto, on or off: whether a backend that can compiles its model; its own default if None.
        dtype: auto, float32, bfloat16 or float16: the precision in which a backend that can choose computes.
        overlap: whether images are scored while others are made; if None, where that does not slow the making down.
    """

    batch_size: int | None = None
    max_cells: int = MAX_CELLS
    wait: float = 0.0
    retry: bool = False
    passports_n: int = 60
    make: bool = True
    workers: int | None = None
    ray: str | None = None
    compile: str | None = None
    dtype: str = "auto"
    overlap: bool | None = None


DEFAULTS = RunOptions()
