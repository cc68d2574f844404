"""Jobs in batches, guidance row by row, and latents back to images.

A `Row` is what decides an image inside a batch, and a `Shape` is what a whole batch shares. Jobs with the same row and
shape are one image: without guidance, all prompts give the same image at a seed. A batch that does not fit into memory
is halved.

Guidance can differ by row, although the pipelines take one number:

    noise = u + w (c - u)        u unconditional (or negative) pass, c conditional pass, w the guidance scale

w = 0 is unconditional, w = 1 purely conditional. diffusers' pipelines take one w for a batch, and drop guidance
altogether if w <= 1, so that 0 and 0.5 silently become 1. `RowGuidance` is a `float` that multiplies row by row and
always counts as guidance. Every pipeline with two passes writes `guidance_scale * (c - u)`, so no loop is rewritten.
Rows with w = 0 or w = 1 need one pass only, and get it (`single_pass`). That costs half as much. It also gives the
exact bits of the unconditional or conditional sample, which u + 1 (c - u) in floating-point numbers does not.

What a pipeline returns becomes what its autoencoder decodes:

    packed --unpacked--> (n, channels, height, width) --denormalised--> z --vae.decode--> x in about [-1, 1]

Transformer architectures return latents as sequences of 2x2 patches. Their pipelines' own functions undo this and are
called here. The steps that pipelines write inline (scale, shift, mean, deviation) follow in the same order.

References:
    Ho and Salimans 2022, Classifier-Free Diffusion Guidance (arXiv 2207.12598); w as in Saharia et al. 2022,
    Photorealistic Text-to-Image Diffusion Models (arXiv 2205.11487).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, Self

from promptlab.errors import PromptlabError
from promptlab.generator.backends import Job, Made
from promptlab.generator.models.capabilities import Capability

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Batches",
    "ListGuidance",
    "Row",
    "RowGuidance",
    "Shape",
    "batches_of",
    "decoded",
    "group",
    "rows_at_once",
    "single_pass",
    "unpacked",
]

LOOKAHEAD_ROWS = 256
"""Rows whose texts are encoded together."""
GIVE_UP = 5
"""A run ends after this many images in a row that do not fit into memory even alone."""


@dataclass(frozen=True)
class Shape:
    """What a whole batch shares.

    Attributes:
        guided: whether the batch takes two passes, else one.
        scale: the embedded guidance, if rows cannot differ in it.
        lengths: padded lengths of the texts, conditional and unconditional, if states are as long as their text.
    """

    height: int
    width: int
    num_inference_steps: int
    scheduler: str | None
    guided: bool
    scale: float | None = None
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row of a batch. In a single pass `against` is None, and so is w.

    Attributes:
        text: the prompt; None means no text, with states of zeros.
        against: the negative prompt.
        scale: w, or the embedded guidance.
    """

    text: str | None
    against: str | None
    scale: float | None
    seed: int


def group(
    jobs: Iterable[Job], able: Capability | None = None, length: Callable[[str], int] | None = None
) -> dict[Shape, dict[Row, list[Job]]]:
    """Group jobs by shape and row, in order of appearance.

    Args:
        able: what the model can do; None means true guidance.
        length: the padded length of a text, if the rows of a batch must agree in it.
    """
    groups: dict[Shape, dict[Row, list[Job]]] = {}
    for job in jobs:
        s = job.settings
        guided, row = _row(job, able)
        texts = (row.text, row.against) if guided else (row.text,)
        lengths = tuple(length(text or "") for text in texts) if length else ()
        apart = None if guided or able is None or able.mixes else row.scale
        shape = Shape(s.height, s.width, s.num_inference_steps, s.scheduler, guided, apart, lengths)
        groups.setdefault(shape, {}).setdefault(row, []).append(job)
    return groups


def _row(job: Job, able: Capability | None) -> tuple[bool, Row]:
    """Whether a job takes two passes, and its row in a batch."""
    s = job.settings
    if able is not None and able.guidance_kind != "true":
        requested, default = s.distilled_guidance_scale, able.settings.distilled_guidance_scale
        embedded = (default if requested is None else requested) if able.guidance_kind == "embedded" else None
        return False, Row(job.prompt, None, embedded, job.seed)
    against = None if able is not None and able.zeros and not s.negative_prompt else s.negative_prompt
    if not single_pass(s.guidance_scale):
        return True, Row(job.prompt, against, s.guidance_scale, job.seed)
    return False, Row(job.prompt if s.guidance_scale == 1 else against, None, None, job.seed)


def rows_at_once(rows: int, most: int) -> int:
    """Rows of each batch of a group with `rows` rows: rounded up to a power of two, at most `most`.

    Powers of two keep the sizes few, since a compiled model is compiled again for each size.
    """
    return min(most, 1 << (rows - 1).bit_length())


def batches_of(groups: dict[Shape, dict[Row, list[Job]]], rows_of: Callable[[Shape, int], int]) -> list[list[Job]]:
    """The jobs of each batch, as `Batches.run` splits them if memory suffices. `rows_of`: see `Batches.rows_of`."""
    batches = []
    for shape, wanted in groups.items():
        rows = list(wanted.values())
        size = rows_of(shape, len(rows))
        batches += [[job for row in rows[at : at + size] for job in row] for at in range(0, len(rows), size)]
    return batches


def _out_of_memory(error: Exception) -> bool:
    import torch

    # On a CPU, torch says so in words only.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Batches:
    """Runs groups of jobs through `make(shape, rows, size, ahead)`, which returns one Made (of any id) for each row.

    `make` pads the batch to `size` rows; `ahead` are rows that come soon. When memory runs out, the size is halved for
    good. An image that does not fit alone gets the status `oom`.

    Attributes:
        size: the most rows of a batch.
        planned: rows of each group in the whole plan; its batches have as many, rounded up (`rows_at_once`). Parts of a
            group that are made by several workers, or after a crash, then have batches of one size. None: every batch
            has `size` rows.
    """

    def __init__(
        self,
        make: Callable[[Shape, list[Row], int, list[Row]], list[Made]],
        size: int,
        planned: Mapping[Shape, int] | None = None,
    ) -> None:
        self.make = make
        self.size = size
        self.planned = planned
        self._in_a_row = 0

    def rows_of(self, shape: Shape, rows: int) -> int:
        """Rows to which each batch of a group is padded, if `rows` rows of it are missing now."""
        if self.planned is None:
            return self.size
        return rows_at_once(max(rows, self.planned.get(shape, 0)), self.size)

    def run(self, groups: dict[Shape, dict[Row, list[Job]]]) -> Iterator[Made]:
        """Make every job of every group. Raises PromptlabError after GIVE_UP images in a row that do not fit."""
        for shape, wanted in groups.items():
            rows = list(wanted)
            at = 0
            while at < len(rows):
                size = self.rows_of(shape, len(rows))
                some = rows[at : at + size]
                made = self._attempt(shape, some, size, rows[at : at + LOOKAHEAD_ROWS])
                if made is None and size > 1:
                    self.size = size // 2
                    continue
                if made is None:
                    self._in_a_row += 1
                    made = [Made("", status="oom", reason="out of memory, even alone in its batch", batch_size=1)]
                else:
                    self._in_a_row = 0
                at += len(some)
                for row, one in zip(some, made, strict=True):
                    for job in wanted[row]:
                        yield replace(one, image_id=job.image_id)
                if self._in_a_row >= GIVE_UP:
                    raise PromptlabError(
                        f"{GIVE_UP} pictures in a row do not fit into memory, {shape.width}x{shape.height}, one at a "
                        "time: ask for a smaller height and width, set dtype bfloat16, or take a smaller model"
                    )

    def _attempt(self, shape: Shape, rows: list[Row], size: int, ahead: list[Row]) -> list[Made] | None:
        """Make one batch. None if memory runs out; any other error becomes the status of its images."""
        try:
            return self.make(shape, rows, size, ahead)
        except PromptlabError:
            raise
        except Exception as error:
            if not _out_of_memory(error):
                reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300]
                return [Made("", status="error", reason=reason, batch_size=size) for _ in rows]
        # Only out here: inside, the error's traceback would keep the tensors of the failed batch.
        _free()
        return None


def single_pass(scale: float) -> bool:
    """Whether guidance w needs one pass only: 0 the unconditional pass, 1 the conditional one."""
    return scale in (0.0, 1.0)


class RowGuidance(float):
    """Guidance scales of the rows of one batch, as a float that multiplies a tensor (n, ...) row by row.

    Its value as a number is the largest scale. Raises ValueError for a tensor with another number of rows.
    """

    scales: tuple[float, ...]

    def __new__(cls, scales: Sequence[float]) -> Self:
        """`scales`: one w for each row."""
        self = super().__new__(cls, max(scales))
        self.scales = tuple(float(scale) for scale in scales)
        return self

    def __gt__(self, other: object) -> bool:
        # Pipelines test `scale > 1` to decide on two passes. Here two are needed, whatever the scales.
        return True

    def __mul__(self, other: Any) -> Any:
        """Multiply row i of a tensor by scale i; with anything else, multiply as a float."""
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
        """`scales`: one w for each row. Use an object for one call: a call that breaks off leaves it amid the rows."""
        self = super().__new__(cls, scales)
        self._turns = cycle(self.scales)
        return self

    def __mul__(self, other: Any) -> Any:
        """Multiply the next row's tensor (...) by its scale; with anything else, multiply as a float."""
        import torch

        return next(self._turns) * other if isinstance(other, torch.Tensor) else float(self) * other


GROUP = 4
"""Small images that are decoded together."""
SMALL = 16 * 16
"""The most places in the latents of a small image."""


def unpacked(pipe: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Turn a pipeline's latents into (n, channels, ...), for images of height x width pixels."""
    import torch

    factor = pipe.vae_scale_factor
    match type(pipe).__name__:
        case "FluxPipeline" | "QwenImagePipeline":
            picture: Tensor = pipe._unpack_latents(latents, height, width, factor)
            return picture
        case "Flux2Pipeline":
            grid = torch.empty(len(latents), 1, height // (2 * factor), width // (2 * factor))
            places = pipe._prepare_latent_ids(grid).to(latents.device)
            picture = pipe._unpack_latents_with_ids(latents, places)
            return picture
    return latents


def _denormalised(pipe: Any, latents: Tensor) -> Tensor:
    """Turn the denoiser's latents into those that the autoencoder was trained to decode."""
    import torch

    config = pipe.vae.config

    def stated(values: list[float], *shape: int) -> Tensor:
        return torch.tensor(values).view(1, -1, *shape).to(latents.device, latents.dtype)

    match type(pipe).__name__:
        case "Flux2Pipeline":
            norm = pipe.vae.bn
            mean = norm.running_mean.view(1, -1, 1, 1).to(latents.device, latents.dtype)
            deviation = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + config.batch_norm_eps)
            picture: Tensor = pipe._unpatchify_latents(latents * deviation.to(latents.device, latents.dtype) + mean)
            return picture
        case "Flux2KleinPipeline":
            return latents  # its pipeline has done it, even for output_type="latent"
        case "QwenImagePipeline":
            inverse = 1.0 / stated(config.latents_std, 1, 1, 1)
            picture = latents / inverse + stated(config.latents_mean, 1, 1, 1)
            return picture
        case "StableDiffusionXLPipeline":
            # Only some checkpoints state them; None is said for the others.
            if getattr(config, "latents_mean", None) and getattr(config, "latents_std", None):
                scaled = latents * stated(config.latents_std, 1, 1) / config.scaling_factor
                picture = scaled + stated(config.latents_mean, 1, 1)
                return picture
    picture = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    return picture


def decoded(pipe: Any, latents: Tensor) -> Tensor:
    """Decode unpacked latents to float32 (n, 3, height, width), without clamping.

    Large images are decoded one by one, since decoding takes the most memory, and small ones in groups of one size.
    """
    import torch

    with torch.no_grad():
        z = _denormalised(pipe, latents.to(pipe.vae.dtype))
        size = GROUP if z.shape[-2] * z.shape[-1] <= SMALL else 1
        short = -len(z) % size
        # The last group is padded, so the bits of an image do not depend on the others.
        padded = torch.cat([z, z[-1:].expand(short, *z.shape[1:])])
        groups = (padded[at : at + size] for at in range(0, len(padded), size))
        values = torch.cat([pipe.vae.decode(group, return_dict=False)[0] for group in groups])[: len(z)]
    if values.ndim == 5:
        values = values[:, :, 0]  # Qwen's autoencoder has a time axis: an image is a film of one frame
    return values.float()
