"""What a model's text encoders make of one prompt, before any image: tokens, what is cut, what they can tell apart.

    reach(word)      1 - cos(e(prompt), e(prompt without the word)): how far the pooled text state moves; 0 says nothing
    order(pair)      d(swapped) / d(reordered), d = 1 - cos of the pooled states. Swapped: the colours of two objects
                     exchanged, another meaning. Reordered: the objects named in the other order, the same meaning.
                     Below 1 the encoder sees less of a change in "a blue cup and a red chair" than in "a blue chair and
                     a red cup": it can hardly tell them apart.

Facts come from the encoder. Advice comes only from claims that were settled in this home, and names the claim.
`pooled_states` is CLIP's text encoder in numpy (Radford et al. 2021, arXiv 2103.00020); names of weights and settings
are those of transformers' CLIPTextModel.

Text geometry of this kind: Yuksekgonul et al. 2023, When and why vision-language models behave like bags-of-words
(arXiv 2210.01936). The measures are ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from promptlab.checkpoints.files import MINIATURES, resolve
from promptlab.errors import PromptlabError
from promptlab.generator.models.capabilities import capability, open_reader
from promptlab.miniature.captions import check_words
from promptlab.records import Phrase
from promptlab.study.prompt_lists import claim, read_claims
from promptlab.study.tokens import open_tokens

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["EncoderReading", "Lint", "Word", "advice", "lint", "pooled_states", "verdicts"]

Array = NDArray[np.float32]
DEFAULTS = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407, "num_attention_heads": 12}
ACTS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: (x * special.ndtr(x)).astype(np.float32),
    "quick_gelu": lambda x: (x * special.expit(1.702 * x)).astype(np.float32),
}

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
    """All that is known of a prompt without an image."""

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
    claimed = claim(prompt, read_claims(prompt))
    encoders, words = [], []
    for k, reader in enumerate(capability(folder).readers):
        tokens, limit = open_reader(folder, reader)
        spans = tokens.spans(claimed, limit, phrases)
        encoders.append(
            EncoderReading(reader.name, spans.total - reader.dropped, limit - reader.dropped, spans.cut_text)
        )
        if k == 0:
            by_name = {one.name: one for one in spans.phrases}
            for phrase in phrases:
                one = by_name[phrase.name]
                words.append(Word(phrase.text.strip(",.;:"), one.first, one.stop - one.first, one.cut == 0))
    order, reason, twin = None, None, claimed.swapped
    embed = _embedder(folder)
    if embed is None:
        reason = "the first text encoder is no CLIP, so its words cannot be weighed here"
    else:
        whole, *left = embed([prompt, *(_without(prompt, phrase) for phrase in phrases)])
        words = [
            Word(w.text, w.slot, w.tokens, w.kept, max(0.0, 1 - float(whole @ state)))
            for w, state in zip(words, left, strict=True)
        ]
        other = _reordered(claimed.phrases, prompt)
        if twin and other:
            changed, moved = embed([twin, other])
            still = 1 - float(whole @ moved)
            order = (1 - float(whole @ changed)) / still if still > 1e-9 else None
    unknown = check_words(prompt) if model in MINIATURES else ()
    pairs = tuple((b.attribute, b.noun) for b in claimed.bindings if b.attribute)
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


def pooled_states(folder: Path) -> Callable[[list[int]], Array] | None:
    """From token ids with their marks to the pooled state before any projection, (width,), by CLIP's text encoder.

    `folder` holds a CLIPTextModel, computed in numpy. No padding enters, since no token looks ahead. The result is None
    where the model is of another make, in several files, or in numbers that numpy has no name for.

    This is not transformers for the sake of the dashboard's server: torch and CLIPTextModel would add 783 MB of memory
    to it, and the first prompt would take 6.4 s. The states equal those of transformers to 4e-7.
    """
    file = folder / "model.safetensors"
    if not file.is_file():
        return None
    return _opened_model(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _opened_model(file: Path, _: int) -> Callable[[list[int]], Array] | None:
    from safetensors import SafetensorError, safe_open

    config: dict[str, Any] = {**DEFAULTS, **json.loads(file.with_name("config.json").read_text("utf-8"))}
    act, heads, eps = (
        ACTS.get(config["hidden_act"]),
        int(config["num_attention_heads"]),
        float(config["layer_norm_eps"]),
    )
    try:
        with safe_open(str(file), "np") as tensors:
            w = {name.removeprefix("text_model."): tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError):
        return None
    if act is None or "embeddings.token_embedding.weight" not in w:
        return None
    w = {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in w.items()}
    layers = len({name.split(".")[2] for name in w if name.startswith("encoder.layers.")})

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(eps))
        normed: Array = centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]
        return normed

    def linear(x: Array, name: str) -> Array:
        out: Array = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        return out

    def attend(x: Array, name: str) -> Array:
        n, width = x.shape
        q, k, v = (linear(x, f"{name}.{part}_proj").reshape(n, heads, -1).swapaxes(0, 1) for part in "qkv")
        weights = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(width // heads))
        weights = np.where(np.tri(n, dtype=bool), weights, -np.inf)
        weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
        mixed = (weights / weights.sum(axis=-1, keepdims=True)) @ v
        return linear(mixed.swapaxes(0, 1).reshape(n, width), f"{name}.out_proj")

    def state(ids: list[int]) -> Array:
        x = w["embeddings.token_embedding.weight"][ids] + w["embeddings.position_embedding.weight"][: len(ids)]
        for i in range(layers):
            one = f"encoder.layers.{i}"
            x = x + attend(norm(x, f"{one}.layer_norm1"), f"{one}.self_attn")
            x = x + linear(act(linear(norm(x, f"{one}.layer_norm2"), f"{one}.mlp.fc1")), f"{one}.mlp.fc2")
        # files older than transformers 4.30 name 2 as the end mark, and mean the largest id
        last = int(np.argmax(ids)) if config["eos_token_id"] == 2 else ids.index(config["eos_token_id"])
        pooled: Array = norm(x[last], "final_layer_norm")
        return pooled

    return state


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
    found: list[tuple[str, str]] = []
    lost = [one for one in read.encoders if one.lost]
    if lost and settled.get("C7") == "supported":
        every = len(lost) == len(read.encoders)
        whose = "no encoder reads" if every else f"{', '.join(one.encoder for one in lost)} does not read"
        found.append(("C7", f"shorten it, or name earlier what matters: {whose} {lost[0].lost!r}"))
    if len(read.pairs) > 1 and settled.get("C9") == "supported":
        found.append(
            ("C9", "two coloured objects exchange or lose their colours: make several and choose, or name one")
        )
    if len(read.pairs) > 1 and settled.get("C8") == "supported":
        found.append(("C8", f"name first what matters most: now it is {' '.join(read.pairs[0])}"))
    if len(read.pairs) > 0 and settled.get("C10") == "supported":
        found.append(("C10", "rare combinations fail more often: expect to make more pictures of an unusual colour"))
    return tuple(found)
