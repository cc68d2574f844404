"""Tokenizers of every kind that pipelines use, trained on a handful of words and written as real ones are."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

WORDS = (
    "a photo of red blue green white black pink yellow orange purple brown cup chair ball car house tree dog fish hat "
    "box star book lamp bottle and dark blurry image very old small large next to left right made with great care"
)
QWEN_SYSTEM = (
    "system Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of "
    "the objects and background: user assistant"
)
"""The instruction that Qwen-Image's pipeline puts before every prompt. Its words are single tokens, as in Qwen."""

QWEN_CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
MISTRAL_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '[SYSTEM_PROMPT]' + message['content'][0]['text'] + '[/SYSTEM_PROMPT]' }}"
    "{% else %}{{ '[INST]' + message['content'][0]['text'] + '[/INST]' }}{% endif %}{% endfor %}"
)
QWEN_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
MISTRAL_MARKS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]")
MISTRAL_MARKS += ("[IMG_BREAK]", "[IMG_END]", "<pad>")


@cache
def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE to which the words above are single tokens, with a space or without."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    words = f"{WORDS} {QWEN_SYSTEM}"
    tokenizer.train_from_iterator([words, *words.split(), f" {WORDS}"] * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def write_clip(folder: Path) -> int:
    """The miniature's tokenizer, which is CLIP's; the size of its vocabulary."""
    from promptlab.miniature.tokenizer import VOCAB_SIZE, write_tokenizer

    write_tokenizer(folder)
    return VOCAB_SIZE


def write_t5(folder: Path) -> int:
    """A unigram model of words and letters, as `tokenizer.json`."""
    from transformers import T5TokenizerFast

    words = [(f"▁{word}", -2.0) for word in dict.fromkeys(WORDS.split()) if len(word) > 1]
    letters = [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789,.'-"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0), *words, *letters]
    T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=512).save_pretrained(folder)
    return len(vocabulary)


def write_qwen(folder: Path, pair: bool = False) -> int:
    """Qwen's byte-level BPE; with `pair`, as `vocab.json` and `merges.txt` in place of `tokenizer.json`."""
    vocabulary, merges = byte_pairs()
    marks = {mark: len(vocabulary) + i for i, mark in enumerate(QWEN_MARKS)}
    if not pair:
        from transformers import Qwen2TokenizerFast

        tokenizer = Qwen2TokenizerFast(vocab=dict(vocabulary), merges=list(merges))
        tokenizer.add_tokens(list(QWEN_MARKS), special_tokens=True)
        tokenizer.chat_template = QWEN_CHAT
        tokenizer.save_pretrained(folder)
        return len(vocabulary) + len(marks)
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    config: dict[str, Any] = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {str(i): {"content": mark, **plain} for mark, i in marks.items()},
        "additional_special_tokens": list(QWEN_MARKS[1:3]),
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "model_max_length": 131072,
        "chat_template": QWEN_CHAT,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in merges) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(vocabulary) + len(marks)


def mistral_processor() -> tuple[Any, int]:
    """The processor that FLUX.2-dev calls its tokenizer, and the size of its vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PixtralImageProcessor, PixtralProcessor, PreTrainedTokenizerFast

    vocabulary, merges = byte_pairs()
    marks = {mark: i for i, mark in enumerate(MISTRAL_MARKS)}
    whole = {**marks, **{piece: i + len(marks) for piece, i in vocabulary.items()}}
    inner = Tokenizer(models.BPE(vocab=whole, merges=list(merges)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MISTRAL_MARKS])
    inner.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0", pair="<s>:0 $A:0 $B:1", special_tokens=[("<s>", marks["<s>"])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    processor = PixtralProcessor(PixtralImageProcessor(), tokenizer, chat_template=MISTRAL_CHAT)
    return processor, len(whole)
