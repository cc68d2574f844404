"""What a model's text encoders make of one prompt, before any picture: tokens, what is cut, what they can tell apart.

    reach(word)      1 - cos(e(prompt), e(prompt without the word)): how far the pooled text state moves; 0 says nothing
    order(pair)      d(swapped) / d(reordered), d = 1 - cos of the pooled states. Swapped: the colours of two objects
                     exchanged, another meaning. Reordered: the objects named in the other order, the same meaning.
                     Below 1 the encoder sees less of a change in "a blue cup and a red chair" than in "a blue chair and
                     a red cup": it can hardly tell them apart.

Facts come from the encoder. Advice comes only from claims that were settled in this home, and names the claim.
Text geometry of this kind: Yuksekgonul et al. 2023, When and why vision-language models behave like bags-of-words
(arXiv 2210.01936). The measures are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from promptlab.checkpoints.files import MINIATURES, read_json, resolve
from promptlab.checkpoints.quiet import quiet
from promptlab.errors import PromptlabError
from promptlab.generator.models.capabilities import capability, open_reader
from promptlab.generator.models.loading import variant_of
from promptlab.miniature.lexicon import check_words
from promptlab.records import Phrase
from promptlab.stats.resampling import Floats
from promptlab.study.grammar import claim, read_claims

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["EncoderReading", "Lint", "Word", "advice", "lint", "verdicts"]

SILENT = 0.002
"""Words that move the pooled state less than this say next to nothing to the encoder."""
LONGEST = 4000
ROWS = 64
"""Texts encoded at once."""


@dataclass(frozen=True)
class EncoderReading:
    """One encoder: `total` tokens with marks, of which `limit` are read; `lost` is the text beyond."""

    encoder: str
    total: int
    limit: int
    lost: str


@dataclass(frozen=True)
class Word:
    """One word: first token's slot, how many tokens, whether the first encoder reads it all, its reach (see module)."""

    text: str
    slot: int
    tokens: int
    kept: bool
    reach: float | None = None


@dataclass(frozen=True)
class Lint:
    """All that is known of a prompt without a picture."""

    prompt: str
    model: str
    encoders: tuple[EncoderReading, ...]
    words: tuple[Word, ...]
    unknown: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    order: float | None
    swapped: str | None
    reason: str | None = None

    @property
    def silent(self) -> tuple[str, ...]:
        """Words that say next to nothing to the encoder, of those that it reads."""
        return tuple(w.text for w in self.words if w.kept and w.reach is not None and w.reach < SILENT)


def lint(prompt: str, model: str = "miniature") -> Lint:
    """Read a prompt as `model` does. Raises PromptlabError for an empty or over-long one, ModelError for no model."""
    if not prompt.strip():
        raise PromptlabError("there is no prompt to read: give a sentence")
    if len(prompt) > LONGEST:
        raise PromptlabError(f"the prompt has {len(prompt):,} characters; up to {LONGEST:,} are read")
    folder = resolve(model)[0]
    phrases = tuple(
        Phrase(f"word{i}", match.group(), match.start(), match.end(), "phrase")
        for i, match in enumerate(re.finditer(r"\S+", prompt))
    )
    spoken = claim(prompt, read_claims(prompt))
    encoders, words = [], []
    for k, reader in enumerate(capability(folder).readers):
        tokens, limit = open_reader(folder, reader)
        spans = tokens.spans(spoken, limit, phrases)
        encoders.append(
            EncoderReading(reader.name, spans.total - reader.dropped, limit - reader.dropped, spans.cut_text)
        )
        if k == 0:
            own = {one.name: one for one in spans.phrases}
            for phrase in phrases:
                one = own[phrase.name]
                words.append(Word(phrase.text.strip(",.;:"), one.first, one.stop - one.first, one.cut == 0))
    order, reason, twin = None, None, spoken.swapped
    embed = _embedder(folder)
    if embed is None:
        reason = "the first text encoder is no CLIP, so its words cannot be weighed here"
    else:
        whole, *left = embed([prompt, *(_without(prompt, phrase) for phrase in phrases)])
        words = [
            Word(w.text, w.slot, w.tokens, w.kept, max(0.0, 1 - float(whole @ state)))
            for w, state in zip(words, left, strict=True)
        ]
        other = _reordered(spoken.phrases, prompt)
        if twin and other:
            changed, moved = embed([twin, other])
            still = 1 - float(whole @ moved)
            order = (1 - float(whole @ changed)) / still if still > 1e-9 else None
    unknown = check_words(prompt) if model in MINIATURES else ()
    pairs = tuple((b.attribute, b.noun) for b in spoken.bindings if b.attribute)
    return Lint(prompt, model, tuple(encoders), tuple(words), unknown, pairs, order, twin, reason)


def _without(prompt: str, phrase: Phrase) -> str:
    return " ".join((prompt[: phrase.start] + prompt[phrase.end :]).split()) or " "


def _reordered(phrases: tuple[Phrase, ...], prompt: str) -> str | None:
    """The prompt with its two objects named in the other order; None unless there are just two."""
    things = [phrase for phrase in phrases if phrase.role == "object"]
    if len(things) != 2:
        return None
    a, b = sorted(things, key=lambda phrase: phrase.start)
    return prompt[: a.start] + b.text + prompt[a.end : b.start] + a.text + prompt[b.end :]


def _embedder(folder: Path) -> Callable[[list[str]], Floats] | None:
    """Texts to pooled states of unit length, (n, d), by the pipeline's own first encoder; None if it is no CLIP."""
    config = folder / "text_encoder" / "config.json"
    if not any(name.startswith("CLIPText") for name in read_json(config).get("architectures") or ()):
        return None
    return _opened(folder, config.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _opened(folder: Path, _changed: int) -> Callable[[list[str]], Floats]:
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    options = {"use_safetensors": True, "local_files_only": True, "variant": variant_of(folder)}
    with quiet():
        model = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, **options)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    limit = model.config.max_position_embeddings

    def embed(texts: list[str]) -> Floats:
        states = []
        for start in range(0, len(texts), ROWS):
            some = texts[start : start + ROWS]
            ids = tokenizer(some, padding=True, truncation=True, max_length=limit, return_tensors="pt").input_ids
            with torch.inference_mode():
                states.append(torch.nn.functional.normalize(model(ids).pooler_output.double(), dim=-1).numpy())
        return np.concatenate(states)

    return embed


def verdicts(store: Store) -> dict[str, str]:
    """Claims settled in this home, by id; empty where none was, or where nothing was run."""
    from promptlab.errors import StoreError

    try:
        rows = store.query("SELECT contrast, verdict FROM effect WHERE study = 'claims' AND verdict IS NOT NULL")
    except StoreError:
        return {}
    return dict(zip(rows["contrast"], rows["verdict"], strict=True))


def advice(read: Lint, settled: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(claim, advice) for what a claim supports of this prompt, in order of weight; nothing where none was settled."""
    said: list[tuple[str, str]] = []
    lost = [one for one in read.encoders if one.lost]
    if lost and settled.get("C7") == "supported":
        every = len(lost) == len(read.encoders)
        whose = "no encoder reads" if every else f"{', '.join(one.encoder for one in lost)} does not read"
        said.append(("C7", f"shorten it, or name earlier what matters: {whose} {lost[0].lost!r}"))
    if len(read.pairs) > 1 and settled.get("C9") == "supported":
        said.append(("C9", "two coloured objects exchange or lose their colours: make several and choose, or name one"))
    if len(read.pairs) > 1 and settled.get("C8") == "supported":
        said.append(("C8", f"name first what matters most: now it is {' '.join(read.pairs[0])}"))
    if len(read.pairs) > 0 and settled.get("C10") == "supported":
        said.append(("C10", "rare combinations fail more often: expect to make more pictures of an unusual colour"))
    return tuple(said)
