"""Opening a pipeline's folder: safetensors only, nothing from the network, every weight from a file.

Precision: all parts run in one dtype, with two exceptions. An autoencoder whose configuration says so (`force_upcast`)
runs in float32 when the other parts are in float16, since its activations overflow there; bfloat16 has the range of
float32. On a CPU only the denoiser may run in bfloat16 (`promptlab.generator.models.speed`).

Memory: the encoder of FLUX.2-dev (24 B parameters) and its denoiser (32 B) do not fit on one card together. Text
encoders that take much of the card therefore wait in main memory, and move to the card only to encode, once for some
hundred images.

Schedulers (samplers) are named by diffusers' class name and run on the model's own noise schedule. `equipment` records
the device, the threads and the versions; none of these is part of an image's id.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptlab.checkpoints.files import check_complete, components, quiet, read_json
from promptlab.errors import PromptlabError, nearest
from promptlab.generator.models.capabilities import ENCODER_SHARE, Capability

__all__ = ["Encoders", "describe", "equipment", "open_pipeline", "pays", "scheduler_named", "vae_dtype", "variant_of"]


def pays(modules: list[Any], device: Any) -> bool:
    """Whether encoders should wait in main memory: on a CUDA device, if they take more than ENCODER_SHARE of it."""
    import torch

    if device.type != "cuda":
        return False
    size = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    return bool(size > ENCODER_SHARE * torch.cuda.get_device_properties(device).total_memory)


class Encoders:
    """Text encoders of a pipeline, by component name. If `parked`, the pipeline has them inside `at_work()` only."""

    def __init__(self, pipe: Any, names: tuple[str, ...], parked: bool) -> None:
        self._pipe = pipe
        self._modules = {name: getattr(pipe, name) for name in names}
        self.parked = parked
        if parked:
            self._leave()

    @property
    def dtype(self) -> str | None:
        """Precision of the first encoder; None if there is none."""
        return next((str(module.dtype).removeprefix("torch.") for module in self._modules.values()), None)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside the block, the encoders are in the pipeline, on its device."""
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
        """Drop the encoders and their pipeline."""
        self._pipe = None
        self._modules = {}

    def _leave(self) -> None:
        import torch

        for name, module in self._modules.items():
            setattr(self._pipe, name, None)
            module.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def open_pipeline(folder: Path, able: Capability, bag: bool, dtype: Any, device: Any) -> tuple[Any, Encoders]:
    """Load a pipeline onto its device. Returns it with its text encoders, which may wait in main memory.

    `bag` replaces the text encoder by a bag of words. Raises ModelError, and whatever the loaders raise.
    """
    import torch
    from diffusers import DiffusionPipeline

    safe: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    # A folder without an encoder (SD3 without T5) is only loaded if one says so.
    present = components(folder)
    parts = {part for reader in able.architecture.readers for part in (reader.encoder, reader.tokenizer)}
    safe |= dict.fromkeys(parts - present.keys())
    # Without a dtype, transformers keeps the file's own and diffusers takes float32.
    others = torch.float32 if device.type == "cpu" else dtype
    by_part = {able.architecture.denoiser: dtype, "default": others}
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=by_part, variant=variant_of(folder), **safe)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            check_complete(folder / name, part)
            part.eval()
            wanted = vae_dtype(folder, others) if name == "vae" else by_part.get(name, others)
            if part.dtype != wanted:
                part.to(wanted)
    if bag:
        from promptlab.miniature.clip import bag_encoder

        pipe.text_encoder = bag_encoder(pipe.text_encoder).to(others)
    pipe.set_progress_bar_config(disable=True)
    names = tuple(reader.encoder for reader in able.readers)
    encoders = Encoders(pipe, names, pays([getattr(pipe, name) for name in names], device))
    return pipe.to(device), encoders


def vae_dtype(folder: Path, dtype: Any) -> Any:
    """Precision of the autoencoder, if the other parts run in `dtype`."""
    import torch

    asks = read_json(folder / "vae" / "config.json").get("force_upcast") is True
    return torch.float32 if dtype == torch.float16 and asks else dtype


def variant_of(folder: Path) -> str | None:
    """ "fp16" for a folder whose only weights are `*.fp16.safetensors`, else None."""
    weights = [file.name for file in folder.glob("*/*.safetensors")]
    return "fp16" if weights and all(".fp16." in name or ".fp16-" in name for name in weights) else None


def scheduler_named(name: str, default: Any) -> Any:
    """Create the scheduler `name` with the configuration of `default`, the model's scheduler.

    Raises PromptlabError unless `name` is a scheduler that can replace `default`.
    """
    known = {scheduler.__name__: scheduler for scheduler in (type(default), *default.compatibles)}
    if name not in known:
        raise PromptlabError(
            f"no scheduler {name!r} for this model: choose from {', '.join(sorted(known))}{nearest(name, known)}"
        )
    try:
        with quiet():
            return known[name].from_config(default.config)
    except Exception as error:  # each class checks the configuration in its own way
        why = str(error).strip().partition("\n")[0]
        raise PromptlabError(
            f"scheduler {name} does not fit this model ({why}); leave it to the model's own"
        ) from error


def describe(scheduler: Any) -> dict[str, Any]:
    """A scheduler's class and full configuration, as plain data."""
    config = json.loads(json.dumps(dict(scheduler.config), default=str))
    return {"class": type(scheduler).__name__, "config": config}


def equipment(device: Any) -> dict[str, Any]:
    """Facts about a torch device and the installed versions, as plain data."""
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
