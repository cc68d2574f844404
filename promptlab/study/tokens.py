"""Prompts as the text encoder counts them, by the `tokenizers` library alone.

A text encoder reads `limit` tokens (77 for CLIP), the marks of beginning and end among them. Longer prompts are cut:
the first `limit - 1` tokens stay and the end mark takes the last place. Token indices count from 0, which in CLIP is
the beginning mark, so the first word has index 1. Language models read the prompt inside a frame (a chat template, an
instruction), whose tokens count towards the limit and whose end is the first to be cut.

`Tokens` reads a `tokenizer.json`, or the older pair `vocab.json` and `merges.txt`. The pair does not say how text is
split before merges apply; the tokenizer's class does: CLIP lower-cases and marks the end of a word, Qwen does neither.
`tokenizers` is imported when a tokenizer is opened, since studies that do not count tokens need none.

References:
    Sennrich et al. 2016, Neural Machine Translation of Rare Words with Subword Units (byte-pair encoding).
    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020).
    Bai et al. 2023, Qwen Technical Report (arXiv 2309.16609), section 2.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.errors import ModelError
from promptlab.records import Phrase, Prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "FILLER",
    "PhraseTokens",
    "TokenSpans",
    "Tokens",
    "clip_tokenizer",
    "filler_words",
    "open_tokens",
    "pair_tokenizer",
    "qwen_tokenizer",
    "token_spans",
]

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
    """A prompt in tokens: `total` with marks and frame, `cut` of the prompt's own beyond the limit."""

    total: int
    limit: int
    cut: int
    cut_text: str
    phrases: tuple[PhraseTokens, ...]


class Tokens:
    """A tokenizer without truncation and padding. `before` and `after` frame every prompt: a chat, an instruction."""

    def __init__(self, tokenizer: Tokenizer, before: str = "", after: str = "") -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._lengths: dict[str, int] = {}
        self._frame = (before, after)
        empty = tokenizer.encode("")
        # A template that writes the mark of the beginning itself gets no second one.
        self._marked = not (empty.tokens and before.startswith(empty.tokens[0]))
        marks = empty.special_tokens_mask if self._marked else []
        self.marks = len(marks)
        probe = tokenizer.encode("a").special_tokens_mask if self._marked else []
        self.start = probe.index(0) if 0 in probe else 0

    def length(self, text: str) -> int:
        """Number of tokens of a text alone, without the marks."""
        if text not in self._lengths:
            self._lengths[text] = len(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return self._lengths[text]

    def spans(self, prompt: Prompt, limit: int = 77, extra: Iterable[Phrase] = ()) -> TokenSpans:
        """Where every phrase of a prompt (and those in `extra`) lies in tokens, and what of it is cut."""
        before, after = self._frame
        encoding = self._tokenizer.encode(before + prompt.text + after, add_special_tokens=self._marked)
        end_marks = self.marks - self.start
        total = len(encoding.ids)
        last = total if total <= limit else limit - end_marks
        begin, end = len(before), len(before) + len(prompt.text)
        offsets = [(first - begin, stop - begin) for first, stop in encoding.offsets]
        words: Sequence[int] = range(self.start, total - end_marks)
        if before or after:
            words = [i for i in words if offsets[i][1] > 0 and offsets[i][0] < end - begin]
        found = []
        for phrase in (*prompt.phrases, *extra):
            inside = [i for i in words if offsets[i][0] < phrase.end and offsets[i][1] > phrase.start]
            first, stop = (inside[0], inside[-1] + 1) if inside else (0, 0)
            kept = max(0, min(stop, last) - first)
            found.append(PhraseTokens(phrase.name, first, stop, kept, stop - first - kept))
        beyond = [i for i in words if i >= last]
        lost = prompt.text[max(0, offsets[beyond[0]][0]) :].strip(" ,;") if beyond else ""
        return TokenSpans(total, limit, len(beyond), lost, tuple(found))

    def framed_length(self, text: str) -> int:
        """Number of tokens of a text with its frame and marks: what an encoder would be given of it without a limit."""
        before, after = self._frame
        return len(self._tokenizer.encode(before + text + after, add_special_tokens=self._marked).ids)

    def ids(self, text: str, limit: int = 77) -> list[int]:
        """Ids of a text with frame and marks, at most `limit`: cut before the mark of the end, as an encoder does."""
        before, after = self._frame
        ids: list[int] = self._tokenizer.encode(before + text + after, add_special_tokens=self._marked).ids
        end = self.marks - self.start
        return ids if len(ids) <= limit else [*ids[: limit - end], *ids[len(ids) - end :]]

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


def open_tokens(path: str | Path, before: str = "", after: str = "") -> Tokens:
    """Open a `tokenizer.json`, or a folder with one or with `vocab.json` and `merges.txt`. Raises ModelError.

    `before` and `after` are what stands around every prompt (`promptlab.generator.models.capabilities`).
    """
    return _open(Path(path).resolve(), (before, after))


@lru_cache(maxsize=16)
def _open(path: Path, frame: tuple[str, str]) -> Tokens:
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        if file.is_file():
            return Tokens(Tokenizer.from_file(str(file)), *frame)
        if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
            return Tokens(pair_tokenizer(path), *frame)
    except Exception as error:  # tokenizers raises bare Exception for a file it cannot read
        raise ModelError(f"tokenizer {path} cannot be read: {error}") from None
    raise ModelError(f"no tokenizer in {path}: allowed: tokenizer.json, or vocab.json beside merges.txt")


_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pair_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder with the pair: Qwen's if its configuration says so, else CLIP's."""
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if not str(settings.get("tokenizer_class", "")).startswith("Qwen2"):
        return clip_tokenizer(vocab, merges)
    added = {entry["content"]: int(i) for i, entry in settings.get("added_tokens_decoder", {}).items()}
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
