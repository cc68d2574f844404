"""Text states and guidance as arguments of a pipeline's call.

    texts --encode--> one state a text --arguments--> prompt_embeds, pooled..., mask    of a batch
    w of each row ----guided-------------------------> guidance_scale, true_cfg_scale, or an input of the denoiser

Each text goes through the text encoder once, by the pipeline's own `encode_prompt`, and `TextStates` keeps its states
for the batches that need them. Texts are encoded in batches of one fixed size, the last one padded. Equal shapes give
equal bits, so the states of a text do not depend on the other texts. The text None stands for no text: zeros in the
shape of any state.

Some states are as long as their text. These are kept without padding, and only rows of one padded length share a batch
(`padded_length`), so a row's numbers do not depend on the other rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from promptlab.generator.models.capabilities import Capability

if TYPE_CHECKING:
    from torch import Tensor

    from promptlab.generator.models.batches import RowGuidance

__all__ = ["ROWS", "STEP", "TextStates", "arguments", "embedded_rows", "encode", "guided", "padded_length"]

STEP = 32
"""Ragged texts are padded to multiples of this many tokens, as Z-Image's transformer does anyway."""
_MASK = "prompt_embeds_mask"


def encode(pipe: Any, able: Capability, texts: list[str]) -> dict[str, Sequence[Tensor]]:
    """Encode texts with the pipeline. Returns states by argument name, one of each for every text."""
    import torch

    # An encoder that was left out still has its place, filled with zeros.
    last = next(
        (r for r in able.readers if r.tokenizer == able.architecture.readers[-1].tokenizer),
        able.architecture.readers[-1],
    )
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
    found = {name: value for name, value in zip(able.architecture.encodes, states, strict=False) if name}
    if _MASK in found:
        mask = found.pop(_MASK)
        # None says that no text of the batch was padded.
        lengths = [len(rows) if mask is None else int(mask[i].sum()) for i, rows in enumerate(found["prompt_embeds"])]
        found["prompt_embeds"] = [rows[:n] for rows, n in zip(found["prompt_embeds"], lengths, strict=True)]
    return found


def padded_length(able: Capability, tokens: int) -> int:
    """The length to which a text of `tokens` tokens is padded."""
    # Where there is a mask, some padding always: a mask of ones is dropped, and the numbers change with it.
    return (tokens // STEP + 1) * STEP if _MASK in able.architecture.encodes else -(-tokens // STEP) * STEP


def arguments(able: Capability, rows: Sequence[dict[str, Tensor]], prefix: str, device: Any) -> dict[str, Any]:
    """The states of a batch's rows, as arguments of the pipeline's call. `prefix` is "" or "negative_"."""
    import torch

    found: dict[str, Any] = {}
    for name in rows[0]:
        tensors = [row[name].to(device) for row in rows]
        if not able.architecture.ragged:
            found[name] = torch.stack(tensors)
        elif _MASK not in able.architecture.encodes:
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
    """The guidance argument of a call. `scales`: w of each row for two passes, or None for one pass."""
    from promptlab.generator.models.batches import ListGuidance, RowGuidance

    architecture = able.architecture
    if scales is None:
        return {able.guidance: 1.0 - architecture.offset}
    kind = ListGuidance if architecture.rows == "list" else RowGuidance
    return {able.guidance: kind([scale - architecture.offset for scale in scales])}


@contextmanager
def embedded_rows(denoiser: Any, scales: Sequence[float] | None) -> Iterator[None]:
    """Inside the block, the denoiser gets one guidance a row in place of the one that its pipeline repeats."""
    if scales is None:
        yield
        return
    import torch

    def replace(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        original = kwargs["guidance"]
        return args, {**kwargs, "guidance": torch.tensor(scales, dtype=original.dtype, device=original.device)}

    handle = denoiser.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


ROWS = 8
"""Texts that are encoded together."""
KEEP_BYTES = 16e9
"""Main memory that states may take: about 1,000 texts of FLUX.2, 130,000 of Stable Diffusion."""


class TextStates:
    """A cache of text states, by argument name: `of(texts)["prompt_embeds"]` is (n, tokens, width).

    Args:
        encode: encodes `together` texts, inside `at_work()`.
        keep: the most texts that main memory holds; those used longest ago leave first.
    """

    def __init__(
        self,
        encode: Callable[[list[str]], Mapping[str, Sequence[Tensor]]],
        keep: int = 4096,
        together: int = ROWS,
        at_work: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._encode = encode
        self._keep = keep
        self._together = together
        self._at_work = at_work
        self._states: dict[str | None, dict[str, Tensor]] = {}

    def prepare(self, texts: Iterable[str | None], ahead: Iterable[str | None] = ()) -> None:
        """Encode those of `texts` that are not cached, and if there are any, those of `ahead` with them.

        `texts` may be at most `keep`. Encoders that wait in main memory then move to the card for many texts at once.
        """
        wanted: list[str | None] = list(dict.fromkeys(texts))
        if any(text not in self._states for text in wanted):
            wanted = list(dict.fromkeys([*wanted, *ahead]))
        for text in wanted:
            if text in self._states:
                self._states[text] = self._states.pop(text)
        missing = [text for text in wanted if text is not None and text not in self._states]
        nothing = None in wanted and None not in self._states
        if nothing and not missing:
            missing = [""]
        if missing:
            with self._at_work():
                self._add(missing)
        if nothing:
            import torch

            some = self._states[missing[-1]]
            self._states[None] = {name: torch.zeros_like(state) for name, state in some.items()}
        keep = min(self._keep, self._room())
        while len(self._states) > max(keep, len(wanted)):
            del self._states[next(iter(self._states))]

    def _add(self, missing: list[str]) -> None:
        for start in range(0, len(missing), self._together):
            some = missing[start : start + self._together]
            states = self._encode([*some, *[some[-1]] * (self._together - len(some))])
            for i, text in enumerate(some):
                self._states[text] = {name: rows[i].clone().cpu() for name, rows in states.items()}

    def put(self, text: str, states: Mapping[str, Tensor]) -> None:
        """Cache `states` under the key `text` without encoding it: the states of a text, changed by the caller."""
        self._states.pop(text, None)
        self._states[text] = dict(states)

    def _room(self) -> int:
        """How many texts as large as the last one fit into KEEP_BYTES."""
        last = self._states[next(reversed(self._states))] if self._states else {}
        return int(KEEP_BYTES // max(1, sum(state.nbytes for state in last.values())))

    def rows(self, texts: Sequence[str | None]) -> list[dict[str, Tensor]]:
        """The states of each text."""
        self.prepare(texts)
        return [self._states[text] for text in texts]

    def of(self, texts: Sequence[str | None]) -> dict[str, Tensor]:
        """The states of `texts`, stacked to one row a text. All must have one shape."""
        import torch

        rows = self.rows(texts)
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
