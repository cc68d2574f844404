"""What a pipeline is told of texts and guidance, as arguments of its call.

    texts --encode--> one state a text --arguments--> prompt_embeds, pooled..., mask    of a batch
    w of each row ----guided-------------------------> guidance_scale, true_cfg_scale, or an input of the denoiser

`encode_prompt` is the pipeline's own. Where states are as long as their text, they are kept without padding, and rows
of one padded length share a batch (`padded_length`), so that a row's numbers do not depend on its company.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from promptlab.backends.capabilities import Capability

if TYPE_CHECKING:
    from torch import Tensor

    from promptlab.backends.guidance import RowGuidance

__all__ = ["STEP", "arguments", "embedded_rows", "encode", "guided", "padded_length"]

STEP = 32
"""Lengths of ragged texts go up by so many tokens; Z-Image's transformer pads to multiples of it anyway."""
_MASK = "prompt_embeds_mask"


def encode(pipe: Any, able: Capability, texts: list[str]) -> dict[str, Sequence[Tensor]]:
    """States of texts, by argument name: as many of each as there are texts."""
    import torch

    # An encoder that was left out still has its place, filled with zeros.
    last = next((r for r in able.readers if r.tokenizer == able.family.readers[-1].tokenizer), able.family.readers[-1])
    options: dict[str, Any] = {
        "prompt": list(texts),  # some pipelines write into the list
        "prompt_2": None,
        "prompt_3": None,
        "device": pipe.device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": False,
        "max_sequence_length": last.limit,
    }
    takes = inspect.signature(pipe.encode_prompt).parameters
    with torch.no_grad():
        states = pipe.encode_prompt(**{name: value for name, value in options.items() if name in takes})
    found = {name: value for name, value in zip(able.family.encodes, states, strict=False) if name}
    if _MASK in found:
        mask = found.pop(_MASK)
        # None says that no text of the batch was padded.
        lengths = [len(rows) if mask is None else int(mask[i].sum()) for i, rows in enumerate(found["prompt_embeds"])]
        found["prompt_embeds"] = [rows[:n] for rows, n in zip(found["prompt_embeds"], lengths, strict=True)]
    return found


def padded_length(able: Capability, tokens: int) -> int:
    """Length to which a text of so many tokens is padded."""
    # Where there is a mask, some padding always: a mask of ones is dropped, and the numbers change with it.
    return (tokens // STEP + 1) * STEP if _MASK in able.family.encodes else -(-tokens // STEP) * STEP


def arguments(able: Capability, rows: Sequence[dict[str, Tensor]], prefix: str, device: Any) -> dict[str, Any]:
    """States of a batch's rows as arguments of the call; `prefix` is "" or "negative_"."""
    import torch

    found: dict[str, Any] = {}
    for name in rows[0]:
        tensors = [row[name].to(device) for row in rows]
        if not able.family.ragged:
            found[name] = torch.stack(tensors)
        elif _MASK not in able.family.encodes:
            found[name] = tensors  # a list, which the transformer pads
        else:
            length = padded_length(able, max(len(tensor) for tensor in tensors))
            mask = torch.zeros(len(rows), length, dtype=torch.long, device=device)
            for i, tensor in enumerate(tensors):
                mask[i, : len(tensor)] = 1
            pad = [torch.nn.functional.pad(tensor, (0, 0, 0, length - len(tensor))) for tensor in tensors]
            found |= {name: torch.stack(pad), _MASK: mask}
    return {prefix + name: value for name, value in found.items()}


def guided(able: Capability, scales: Sequence[float] | None) -> dict[str, RowGuidance | float]:
    """The guidance argument of a call in two passes with w for each row, or, without them, in one."""
    from promptlab.backends.guidance import ListGuidance, RowGuidance

    family = able.family
    if scales is None:
        return {able.guidance: 1.0 - family.offset}
    kind = ListGuidance if family.rows == "list" else RowGuidance
    return {able.guidance: kind([scale - family.offset for scale in scales])}


@contextmanager
def embedded_rows(denoiser: Any, scales: Sequence[float] | None) -> Iterator[None]:
    """Inside, the denoiser is given these guidances, one a row, in place of the one that its pipeline repeats."""
    if scales is None:
        yield
        return
    import torch

    def replace(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given = kwargs["guidance"]
        return args, {**kwargs, "guidance": torch.tensor(scales, dtype=given.dtype, device=given.device)}

    handle = denoiser.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
