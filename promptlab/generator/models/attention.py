"""Where the words of a prompt act in an image: attention maps, and images made with words taken out.

    a[k, y, x] = mean over heads, layers and steps of softmax(q k^T / sqrt(d))    pixel (y, x), text token k

No attention kernel returns its weights. A `TorchFunctionMode` therefore sees every call of scaled-dot-product
attention, lets it run unchanged, and computes the weights a second time, so the image stays the same to the last bit.
In a U-Net only cross-attention counts; its weights sum to 1 over the text. In joint attention (SD3, FLUX.1) pixels also
attend to each other. There the weights are divided by their sum over the text, and that sum is kept
(`Maps.text_share`). Layers of other resolutions are resized to one grid bilinearly, so the sums stay 1. In a batch with
two passes only the conditional rows are read.

Attention is not a cause. Ablation is the causal test: the state of a token is replaced by the one that the empty prompt
has at its place, at the same seed. The states of other tokens, into which the encoder has mixed it, and pooled vectors
stay as they are. Ablation therefore shows the effect of a token's own state.

The states of a text have parts: its words, the mark at its end, and the padding that fills the rest.

    start | words ............... | end | padding ..................... |     of each encoder in turn
    0       start to length - 1     ^     length to limit - 1

Every slot except the start mark belongs to one part; `all` is the three together. In a causal encoder the end mark and
the padding attend to every word, so each of them may carry the whole prompt. A text that fills its encoder has no
padding.

References:
    Tang et al. 2023, What the DAAM: Interpreting Stable Diffusion Using Cross Attention (arXiv 2210.04885). Here
    resizing is bilinear in place of bicubic with a clamp, since a clamp breaks the sums, and all layers count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptlab.errors import UntraceableError
from promptlab.generator.backends import Job, Made
from promptlab.generator.models.batches import Row, Shape, group
from promptlab.generator.models.capabilities import open_reader
from promptlab.records import Part, Phrase, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from promptlab.generator.backends.diffusion import Diffusion

__all__ = ["Maps", "attend", "layout_of", "part_places", "token_places", "without"]

Layout = Literal["cross", "image first", "text first"]
LAYOUTS: dict[str, tuple[Layout, tuple[str, ...]]] = {
    "StableDiffusionPipeline": ("cross", ("tokenizer",)),
    "StableDiffusionXLPipeline": ("cross", ("tokenizer",)),
    "StableDiffusion3Pipeline": ("image first", ("tokenizer", "tokenizer_3")),
    "FluxPipeline": ("text first", ("tokenizer_2",)),
}
"""How text and image share an attention, and the tokenizers whose tokens follow each other in the text states."""
WEIGHTS = 2**25
"""Attention weights in memory at once (128 MB in float32)."""
MARK = "\0"
"""A character that no prompt contains; it marks the keys of ablated texts."""


@dataclass(frozen=True, eq=False)
class Maps:
    """The tokens that an image's pixels attend to.

    Attributes:
        thirds: early, middle and late steps, each float32 (tokens, h, w), summing to 1 over tokens; None for a third
            without steps.
        steps: calls of the denoiser in each third.
        text_share: share of all attention that goes to the text, 0..1; 1 in cross-attention.
    """

    thirds: tuple[NDArray[np.float32] | None, ...]
    steps: tuple[int, ...]
    text_share: float

    def of(self, places: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Maps of words, each summed over its tokens: (4, words, h, w), all steps, then thirds (NaN if empty)."""
        shape = next(third for third in self.thirds if third is not None).shape[1:]
        empty = np.full((len(places), *shape), np.nan, np.float32)
        parts = [
            empty if third is None else np.stack([third[list(place)].sum(0) for place in places])
            for third in self.thirds
        ]
        weights = np.array(self.steps) / sum(self.steps)
        whole = sum(part * weight for part, weight in zip(parts, weights, strict=True) if weight)
        return np.stack([whole, *parts]).astype(np.float32)


class _Recorder:
    """Attention weights of one call of the pipeline: of the last `rows` rows, which are the conditional ones."""

    def __init__(self, backend: Diffusion, shape: Shape, rows: int, tokens: int) -> None:
        self.layout = layout_of(backend)[0]
        able = backend.able
        unit = able.factor if self.layout == "cross" else able.multiple
        self.grid = shape.height // unit, shape.width // unit
        self.rows, self.tokens = rows, tokens
        self.backend = backend
        self.calls = [0, 0, 0]
        self.sums: list[Tensor | None] = [None, None, None]
        self.layers = [0, 0, 0]
        self.share = 0.0
        self._done = -1
        self._crossing = False

    def maps(self) -> list[Maps]:
        """The maps of each row. Raises UntraceableError if no attention to text was seen."""
        if not sum(self.layers):
            raise UntraceableError("the model's attention to its text was not seen: it runs by another function")
        thirds = [
            None if total is None else (total / count).float().cpu().numpy()
            for total, count in zip(self.sums, self.layers, strict=True)
        ]
        share = self.share / sum(self.layers)
        return [
            Maps(tuple(None if t is None else t[i] for t in thirds), tuple(self.calls), share) for i in range(self.rows)
        ]

    def _third(self) -> int:
        return self._done * 3 // max(len(self.backend.pipe.scheduler.timesteps), self._done + 1)

    def _begin(self, *_: Any) -> None:
        self._done += 1
        self.calls[self._third()] += 1

    def _enter(self, *_: Any) -> None:
        self._crossing = True

    def _leave(self, *_: Any) -> None:
        self._crossing = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record every attention inside the block."""
        import torch
        from torch.overrides import TorchFunctionMode

        attention = torch.nn.functional.scaled_dot_product_attention
        recorder = self

        class Listen(TorchFunctionMode):
            def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                out = function(*args, **(kwargs or {}))
                if function is attention:
                    recorder._see(*args, **(kwargs or {}))
                return out

        denoiser = self.backend.denoiser
        handles = [denoiser.register_forward_pre_hook(self._begin)]
        for name, module in denoiser.named_modules():
            if self.layout == "cross" and name.rpartition(".")[2] == "attn2":
                handles += [module.register_forward_pre_hook(self._enter), module.register_forward_hook(self._leave)]
        try:
            with Listen():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _see(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **more: Any
    ) -> None:
        import torch

        if self.layout == "cross":
            if not self._crossing:
                return
            image, text = slice(None), slice(None)
        else:
            size = self.grid[0] * self.grid[1]
            if key.shape[-2] != self.tokens + size or query.shape[-2] != key.shape[-2]:
                return
            first = self.layout == "text first"
            image = slice(self.tokens, None) if first else slice(None, size)
            text = slice(None, self.tokens) if first else slice(size, None)
        with torch.no_grad():
            found = torch.stack([self._row(query, key, attn_mask, more, i, image, text) for i in range(-self.rows, 0)])
        share = found.sum(1, keepdim=True)
        self.share += float(share.mean())
        third = self._third()
        found = _on_grid(found / share, self.grid)
        total = self.sums[third]
        self.sums[third] = found if total is None else total + found
        self.layers[third] += 1

    def _row(
        self, query: Tensor, key: Tensor, mask: Tensor | None, more: dict[str, Any], row: int, image: slice, text: slice
    ) -> Tensor:
        """One row's weights, averaged over heads: (tokens, pixels)."""
        import torch

        q, k = query[row][..., image, :].float(), key[row].float()
        scale = more.get("scale") or query.shape[-1] ** -0.5
        heads = max(1, WEIGHTS // (q.shape[-2] * k.shape[-2]))
        total = torch.zeros(())
        for start in range(0, len(q), heads):
            logits = q[start : start + heads] @ k[start : start + heads].transpose(-1, -2) * scale
            if mask is not None:
                part = mask.expand(*query.shape[:-1], key.shape[-2])[row][start : start + heads, image]
                logits = logits.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else logits + part
            total = total.to(q.device) + logits.softmax(-1)[..., text].sum(0)
        return (total / len(q)).T


def _on_grid(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a layer's weights (n, tokens, pixels) to the grid. A layer has the grid's size, halved some times."""
    import torch

    height, width = grid
    while height * width > weights.shape[-1]:
        height, width = -(-height // 2), -(-width // 2)  # strided convolutions round up
    if height * width != weights.shape[-1]:
        raise UntraceableError(f"an attention over {weights.shape[-1]} places does not fit {grid[1]}x{grid[0]}")
    maps = weights.reshape(*weights.shape[:-1], height, width)
    return maps if (height, width) == grid else torch.nn.functional.interpolate(maps, grid, mode="bilinear")


def layout_of(backend: Diffusion) -> tuple[Layout, tuple[str, ...]]:
    """The model's entry in `LAYOUTS`. Raises UntraceableError for an architecture without one."""
    if (name := backend.able.architecture.pipeline) not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        raise UntraceableError(f"attention of {name} is not split into text and image yet: that of {known} is")
    return LAYOUTS[name]


def token_places(backend: Diffusion, prompt: Prompt, phrases: Sequence[Phrase]) -> list[list[int]]:
    """Places of each phrase's tokens in the text states, without those that the encoders cut off.

    Raises UntraceableError for a phrase that is cut off whole, or an architecture that is not in `LAYOUTS`.
    """
    places: list[list[int]] = [[] for _ in phrases]
    offset = 0
    named = [replace(phrase, name=f"{MARK}{i}") for i, phrase in enumerate(phrases)]
    wanted = layout_of(backend)[1]
    for tokenizer in wanted:
        for reader in backend.able.readers:
            if reader.tokenizer != tokenizer:
                continue
            tokens, limit = open_reader(backend.folders[0], reader)
            for span in tokens.spans(prompt, limit, named).phrases[len(prompt.phrases) :]:
                places[int(span.name[1:])] += range(offset + span.first, offset + span.first + span.kept)
        offset += 77
    for phrase, place in zip(phrases, places, strict=True):
        if not place:
            raise UntraceableError(f"{phrase.text!r} was cut off: no encoder of the model reads it")
    return places


def attend(backend: Diffusion, jobs: Sequence[Job]) -> dict[str, tuple[Made, Maps]]:
    """Make the images of `jobs` and map what their pixels attend to, by image id.

    Raises UntraceableError if the model's attention cannot be split, or an image is not made from its prompt.
    """
    layout_of(backend)
    seen: dict[tuple[Shape, Row], Maps] = {}

    @contextmanager
    def watch(shape: Shape, rows: list[Row], call_arguments: dict[str, Any]) -> Iterator[None]:
        recorder = _Recorder(backend, shape, len(rows), call_arguments["prompt_embeds"].shape[1])
        with recorder.listening():
            yield
        seen.update(zip(((shape, row) for row in rows), recorder.maps(), strict=True))

    for job in jobs:
        if backend.able.guidance_kind == "true" and job.settings.guidance_scale == 0:
            raise UntraceableError("guidance of 0 makes the picture without its prompt, so it attends to none of it")
    backend.watch = watch
    try:
        made = {one.image_id: one for one in backend.generate(list(jobs))}
    finally:
        backend.watch = None
    for one in made.values():
        if one.status != "ok":
            raise UntraceableError(f"the picture was not made again: {one.status}, {one.reason}")
    keys = {
        job.image_id: (shape, row)
        for shape, wanted in group(jobs, backend.able).items()
        for row, same in wanted.items()
        for job in same
    }
    return {job.image_id: (made[job.image_id], seen[keys[job.image_id]]) for job in jobs}


def without(backend: Diffusion, job: Job, places: Sequence[Sequence[int]]) -> list[NDArray[np.uint8]]:
    """Make the image of `job` once for each item of `places`, with the text states at those places replaced.

    The replacements are the empty prompt's states. All images come from batches of one shape, so an empty item gives
    the image to compare with. Raises UntraceableError.
    """
    layout_of(backend)
    states, empty_states = backend.texts.rows([job.prompt, ""])
    jobs = []
    for i, place in enumerate(places):
        text = f"{job.prompt}{MARK}{','.join(map(str, place))}"
        embeds = states["prompt_embeds"].clone()
        embeds[list(place)] = empty_states["prompt_embeds"][list(place)]
        backend.texts.put(text, states | {"prompt_embeds": embeds})
        jobs.append(replace(job, image_id=str(i), prompt=text))
    made = {one.image_id: one for one in backend.generate(jobs)}
    pictures = []
    for one in (made[job.image_id] for job in jobs):
        if one.pixels is None:
            raise UntraceableError(f"a picture with words taken out was not made: {one.status}, {one.reason}")
        pictures.append(one.pixels)
    return pictures


def part_places(backend: Diffusion, text: str, part: Part) -> list[int]:
    """Places of a part in the text states that the denoiser reads; empty if the text leaves no slot for it.

    Raises UntraceableError for an architecture that is not in `LAYOUTS`.
    """
    places: list[int] = []
    offset = 0
    for tokenizer in layout_of(backend)[1]:
        for reader in backend.able.readers:
            if reader.tokenizer != tokenizer:
                continue
            tokens, limit = open_reader(backend.folders[0], reader)
            length = min(tokens.framed_length(text), limit)
            words = length - (tokens.marks - tokens.start)
            spans = {"words": (tokens.start, words), "end": (words, length), "padding": (length, limit)}
            first, stop = spans.get(part, (tokens.start, limit))
            places += range(offset + first, offset + stop)
        offset += 77
    return places
