"""Text states: each text goes through the text encoder once, then waits for the batches that need it.

Texts are encoded in batches of fixed shape, the last one padded, so that the states of a text do not depend on its
company: equal shapes give equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ROWS", "TextStates"]

ROWS = 8
"""Texts that are encoded at once."""


class TextStates:
    """States of texts, by argument name: `of(texts)["prompt_embeds"]` is (n, tokens, width).

    `encode` takes ROWS texts. At most `keep` texts are held, in main memory, and those used longest ago leave first.
    """

    def __init__(self, encode: Callable[[list[str]], dict[str, Tensor]], keep: int = 4096) -> None:
        self._encode = encode
        self._keep = keep
        self._states: dict[str, dict[str, Tensor]] = {}

    def prepare(self, texts: Iterable[str]) -> None:
        """Encode those of `texts` that are not held yet; they may be at most `keep`."""
        wanted = list(dict.fromkeys(texts))
        for text in wanted:
            if text in self._states:
                self._states[text] = self._states.pop(text)
        missing = [text for text in wanted if text not in self._states]
        for start in range(0, len(missing), ROWS):
            some = missing[start : start + ROWS]
            states = self._encode([*some, *[some[-1]] * (ROWS - len(some))])
            for i, text in enumerate(some):
                self._states[text] = {name: tensor[i].clone().cpu() for name, tensor in states.items()}
        while len(self._states) > max(self._keep, len(wanted)):
            del self._states[next(iter(self._states))]

    def of(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """States of `texts`, one row a text."""
        import torch

        self.prepare(texts)
        rows = [self._states[text] for text in texts]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
