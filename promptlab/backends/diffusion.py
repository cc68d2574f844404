"""Pictures by diffusers' own pipelines, in batches that mix prompts, seeds and guidance scales.

    texts --encoder, once each--> states --+
    seeds --CPU generator, one a row------ +--> stock pipeline --> latents z --VAE, one by one--> x in about [-1, 1]
    w     --RowGuidance--------------------+

Pixels are round(255 clamp(x / 2 + 1/2)) with x = decode(z / scaling_factor + shift_factor), as in the pipelines. They
are decoded here, since the pipelines cut x off before anyone can see how much of it lies outside [-1, 1].

Noise is drawn on the CPU, from the row's own seed: the same in any batch and on any device. Batches have a fixed shape
(the last is padded), so a picture's bits do not depend on its company. At other batch sizes they differ by rounding.

References:
    Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models (arXiv 2112.10752).
    Lin et al. 2023, Common Diffusion Noise Schedules are Flawed (arXiv 2305.08891): guidance and values out of range.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.backends import Job, Made
from promptlab.backends.batches import Batches, Row, Shape, group
from promptlab.backends.families import Family
from promptlab.backends.folders import check_complete, check_folder, commit, fingerprint, resolve
from promptlab.backends.guidance import RowGuidance
from promptlab.backends.quiet import quiet
from promptlab.backends.schedulers import describe, scheduler_named
from promptlab.backends.texts import TextStates
from promptlab.errors import ModelError, PromptlabError, nearest

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DTYPES", "Diffusion", "load"]

DTYPES = ("float32", "bfloat16", "float16")


def load(
    model: str = "miniature", batch_size: int = 16, dtype: str | None = None, device: str | None = None
) -> Diffusion:
    """Load a pipeline: "miniature", "miniature-bag" (its encoder knows no word order) or a folder in diffusers' format.

    `device` is the first CUDA device where there is one, else the CPU; `dtype` is bfloat16 there and float32 here.

    Raises:
        ModelError: a folder that is absent, partial, damaged, unsafe, or of a class that is not known.
        PromptlabError: options that cannot be.
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    if dtype not in DTYPES:
        raise PromptlabError(f"no dtype {dtype!r}: choose from {', '.join(DTYPES)}{nearest(dtype, DTYPES)}")
    if device == "cpu" and dtype == "float16":
        raise PromptlabError("float16 does not run on a CPU: choose float32 or bfloat16")
    if batch_size < 1:
        raise PromptlabError(f"batch_size must be at least 1, given {batch_size}")
    folder, bag = resolve(model)
    family = check_folder(folder)
    try:
        with quiet():
            pipe = _open(folder, bag, getattr(torch, dtype), torch.device(device))
    except (ModelError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # loaders raise OSError, ValueError, KeyError, RuntimeError and their own
        why = str(error).strip().partition("\n")[0]
        raise ModelError(f"model {model!r} cannot be loaded ({why or type(error).__name__}); get it again") from error
    return Diffusion(pipe, family, model, (folder,), batch_size)


def _open(folder: Path, bag: bool, dtype: Any, device: Any) -> Any:
    import torch
    from diffusers import DiffusionPipeline

    safe: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    # Without a dtype, transformers keeps the file's own and diffusers takes float32.
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, **safe)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            check_complete(folder / name, part)
            part.eval()
            if part.dtype != dtype:
                part.to(dtype)
    if bag:
        from promptlab.miniature.clip_pair import bag_encoder

        pipe.text_encoder = bag_encoder(pipe.text_encoder).to(dtype)
    pipe.vae.enable_slicing()
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


class Diffusion:
    """A loaded pipeline. `batch_size` is the rows of a batch now; it shrinks where memory is short."""

    name = "diffusion"

    def __init__(self, pipe: Any, family: Family, model: str, folders: tuple[Path, ...], batch_size: int) -> None:
        self.pipe = pipe
        self.family = family
        self.model = model
        self.folders = folders
        self.schedulers = {"default": pipe.scheduler}
        self.texts = TextStates(self._encode)
        self._batches = Batches(self._make, batch_size)

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self._batches.size

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(*self.folders)

    def provenance(self) -> dict[str, Any]:
        """What else decides the pixels, as plain data. `schedulers` are the model's own and all that were used."""
        import diffusers
        import torch
        import transformers

        import promptlab

        device = self.pipe.device
        versions = {module.__name__: str(module.__version__) for module in (promptlab, torch, diffusers, transformers)}
        return {
            "backend": self.name,
            "model": self.model,
            "pipeline": self.family.pipeline,
            "commit": commit(self.folders[0]),
            "weights": self._fingerprint,
            "dtype": str(self.pipe.unet.dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "machine": platform.machine(),
            "batch_size": self.batch_size,
            "guidance": {"argument": self.family.guidance, "kind": self.family.guidance_kind},
            "schedulers": {name: describe(scheduler) for name, scheduler in self.schedulers.items()},
            "versions": {**versions, "python": platform.python_version()},
        }

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """Make every job, by batches of one shape. Raises PromptlabError for an unknown scheduler, before the first."""
        groups = group(jobs)
        for shape in groups:
            if shape.scheduler is not None:
                self.schedulers[shape.scheduler] = scheduler_named(shape.scheduler, self.schedulers["default"])
        return self._batches.run(groups)

    def close(self) -> None:
        """Give back memory."""
        import gc

        import torch

        self.pipe = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _encode(self, texts: list[str]) -> dict[str, Tensor]:
        import torch

        with torch.no_grad():
            states = self.pipe.encode_prompt(texts, self.pipe.device, 1, False)
        return {name: tensor for name, tensor in zip(self.family.encodes, states, strict=False) if name}

    def _make(self, shape: Shape, rows: list[Row], size: int, ahead: list[Row]) -> list[Made]:
        """One batch of `rows`, padded with its last to `size`."""
        import torch

        began = time.perf_counter()
        padded = [*rows, *[rows[-1]] * (size - len(rows))]
        device = self.pipe.device
        with quiet():
            self.texts.prepare(
                text for row in (*padded, *ahead) for text in (row.text, row.against) if text is not None
            )
            states = self.texts.of([row.text for row in padded])
            scale: float = 1.0
            if shape.guided:
                scale = RowGuidance([row.scale for row in padded if row.scale is not None])
                against = self.texts.of([row.against for row in padded if row.against is not None])
                states |= {f"negative_{name}": tensor for name, tensor in against.items()}
            # A fresh one: some schedulers remember the steps of the call before, and more so if it broke off.
            own = self.schedulers[shape.scheduler or "default"]
            self.pipe.scheduler = type(own).from_config(own.config)
            latents = self.pipe(
                **{name: tensor.to(device) for name, tensor in states.items()},
                **{self.family.guidance: scale},
                height=shape.height,
                width=shape.width,
                num_inference_steps=shape.num_inference_steps,
                generator=[torch.Generator("cpu").manual_seed(row.seed) for row in padded],
                output_type="latent",
            ).images[: len(rows)]
            made = self._decode(latents)
        seconds = (time.perf_counter() - began) / len(rows)
        return [replace(one, seconds=seconds, batch_size=size) for one in made]

    def _decode(self, latents: Tensor) -> list[Made]:
        """What becomes of each row of latents."""
        import torch

        values = self._values(latents)
        sound = latents.isfinite().flatten(1).all(1)
        whole = values.isfinite().flatten(1).all(1)
        notes: dict[int, str] = {}
        for i in torch.nonzero(sound & ~whole).flatten().tolist():
            if self.pipe.vae.dtype != torch.float32:
                values[i : i + 1] = self._values(latents[i : i + 1], precise=True)
                notes[i] = "decoded again in float32: NaN in half precision"
        whole = values.isfinite().flatten(1).all(1)
        blocked = self._blocked(values)
        pixels = ((values / 2 + 0.5).clamp(0, 1) * 255).round().nan_to_num().to(torch.uint8)
        pictures = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        shares = (values.abs() > 1).flatten(1).double().mean(1).tolist()
        made = []
        for i, picture in enumerate(pictures):
            if not whole[i]:
                part = "decoder" if sound[i] else "denoiser"
                made.append(Made("", status="nan", reason=f"NaN or infinity from the {part}"))
            elif blocked[i]:
                made.append(Made("", status="nsfw_blocked", reason="blocked by the model's safety checker"))
            else:
                made.append(Made("", picture, reason=notes.get(i), clipped=shares[i]))
        return made

    def _values(self, latents: Tensor, precise: bool = False) -> Tensor:
        """What the decoder makes of latents, float32 (n, 3, height, width), nothing cut off."""
        import torch

        vae = self.pipe.vae
        dtype = vae.dtype
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        try:
            if precise:
                vae.to(torch.float32)
            with torch.no_grad():
                z = latents.to(vae.dtype) / vae.config.scaling_factor + shift
                values: Tensor = vae.decode(z, return_dict=False)[0].float()
        finally:
            if precise:
                vae.to(dtype)
        return values

    def _blocked(self, values: Tensor) -> list[bool]:
        if getattr(self.pipe, "safety_checker", None) is None:
            return [False] * len(values)
        # It paints what it blocks black, in place.
        _, flags = self.pipe.run_safety_checker(values.nan_to_num(), self.pipe.device, self.pipe.unet.dtype)
        return [bool(flag) for flag in flags]
