"""Prompts as the text encoder counts them, by the `tokenizers` library alone.

A text encoder reads `limit` tokens (77 for CLIP), the marks of beginning and end among them. Longer prompts are cut:
the first `limit - 1` tokens stay and the end mark takes the last place. Token indices count from 0, which in CLIP is
the beginning mark, so the first word has index 1.

`Tokens` reads a `tokenizer.json`, or CLIP's older pair `vocab.json` and `merges.txt`; `tokenizers` is imported when
one is opened, since studies that do not count tokens need none.

References:
    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.errors import ModelError
from promptlab.records import Phrase, Prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["FILLER", "PhraseTokens", "TokenSpans", "Tokens", "filler_words", "open_tokens", "token_spans"]

FILLER = (
    "made with great care, part of a long series, as good as it can be, done in one afternoon, lovely, "
    "one of the best of this year, very good, the result of many hours of work, worth a second look, just for fun, nice"
)
"""Phrases that draw nothing, in the caption grammar of the miniature as in CLIP's single tokens."""


@dataclass(frozen=True)
class PhraseTokens:
    """Tokens `first` to `stop - 1` of the prompt; the encoder sees `kept` of them, `cut` are lost."""

    name: str
    first: int
    stop: int
    kept: int
    cut: int


@dataclass(frozen=True)
class TokenSpans:
    """A prompt in tokens: `total` with the marks of beginning and end, `cut` of them beyond the limit."""

    total: int
    limit: int
    cut: int
    cut_text: str
    phrases: tuple[PhraseTokens, ...]


class Tokens:
    """A tokenizer without truncation and padding."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._lengths: dict[str, int] = {}
        marks = tokenizer.encode("").special_tokens_mask
        self.marks = len(marks)
        probe = tokenizer.encode("a").special_tokens_mask
        self.start = probe.index(0) if 0 in probe else 0

    def length(self, text: str) -> int:
        """Number of tokens of a text alone, without the marks."""
        if text not in self._lengths:
            self._lengths[text] = len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return self._lengths[text]

    def spans(self, prompt: Prompt, limit: int = 77, extra: Iterable[Phrase] = ()) -> TokenSpans:
        """Where every phrase of a prompt (and those in `extra`) lies in tokens, and what of it is cut."""
        encoding = self._tokenizer.encode(prompt.text)
        end_marks = self.marks - self.start
        words = range(self.start, len(encoding.ids) - end_marks)
        total = len(encoding.ids)
        last = total if total <= limit else limit - end_marks
        offsets = encoding.offsets
        found = []
        for phrase in (*prompt.phrases, *extra):
            inside = [i for i in words if offsets[i][0] < phrase.end and offsets[i][1] > phrase.start]
            first, stop = (inside[0], inside[-1] + 1) if inside else (0, 0)
            kept = max(0, min(stop, last) - first)
            found.append(PhraseTokens(phrase.name, first, stop, kept, stop - first - kept))
        lost = prompt.text[offsets[last][0] :].strip(" ,;") if total > limit and last in words else ""
        return TokenSpans(total, limit, max(0, total - limit), lost, tuple(found))

    def filler(self, count: int, phrases: str = FILLER) -> str | None:
        """Neutral text of exactly `count` tokens, or None where these phrases cannot make it."""
        return _compose(count, [(p, self.length(p)) for p in _split(phrases)], comma=self.length(","))


def filler_words(count: int, phrases: str = FILLER) -> str | None:
    """Neutral text of exactly `count` words, or None where these phrases cannot make it."""
    return _compose(count, [(p, len(p.split())) for p in _split(phrases)], comma=0)


def _split(phrases: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in phrases.split(",") if phrase.strip()]


def _compose(count: int, pool: list[tuple[str, int]], comma: int) -> str | None:
    """Phrases in turn, each that ends the text exactly or leaves room for a comma and another."""
    chosen: list[str] = []
    left, turn = count, 0
    while left > 0:
        order = [*pool[turn % len(pool) :], *pool[: turn % len(pool)]] if pool else []
        fitting = [(i, p, n) for i, (p, n) in enumerate(order) if n == left or 0 < n < left - comma]
        if not fitting:
            return None
        step, phrase, length = next((choice for choice in fitting if choice[1] not in chosen[-1:]), fitting[0])
        chosen.append(phrase)
        turn += step + 1
        left -= length + (comma if length < left else 0)
    return ", ".join(chosen)


def token_spans(prompt: Prompt, tokenizer: str | Path | Tokens, limit: int = 77) -> TokenSpans:
    """Tokens per phrase, kept and cut, by the model's own tokenizer (a file, or the folder that holds it)."""
    return (tokenizer if isinstance(tokenizer, Tokens) else open_tokens(tokenizer)).spans(prompt, limit)


def open_tokens(path: str | Path) -> Tokens:
    """Open a `tokenizer.json`, or a folder with one or with `vocab.json` and `merges.txt`. Raises ModelError."""
    return _open(Path(path).resolve())


@lru_cache(maxsize=8)
def _open(path: Path) -> Tokens:
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        if file.is_file():
            return Tokens(Tokenizer.from_file(str(file)))
        if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
            vocab = json.loads((path / "vocab.json").read_text(encoding="utf-8"))
            lines = (path / "merges.txt").read_text(encoding="utf-8").splitlines()
            return Tokens(clip_tokenizer(vocab, [line for line in lines if line and not line.startswith("#version")]))
    except Exception as error:  # tokenizers raises bare Exception for a file it cannot read
        raise ModelError(f"tokenizer {path} cannot be read: {error}") from None
    raise ModelError(f"no tokenizer in {path}: allowed: tokenizer.json, or vocab.json beside merges.txt")


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
