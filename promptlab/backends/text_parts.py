"""Parts of a text's states: its words, the mark at its end, and the padding that fills the rest.

    start | words ............... | end | padding ..................... |     of each encoder in turn
    0       start to length - 1     ^     length to limit - 1

Every slot but the first mark belongs to one part; `all` is the three together. A causal encoder lets the end mark and
the padding hear every word, so that each of them may carry the whole prompt. Of a text that fills its encoder nothing
is padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.backends.attention import layout_of
from promptlab.backends.capabilities import open_reader
from promptlab.records import Part

if TYPE_CHECKING:
    from promptlab.backends.diffusion import Diffusion

__all__ = ["part_places"]


def part_places(backend: Diffusion, text: str, part: Part) -> list[int]:
    """Places of a part in the text states that the denoiser reads; none where no slot is left for it.

    Raises UntraceableError for a family whose states are not known here.
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
