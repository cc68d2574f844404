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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.checkpoints.files import MINIATURES, resolve
from promptlab.errors import PromptlabError
from promptlab.generator.models.capabilities import capability, open_reader
from promptlab.miniature.lexicon import check_words
from promptlab.records import Phrase
from promptlab.results.clip_states import pooled_states
from promptlab.study.prompt_lists import claim, read_claims
from promptlab.study.tokens import open_tokens

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["EncoderReading", "Lint", "Word", "advice", "lint", "verdicts"]

SILENT = 0.002
"""Words that move the pooled state less than this say next to nothing to the encoder."""
LONGEST = 4000


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


def _embedder(folder: Path) -> Any:
    """Texts to pooled states of unit length, (n, d), by the pipeline's own first encoder; None if it is no CLIP."""
    import json

    config = json.loads((folder / "text_encoder" / "config.json").read_text("utf-8"))
    if not any(name.startswith("CLIPText") for name in config.get("architectures") or ()):
        return None
    quick = pooled_states(folder / "text_encoder")
    if quick is not None:
        tokens, most = open_tokens(folder / "tokenizer"), int(config.get("max_position_embeddings", 77))
        return lambda texts: np.stack([_unit(quick(tokens.ids(text, most))) for text in texts])
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    model = CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True, local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    limit = model.config.max_position_embeddings

    def embed(texts: list[str]) -> np.ndarray:
        ids = tokenizer(texts, padding="max_length", truncation=True, max_length=limit, return_tensors="pt").input_ids
        with torch.no_grad():
            states = model.float()(ids).pooler_output
        return torch.nn.functional.normalize(states, dim=-1).double().numpy()

    return embed


def _unit(state: np.ndarray) -> np.ndarray:
    unit: np.ndarray = state.astype(np.float64) / np.linalg.norm(state.astype(np.float64))
    return unit


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
