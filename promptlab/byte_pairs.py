"""Byte-level BPE tokenizers from the older pair of files, `vocab.json` and `merges.txt`.

The pair does not say how text is split before merges apply; the tokenizer's class does. CLIP lower-cases and marks the
end of a word, Qwen does neither.

References:
    Sennrich et al. 2016, Neural Machine Translation of Rare Words with Subword Units (BPE).
    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision (CLIP).
    Bai et al. 2023, Qwen Technical Report (arXiv 2309.16609), section 2.2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["clip_tokenizer", "pair_tokenizer", "qwen_tokenizer"]

_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pair_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder with the pair: Qwen's if its configuration says so, else CLIP's."""
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    config = folder / "tokenizer_config.json"
    said = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if not str(said.get("tokenizer_class", "")).startswith("Qwen2"):
        return clip_tokenizer(vocab, merges)
    added = {entry["content"]: int(i) for i, entry in said.get("added_tokens_decoder", {}).items()}
    if not added and (folder / "added_tokens.json").is_file():
        added = json.loads((folder / "added_tokens.json").read_text(encoding="utf-8"))
    return qwen_tokenizer(vocab, merges, sorted(added, key=lambda mark: added[mark]))


def clip_tokenizer(vocab: dict[str, int], merges: list[str]) -> Tokenizer:
    """CLIP's lower-cased byte-pair encoding from its vocabulary and merges ("l o", best first)."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    begin, end = "<|startoftext|>", "<|endoftext|>"
    pairs: list[Any] = [tuple(line.split(" ")) for line in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs, end_of_word_suffix="</w>", unk_token=end))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocab[end]), (begin, vocab[begin]), add_prefix_space=False, trim_offsets=False
    )
    return tokenizer


def qwen_tokenizer(vocab: dict[str, int], merges: list[str], marks: list[str]) -> Tokenizer:
    """Qwen2's byte-pair encoding; `marks` are the tokens added to it, in the order of their ids."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    pairs: list[Any] = [tuple(line.split(" ")) for line in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    return tokenizer
