"""Images by diffusers' own pipelines, in batches that mix prompts, seeds and guidance scales.

    texts --encoders, once each--> states -+
    seeds --CPU generator, one a row------ +--> stock pipeline --> latents z ----------VAE--------> x in about [-1, 1]
    w     --RowGuidance--------------------+

One generator serves all architectures. `promptlab.checkpoints.architectures` and `promptlab.generator.models` hold what
differs between them. Pixels are round(255 clamp(x / 2 + 1/2)), as in the pipelines. Decoding happens here, because the
pipelines clamp x before anyone can see how much of it lies outside [-1, 1].

The noise comes from the CPU and the row's own seed, so it is the same in any batch and on any device. All batches of a
group have one size (the last is padded), so the bits of an image do not depend on the other rows. The size follows from
the rows that the whole study plans for the group, not from those that are missing. A resumed run therefore makes the
same bits. With another batch size or another number of CPU threads they may differ by rounding.

References:
    Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models (arXiv 2112.10752).
    Lin et al. 2023, Common Diffusion Noise Schedules are Flawed (arXiv 2305.08891): guidance and values out of range.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.checkpoints.files import check_folder, commit, fingerprint, quiet, resolve
from promptlab.errors import ModelError, PromptlabError
from promptlab.generator.backends import Job, Made
from promptlab.generator.models.batches import Batches, Row, Shape, batches_of, decoded, group, unpacked
from promptlab.generator.models.capabilities import Capability, capability, open_reader
from promptlab.generator.models.conditioning import TextStates, arguments, embedded_rows, encode, guided, padded_length
from promptlab.generator.models.loading import Encoders, describe, equipment, open_pipeline, scheduler_named
from promptlab.generator.models.speed import Speed, Wish, at_work, chosen_dtype, equip, remember_compiled, run_in

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MOST_ROWS", "Diffusion", "load", "planned_rows", "split_jobs"]

COLLECTED = 2**28
"""Bytes of a denoiser above which `close` collects its memory at once."""
MOST_ROWS = 16
"""The most rows of a batch by default; two passes send twice as many through the denoiser."""


def load(  # noqa: PLR0913 (each is an option in a study file)
    model: str = "miniature",
    batch_size: int | None = None,
    dtype: str | None = None,
    device: str | None = None,
    compile: str = "auto",
    attention: str = "auto",
    channels_last: bool | None = None,
    pictures: int | None = None,
    planned: Mapping[Shape, int] | None = None,
    cache: Path | None = None,
) -> Diffusion:
    """Load a pipeline.

    Args:
        model: "miniature", "miniature-bag" (its encoder ignores word order), a folder in diffusers' format, or
            OWNER/NAME[@REVISION] from the cache of the hub.
        batch_size: rows to which every batch is padded. If None, each group has its own size: its rows rounded up to a
            power of two, at most MOST_ROWS.
        dtype: auto, float32, bfloat16 or float16 (`promptlab.generator.models.speed`); None means bfloat16 on a GPU
            and float32 on a CPU.
        device: None means the first CUDA device, or the CPU if there is none.
        compile, attention, channels_last, pictures: see `promptlab.generator.models.speed.Wish`.
        planned: rows of each group in the whole plan (`planned_rows`); if None, the rows of each call count.
        cache: folder for what is measured and compiled once a machine.

    Raises:
        ModelError: the folder is absent, partial, damaged, unsafe, or of an unknown class.
        PromptlabError: options that are not allowed.
    """
    import torch

    wish = Wish(compile, attention, channels_last, pictures, cache)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = chosen_dtype(dtype, torch.device(device).type, cache)
    if batch_size is not None and batch_size < 1:
        raise PromptlabError(f"batch_size must be at least 1, given {batch_size}")
    folder, bag = resolve(model)
    check_folder(folder)
    able = capability(folder)
    try:
        with quiet():
            pipe, encoders = open_pipeline(folder, able, bag, getattr(torch, dtype), torch.device(device))
            denoiser = getattr(pipe, able.architecture.denoiser)
            if device == "cpu" and dtype != "float32":
                run_in(denoiser, denoiser.dtype)
            speed = equip(pipe, able, wish)
    except (PromptlabError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # loaders raise OSError, ValueError, KeyError, RuntimeError and their own
        why = str(error).strip().partition("\n")[0]
        raise ModelError(f"model {model!r} cannot be loaded ({why or type(error).__name__}); get it again") from error
    planned = None if batch_size else planned or {}
    backend = Diffusion(pipe, able, encoders, model, (folder,), batch_size or MOST_ROWS, speed, planned)
    backend.cache = cache
    return backend


def split_jobs(backend: Diffusion, jobs: Sequence[Job]) -> list[list[Job]]:
    """Split `jobs` into batches. Raises PromptlabError for an unknown scheduler."""
    return batches_of(backend.groups(jobs), backend.rows_of)


def planned_rows(model: str, jobs: Sequence[Job]) -> dict[Shape, int]:
    """Count the rows of each group among all jobs that a study plans for `model`, for `load`. Loads nothing."""
    folder = resolve(model)[0]
    able = capability(folder)
    length = partial(_text_length, folder, able) if able.architecture.ragged else None
    return {shape: len(rows) for shape, rows in group(jobs, able, length).items()}


def _text_length(folder: Path, able: Capability, text: str) -> int:
    """The padded length of a text's states."""
    reader = able.readers[0]
    tokens, limit = open_reader(folder, reader)
    return padded_length(able, min(tokens.framed_length(text), limit) - reader.dropped)


class Diffusion:
    """A loaded pipeline.

    Attributes:
        batch_size: the most rows of a batch; it shrinks when memory runs out. Without `planned` (see `load`), every
            batch has this many rows.
        watch: a context that is entered around each call of the pipeline, with the call's shape, rows and arguments.
    """

    name = "diffusion"

    def __init__(
        self,
        pipe: Any,
        able: Capability,
        encoders: Encoders,
        model: str,
        folders: tuple[Path, ...],
        batch_size: int,
        speed: Speed | None = None,
        planned: Mapping[Shape, int] | None = None,
    ) -> None:
        self.pipe, self.able, self.encoders = pipe, able, encoders
        self.model, self.folders = model, folders
        self.speed = speed or Speed()
        self.schedulers = {"default": pipe.scheduler}
        self.texts = self.new_texts()
        self.cache: Path | None = None
        self.watch: Callable[[Shape, list[Row], dict[str, Any]], AbstractContextManager[None]] | None = None
        self._worked = False
        self._batches = Batches(self._make, batch_size, planned)

    def new_texts(self) -> TextStates:
        """Create an empty cache of text states."""
        return TextStates(
            self._encode, together=self.able.architecture.together, at_work=lambda: self.encoders.at_work()
        )

    @property
    def denoiser(self) -> Any:
        """The U-Net or the transformer of the pipeline."""
        return getattr(self.pipe, self.able.architecture.denoiser)

    @property
    def batch_size(self) -> int:
        """The most rows of a batch."""
        return self._batches.size

    def rows_of(self, shape: Shape, rows: int) -> int:
        """Rows to which batches of `shape` are padded in a call with `rows` rows of it."""
        return self._batches.rows_of(shape, rows)

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(*self.folders)

    def provenance(self) -> dict[str, Any]:
        """See `Backend.provenance`. `schedulers` holds the model's default and every other that was used."""
        return {
            "backend": self.name,
            "model": self.model,
            "pipeline": self.able.architecture.pipeline,
            "commit": commit(self.folders[0]),
            "weights": self._fingerprint,
            "dtype": str(self.denoiser.dtype).removeprefix("torch."),
            "vae_dtype": str(self.pipe.vae.dtype).removeprefix("torch."),
            "text_dtype": self.encoders.dtype,
            "encoders_parked": self.encoders.parked,
            "speed": self.speed.facts(),
            "batch_size": self.batch_size,
            "guidance": {"argument": self.able.guidance, "kind": self.able.guidance_kind},
            "schedulers": {name: describe(scheduler) for name, scheduler in self.schedulers.items()},
            **equipment(self.pipe.device),
        }

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """Make every job, shape by shape. Raises PromptlabError for an unknown scheduler before the first image."""
        return self._batches.run(self.groups(jobs))

    def groups(self, jobs: Sequence[Job]) -> dict[Shape, dict[Row, list[Job]]]:
        """Group jobs by shape and row, and create their schedulers. Raises PromptlabError for an unknown one."""
        length = partial(_text_length, self.folders[0], self.able) if self.able.architecture.ragged else None
        groups = group(jobs, self.able, length)
        for shape in groups:
            if shape.scheduler is not None:
                self.schedulers[shape.scheduler] = scheduler_named(shape.scheduler, self.schedulers["default"])
        return groups

    def close(self) -> None:
        """See `Backend.close`."""
        import gc

        import torch

        if self.pipe and self._worked:
            remember_compiled(self.denoiser, self.speed, self.cache)
        weights = sum(p.numel() * p.element_size() for p in self.denoiser.parameters()) if self.pipe else 0
        self.pipe = None
        self.encoders.close()
        if torch.cuda.is_available() or weights > COLLECTED:  # looking through all objects takes a third of a second
            gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _encode(self, texts: list[str]) -> dict[str, Sequence[Tensor]]:
        if any("\0" in text for text in texts):  # the key of ablated states that are no longer kept
            raise ValueError("states of an ablated text cannot be encoded again")
        return encode(self.pipe, self.able, texts)

    def _make(self, shape: Shape, rows: list[Row], size: int, ahead: list[Row]) -> list[Made]:
        """Make one batch of `rows`, padded with the last row to `size`."""
        import torch

        multiple = self.able.multiple
        if shape.height % multiple or shape.width % multiple:
            # Some pipelines would round the size and only log it.
            raise ValueError(f"`height` and `width` must be multiples of {multiple}, not {shape.height}, {shape.width}")
        began = time.perf_counter()
        padded = [*rows, *[rows[-1]] * (size - len(rows))]
        with quiet():
            call_arguments = self._call_arguments(shape, padded, ahead)
            # A new one: some schedulers keep the steps of the last call, above all of one that broke off.
            scheduler = self.schedulers[shape.scheduler or "default"]
            self.pipe.scheduler = type(scheduler).from_config(scheduler.config)
            scales = [row.scale for row in padded if row.scale is not None]
            embedded = scales if scales and not shape.guided and self.able.mixes else None
            watching = self.watch(shape, padded, call_arguments) if self.watch else nullcontext()
            with at_work(self.speed, bool(self.watch)), embedded_rows(self.denoiser, embedded), watching:
                latents = self.pipe(
                    **call_arguments,
                    height=shape.height,
                    width=shape.width,
                    num_inference_steps=shape.num_inference_steps,
                    generator=[torch.Generator("cpu").manual_seed(row.seed) for row in padded],
                    output_type="latent",
                ).images
            self._worked = True
            made = self._decode(unpacked(self.pipe, latents, shape.height, shape.width)[: len(rows)])
        seconds = (time.perf_counter() - began) / len(rows)
        return [replace(one, seconds=seconds, batch_size=size) for one in made]

    def _call_arguments(self, shape: Shape, padded: list[Row], ahead: list[Row]) -> dict[str, Any]:
        """Texts and guidance of a batch, as arguments of the pipeline's call. `ahead` are rows that come soon."""
        pairs = shape.guided
        now, soon = ([t for row in rows for t in (row.text, row.against)[: 1 + pairs]] for rows in (padded, ahead))
        self.texts.prepare(now, soon)
        device = self.pipe.device
        call_arguments = arguments(self.able, self.texts.rows([row.text for row in padded]), "", device)
        if not pairs:
            scale = padded[0].scale
            return call_arguments | guided(self.able, None) | ({} if scale is None else {self.able.guidance: scale})
        against = self.texts.rows([row.against for row in padded])
        call_arguments |= arguments(self.able, against, "negative_", device)
        return call_arguments | guided(self.able, [row.scale for row in padded if row.scale is not None])

    def _decode(self, latents: Tensor) -> list[Made]:
        """Decode latents to one result a row."""
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
        """Decoded latents before clamping, float32 (n, 3, height, width). `precise` decodes in float32."""
        import torch

        vae = self.pipe.vae
        dtype = vae.dtype
        try:
            if precise:
                vae.to(torch.float32)
            return decoded(self.pipe, latents)
        finally:
            if precise:
                vae.to(dtype)

    def _blocked(self, values: Tensor) -> list[bool]:
        """Whether the model's safety checker, if it has one, blocks each image."""
        if getattr(self.pipe, "safety_checker", None) is None:
            return [False] * len(values)
        # It paints what it blocks black, in place.
        dtype = getattr(self.pipe.safety_checker, "dtype", self.denoiser.dtype)
        _, flags = self.pipe.run_safety_checker(values.nan_to_num(), self.pipe.device, dtype)
        return [bool(flag) for flag in flags]
