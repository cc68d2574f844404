"""Laws of the miniature's tokenizer: CLIP's own on all that the grammar says, and the same ids in every library."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from places import SHARED
from promptlab.miniature.captions import LEXICON, describe
from promptlab.miniature.tokenizer import (
    CONTEXT_LENGTH,
    END,
    PREFIX,
    START,
    VOCAB_SIZE,
    common_words,
    differences,
    merges,
    vocabulary,
    write_tokenizer,
)
from promptlab.miniature.world import sample_scene

SAMPLES = (
    "a Red cup, to the left of an orange chair!",
    "it's 42 naïve  cafés\n(dragon:1.2) & 日本 🦄",
    "",
    "an astronaut riding a horse, trending on artstation",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "made here"
    write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def fast(folder: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def clip() -> Any:
    return import_module("open_clip.tokenizer").SimpleTokenizer()


def pieces(clip: Any, text: str) -> list[str]:
    return [clip.decoder[i] for i in clip.encode(text)]


def said(count: int) -> list[str]:
    rng = np.random.default_rng(5)
    return [describe(sample_scene(rng), rng).text for _ in range(count)]


def test_vocabulary_is_closed_and_ends_with_the_marks() -> None:
    ids = vocabulary()
    assert list(ids.values()) == list(range(VOCAB_SIZE))
    assert (ids[START], ids[END]) == (VOCAB_SIZE - 2, VOCAB_SIZE - 1)
    known = set(list(ids)[:512])
    for first, second in merges():
        assert {first, second} <= known
        known.add(first + second)


def test_merges_are_clips_own_in_clips_order(clip: Any) -> None:
    ranks = [clip.bpe_ranks[merge] for merge in merges()]
    assert ranks == sorted(ranks)
    assert ranks[:PREFIX] == list(range(PREFIX))


def test_lexicon_and_captions_tokenise_as_in_clip(fast: Any, clip: Any) -> None:
    assert differences(LEXICON) == {}
    for text in (*sorted(LEXICON), *said(1000)):
        assert fast.encode(text, add_special_tokens=False).tokens == pieces(clip, text)


def test_bytes_keep_clips_ids(fast: Any, clip: Any) -> None:
    assert list(vocabulary())[:512] == [clip.decoder[i] for i in range(512)]


def test_differences_are_the_true_ones(fast: Any, clip: Any) -> None:
    words = [*common_words()[:6000:7], "unicorn", "dragon", "naïve"]
    named = differences(words)
    assert named
    for word in words:
        ours, theirs = fast.encode(word, add_special_tokens=False).tokens, pieces(clip, word)
        assert named.get(word, (ours, ours)) == (theirs, ours)


def test_common_words_differ_little() -> None:
    """The 2,000 commonest whole words of CLIP tokenise as in CLIP; of the 3,000 commonest nine in a hundred do not."""
    assert not differences(common_words()[:2000])
    assert len(differences(common_words()[:3000])) == 267


def test_later_merges_harm_no_word() -> None:
    """A word that the prefix alone tokenises as CLIP does still does, with the later merges kept beside it."""
    from promptlab.miniature import tokenizer

    ranks = {merge: rank for rank, merge in enumerate(merges()[:PREFIX])}
    differ = differences(common_words()[:8000])
    for word in common_words()[:8000:3]:
        _, applied = tokenizer._split(word, tokenizer._clip_ranks())
        assert not set(applied) <= set(ranks) or word not in differ


def test_benchmark_words() -> None:
    """How the words of T2I-CompBench fare: most are rare words that the miniature never saw."""
    folder = SHARED / "benchmarks" / "t2i_compbench"
    if not folder.is_dir():
        pytest.skip("the prompts of T2I-CompBench are not on this machine")
    words = {w for p in folder.glob("*.txt") for w in re.findall(r"[a-z]+", p.read_text(encoding="utf-8").lower())}
    differ = differences(words)
    assert len(differ) / len(words) < 0.65
    assert all("".join(ours) == "".join(theirs) for theirs, ours in differ.values())
    assert all(len(ours) > len(theirs) for theirs, ours in differ.values())


def test_decoding_gives_the_text_back(fast: Any) -> None:
    for text in said(200):
        assert re.sub(r" ([,.])", r"\1", fast.decode(fast.encode(text).ids)) == text
    assert fast.decode(fast.encode("naïve 日本").ids) == "naïve 日本"


def test_transformers_loads_it(folder: Path, fast: Any) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    assert (tokenizer.model_max_length, len(tokenizer)) == (CONTEXT_LENGTH, VOCAB_SIZE)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == VOCAB_SIZE - 1
    assert tokenizer.bos_token_id == VOCAB_SIZE - 2
    for text in (*SAMPLES, *said(50)):
        assert tokenizer(text).input_ids == fast.encode(text).ids
    padded = tokenizer("a red cup", padding="max_length", truncation=True).input_ids
    assert len(padded) == CONTEXT_LENGTH and set(padded[4:]) == {VOCAB_SIZE - 1}
    cut = tokenizer("a red cup, " * 40, padding="max_length", truncation=True).input_ids
    assert len(cut) == CONTEXT_LENGTH and cut[-1] == VOCAB_SIZE - 1
    assert tokenizer.decode(tokenizer("a red cup").input_ids, skip_special_tokens=True) == "a red cup"


def test_files_are_small_and_written_alike(folder: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    files = sorted(p.name for p in folder.iterdir())
    assert files == ["merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    assert sum(p.stat().st_size for p in folder.iterdir()) < 400_000
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in files)


@pytest.mark.parametrize("pool", [{"pool_type": "eos", "eos_id": VOCAB_SIZE - 1}, {"pool_type": "argmax"}])
def test_open_clip_loads_it_and_pools_at_the_first_end(
    tmp_path: Path, fast: Any, pool: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    open_clip = import_module("open_clip")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_tokenizer(tmp_path)
    config = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": VOCAB_SIZE,
                "hf_tokenizer_name": "miniature",
                "width": 32,
                "heads": 2,
                "layers": 2,
                "pad_id": VOCAB_SIZE - 1,
                **pool,
            },
        },
        "preprocess_cfg": {},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    texts = ["a Red cup, to the left of an orange chair!", "a dog", *said(20)]
    ids = tokenizer(texts)
    assert ids.shape == (len(texts), CONTEXT_LENGTH)
    for text, row in zip(texts, ids.tolist(), strict=True):
        whole = fast.encode(text).ids
        kept = whole if len(whole) <= CONTEXT_LENGTH else [*whole[: CONTEXT_LENGTH - 1], VOCAB_SIZE - 1]
        assert row == kept + [VOCAB_SIZE - 1] * (CONTEXT_LENGTH - len(kept))
    model.eval()
    other = ids.clone()
    for row in other:
        first = int((row == VOCAB_SIZE - 1).int().argmax())
        row[first + 1 :] = torch.randint(0, VOCAB_SIZE - 2, (CONTEXT_LENGTH - first - 1,))
    with torch.inference_mode():
        a, b = model.encode_text(ids), model.encode_text(other)
        other[:, 1] = 5
        c = model.encode_text(other)
    torch.testing.assert_close(a, b)
    assert not torch.allclose(a, c)
