"""How the text encoders of a model read the prompts of a study: how long they are in tokens, and what is cut.

A pipeline may have several encoders, each with its own tokenizer and limit: of a long prompt FLUX.1's CLIP reads 77
tokens and its T5 512. Counted by the model's own tokenizers, inside the frame that its pipeline puts around a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from promptlab.backends.capabilities import capability, open_reader
from promptlab.backends.folders import MINIATURES, resolve
from promptlab.errors import ModelError
from promptlab.miniature.lexicon import check_words
from promptlab.records import Cell, Prompt

__all__ = ["Reading", "limits", "readings", "tokenizer_of", "unknown_words"]


@dataclass(frozen=True)
class Reading:
    """What one encoder makes of the prompts: `limit` tokens are read, the longest prompt has `longest`, `cut` are cut.

    Tokens count marks and frame as the encoder is given them. `lost` is what it does not see of the longest.
    """

    model: str
    encoder: str
    limit: int
    longest: int
    cut: int
    lost: str


def tokenizer_of(model: str) -> Path | None:
    """The first tokenizer of a model on this disk, for counting tokens without loading it; None where there is none."""
    try:
        path = resolve(model)[0] / "tokenizer"
    except ModelError:
        return None
    return path if path.is_dir() else None


def readings(cells: Iterable[Cell]) -> tuple[Reading, ...]:
    """One reading for each text encoder of each model that makes pictures from text. Raises ModelError."""
    prompts: dict[str, dict[str, Prompt]] = {}
    for cell in cells:
        if cell.backend == "diffusion":
            prompts.setdefault(cell.model, {})[cell.prompt.text] = cell.prompt
    found = []
    for model, texts in prompts.items():
        folder = resolve(model)[0]
        for reader in capability(folder).readers:
            tokens, limit = open_reader(folder, reader)
            spans = [tokens.spans(prompt, limit) for prompt in texts.values()]
            worst = max(spans, key=lambda one: (one.cut, one.total))
            cut = sum(one.cut > 0 for one in spans)
            own = reader.dropped
            found.append(Reading(model, reader.name, limit - own, worst.total - own, cut, worst.cut_text))
    return tuple(found)


def limits(model: str) -> dict[str, int]:
    """Tokens that each text encoder of a model reads, by the encoder's name. Raises ModelError."""
    folder = resolve(model)[0]
    return {reader.name: open_reader(folder, reader)[1] - reader.dropped for reader in capability(folder).readers}


def unknown_words(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Words that the miniature is asked and never learned, in order of appearance; other models are not asked."""
    texts = dict.fromkeys(
        cell.prompt.text for cell in cells if cell.backend == "diffusion" and cell.model in MINIATURES
    )
    return tuple(dict.fromkeys(word for text in texts for word in check_words(text)))
