"""How to run a study: the options that the command line and a Python caller share."""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.study.grid import MAX_CELLS

__all__ = ["DEFAULTS", "RunOptions"]


@dataclass(frozen=True)
class RunOptions:
    """Options of one run. `batch_size`, `workers`, `compile` and `dtype` may round pixels; no other changes a score.

    Attributes:
        batch_size: images to which every call of the model is padded; None leaves the choice to the backend.
        max_cells: a study with a larger grid is refused.
        wait: seconds to wait until another run of the same study ends.
        retry: whether to make again every image that is not ok, refusals and NaN included.
        passports_n: rendered images a cell, for probes that have no passport yet; 0 measures none.
        make: whether to make missing images; False only scores those that exist.
        workers: processes that make images, one a GPU, or actors with `ray`. 1 and None mean this process.
        ray: address of a Ray cluster whose machines share the store's home; without `workers`, one actor a GPU.
        compile: auto, on or off, for backends that can compile their model; None means their default.
        dtype: auto, float32, bfloat16 or float16, for backends that can choose their precision.
        overlap: whether to score images while others are made; None means if that does not slow generation.
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
