"""Text encoders that leave the accelerator while the denoiser works.

The encoder of FLUX.2-dev (24 B parameters) and its denoiser (32 B) do not fit one card together; apart they do. Where
encoders take much of the card, they wait in main memory and come only to encode: once for some hundred pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Encoders", "pays"]

SHARE = 1 / 8
"""Share of the card's memory from which on encoders make room."""


def pays(modules: list[Any], device: Any) -> bool:
    """Whether these encoders should wait in main memory: on a CUDA device of which they would take a good share."""
    import torch

    if device.type != "cuda":
        return False
    size = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    return bool(size > SHARE * torch.cuda.get_device_properties(device).total_memory)


class Encoders:
    """Text encoders of a pipeline by component name. `parked`, they are part of it inside `at_work()` only."""

    def __init__(self, pipe: Any, names: tuple[str, ...], parked: bool) -> None:
        self._pipe = pipe
        self._modules = {name: getattr(pipe, name) for name in names}
        self.parked = parked
        if parked:
            self._leave()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, the encoders are in the pipeline, on its device."""
        if not self.parked:
            yield
            return
        device = self._pipe.device
        try:
            for name, module in self._modules.items():
                setattr(self._pipe, name, module.to(device))
            yield
        finally:
            self._leave()

    def close(self) -> None:
        """Let go of the encoders and their pipeline."""
        self._pipe = None
        self._modules = {}

    def _leave(self) -> None:
        import torch

        for name, module in self._modules.items():
            setattr(self._pipe, name, None)
            module.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
