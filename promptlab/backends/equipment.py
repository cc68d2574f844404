"""What a backend runs on: the device, the threads, the versions. None of it is part of a picture's id."""

from __future__ import annotations

import platform
from typing import Any

__all__ = ["equipment"]


def equipment(device: Any) -> dict[str, Any]:
    """Plain facts about a torch device and what is installed."""
    import diffusers
    import torch
    import transformers

    import promptlab

    versions = {module.__name__: str(module.__version__) for module in (promptlab, torch, diffusers, transformers)}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "versions": {**versions, "python": platform.python_version()},
    }
