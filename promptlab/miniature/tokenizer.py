"""The tokenizer of the miniature: CLIP's own byte-level BPE with fewer merges, so that the embeddings stay small.

It keeps the first `PREFIX` merges of CLIP, and of the later ones those that build the words of the caption grammar and
then the commonest words of CLIP's own vocabulary, all in CLIP's order. A word whose every merge is kept tokenises as in
CLIP: CLIP applies the earliest merge that fits, and dropping merges that it would not apply cannot change which that
is. Other words fall into smaller pieces; `differences` names them.

The full list of merges is the one that open_clip carries, so nothing is downloaded.

References:
    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision (CLIP).
    Sennrich et al. 2016, Neural Machine Translation of Rare Words with Subword Units (BPE).
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from promptlab.errors import ModelError
from promptlab.miniature.captions import LEXICON

__all__ = [
    "CONTEXT_LENGTH",
    "END",
    "PREFIX",
    "START",
    "VOCAB_SIZE",
    "common_words",
    "differences",
    "merges",
    "vocabulary",
    "write_tokenizer",
]

CONTEXT_LENGTH = 77
START = "<|startoftext|>"
END = "<|endoftext|>"
PREFIX = 2500
"""How many of CLIP's merges are kept from the front."""
VOCAB_SIZE = 4608
"""512 byte symbols, the merges, and the two marks, whose ids are the last two."""

_CLIP_MERGES = 49152 - 256 - 2
_WORD_END = "</w>"
_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@cache
def _clip_merges() -> tuple[tuple[str, str], ...]:
    """All merges of CLIP, earliest first."""
    # find_spec looks the package up without importing it, and torch with it.
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("open_clip is not installed, and the merges of CLIP come with it; install open_clip_torch")
    path = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : 1 + _CLIP_MERGES]
    pairs = (line.split() for line in lines)
    return tuple((first, second) for first, second in pairs)


def _ranks(kept: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {merge: rank for rank, merge in enumerate(kept)}


@cache
def _clip_ranks() -> dict[tuple[str, str], int]:
    return _ranks(_clip_merges())


@cache
def _kept_ranks() -> dict[tuple[str, str], int]:
    return _ranks(merges())


@cache
def _byte_symbols() -> dict[int, str]:
    """CLIP's printable letter for each byte, in the order of CLIP's ids."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def _split(word: str, ranks: dict[tuple[str, str], int]) -> tuple[list[str], list[tuple[str, str]]]:
    """The pieces of one word, and the merges that made them."""
    symbols = _byte_symbols()
    pieces = [symbols[b] for b in word.encode("utf-8")]
    pieces[-1] += _WORD_END
    applied = []
    while len(pieces) > 1:
        best = min(pairwise(pieces), key=lambda pair: ranks.get(pair, _CLIP_MERGES))
        if best not in ranks:
            break
        applied.append(best)
        merged, i = [], 0
        while i < len(pieces):
            if tuple(pieces[i : i + 2]) == best:
                merged.append("".join(best))
                i += 2
            else:
                merged.append(pieces[i])
                i += 1
        pieces = merged
    return pieces, applied


@cache
def common_words() -> tuple[str, ...]:
    """The whole words of CLIP's vocabulary in plain letters, commonest first (a merge's rank tells how common)."""
    tokens = ("".join(merge) for merge in _clip_merges())
    words = (token.removesuffix(_WORD_END) for token in tokens if token.endswith(_WORD_END))
    return tuple(dict.fromkeys(w for w in words if w.isascii() and w.isalpha()))


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """The merges kept, in CLIP's order: a prefix, the lexicon's, and those of common words while room is left."""
    ranks, room = _clip_ranks(), VOCAB_SIZE - 512 - 2
    kept = {*_clip_merges()[:PREFIX]}
    for word in sorted(LEXICON):
        kept.update(_split(word, ranks)[1])
    for word in common_words():
        needed = set(_split(word, ranks)[1]) - kept
        if len(kept) + len(needed) <= room:
            kept |= needed
        if len(kept) == room:
            break
    if len(kept) != room:
        raise AssertionError(f"{len(kept)} merges for {room} places: change VOCAB_SIZE or PREFIX")
    return tuple(sorted(kept, key=ranks.__getitem__))


@cache
def vocabulary() -> dict[str, int]:
    """Token to id: bytes, bytes that end a word, merges, start, end."""
    symbols = list(_byte_symbols().values())
    tokens = [*symbols, *(s + _WORD_END for s in symbols), *("".join(m) for m in merges()), START, END]
    return {token: i for i, token in enumerate(tokens)}


def differences(words: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Words (runs of letters) that tokenise otherwise than in CLIP, each with CLIP's pieces and ours."""
    found = {}
    for word in dict.fromkeys(w.lower() for w in words if w):
        clip, ours = _split(word, _clip_ranks())[0], _split(word, _kept_ranks())[0]
        if clip != ours:
            found[word] = (clip, ours)
    return found


def _tokenizer_json() -> dict[str, Any]:
    """What the `tokenizers` library reads: the same steps as in `transformers.CLIPTokenizer`."""
    ids = vocabulary()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[m], "content": m, **flags} for m in (START, END)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _PATTERN}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [END, ids[END]],
            "cls": [START, ids[START]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        # CLIPTokenizer turns the ends of words into blanks in Python; the tokenizers library alone needs to be told.
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                {"type": "Replace", "pattern": {"String": _WORD_END}, "content": " "},
                {"type": "Strip", "content": " ", "start": 0, "stop": 1},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": _WORD_END,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [" ".join(m) for m in merges()],
        },
    }


def write_tokenizer(folder: Path) -> None:
    """Write the files that transformers, tokenizers and open_clip (schema `local-dir:`) load the tokenizer from."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": CONTEXT_LENGTH,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
    }
    marks = {k: v for k, v in settings.items() if k.endswith("_token")}
    _write_json(folder / "tokenizer.json", _tokenizer_json())
    _write_json(folder / "vocab.json", vocabulary())
    _write_json(folder / "tokenizer_config.json", settings)
    _write_json(folder / "special_tokens_map.json", marks)
    lines = ["#version: 0.2", *(" ".join(m) for m in merges())]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
