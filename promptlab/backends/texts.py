"""Text states: each text goes through the text encoder once, then waits for the batches that need it.

Texts are encoded in batches of fixed shape, the last one padded, so that the states of a text do not depend on its
company: equal shapes give equal bits. The text None is no text: zeros in the shape of any state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ROWS", "TextStates"]

ROWS = 8
"""Texts that are encoded at once."""
KEEP_BYTES = 16e9
"""Main memory that states may take: about 1,000 texts of FLUX.2, 130,000 of Stable Diffusion."""


class TextStates:
    """States of texts, by argument name: `of(texts)["prompt_embeds"]` is (n, tokens, width).

    `encode` takes `together` texts, inside `at_work()`. At most `keep` texts are held, in main memory, and those used
    longest ago leave first.
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
        """Encode those of `texts` that are not held yet, and where there are any, those of `ahead` with them.

        They may be at most `keep`. Encoders that come from elsewhere to work come for many texts, then, not for few.
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
        """Keep `states` under the name `text`, which is not encoded: the states of a text, changed by hand."""
        self._states.pop(text, None)
        self._states[text] = dict(states)

    def _room(self) -> int:
        """How many texts of the size of the last one fit into KEEP_BYTES."""
        last = self._states[next(reversed(self._states))] if self._states else {}
        return int(KEEP_BYTES // max(1, sum(state.nbytes for state in last.values())))

    def rows(self, texts: Sequence[str | None]) -> list[dict[str, Tensor]]:
        """States of each text."""
        self.prepare(texts)
        return [self._states[text] for text in texts]

    def of(self, texts: Sequence[str | None]) -> dict[str, Tensor]:
        """States of `texts`, one row a text, where all are of one shape."""
        import torch

        rows = self.rows(texts)
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
