"""A prompt read by the encoder: counts, what is cut, reach against a slow twin, and advice by verdict alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from promptlab.errors import PromptlabError
from promptlab.results.lint import advice, lint

CUP = "a photo of a red cup and a blue chair"


def test_the_miniature_reads_a_short_prompt_whole() -> None:
    read = lint(CUP)
    assert [(e.encoder, e.total, e.limit, e.lost) for e in read.encoders] == [("CLIP", 12, 77, "")]
    assert [w.text for w in read.words] == CUP.split() and all(w.kept for w in read.words)
    assert [w.slot for w in read.words] == list(range(1, 11))
    assert read.pairs == (("red", "cup"), ("blue", "chair")) and read.unknown == ()
    assert read.swapped == "a photo of a blue cup and a red chair"
    reach = {w.text: w.reach for w in read.words}
    assert min(reach["red"], reach["cup"], reach["blue"], reach["chair"]) > 10 * max(reach["photo"], reach["of"])


def test_reach_and_order_against_a_slow_twin() -> None:
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    from promptlab.resources import shipped_folder

    folder = shipped_folder() / "pipeline"
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")

    def state(text: str) -> torch.Tensor:
        with torch.no_grad():
            pooled = model(tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids)[1][0]
        return pooled / pooled.norm()

    read = lint(CUP)
    whole = state(CUP)
    without = state("a photo of a cup and a blue chair")
    assert read.words[4].reach == pytest.approx(1 - float(whole @ without), abs=1e-5)
    swapped, moved = state("a photo of a blue cup and a red chair"), state("a photo of a blue chair and a red cup")
    assert read.order == pytest.approx((1 - float(whole @ swapped)) / (1 - float(whole @ moved)), rel=1e-3)


def test_what_is_cut_and_what_was_never_learned() -> None:
    read = lint("a cup, " + "made with care, " * 30 + "and a zebra")
    assert read.encoders[0].total > 77 and read.encoders[0].lost.endswith("and a zebra")
    assert not read.words[-1].kept and read.words[0].kept
    assert read.unknown == ("zebra",) and "zebra" not in read.silent
    assert read.words[-1].reach == pytest.approx(0, abs=1e-6)  # beyond the limit nothing is heard


def test_every_encoder_of_a_model_counts(family_folder: Callable[[str], Path]) -> None:
    read = lint("a cup, " + "made with care, " * 30 + "and a dog", str(family_folder("flux-dev")))
    assert [bool(e.lost) for e in read.encoders] == [True, False] and read.encoders[1].limit == 512
    other = lint(CUP, str(family_folder("z-image")))
    assert other.reason is not None and "no CLIP" in other.reason and other.order is None
    assert all(w.reach is None for w in other.words)


def test_advice_names_its_claim_and_needs_its_verdict() -> None:
    read = lint("a red cup and a blue chair, " + "made with care, " * 30)
    assert advice(read, {}) == ()
    assert advice(read, {"C7": "contradicted", "C9": "not testable here"}) == ()
    settled = {"C7": "supported", "C9": "supported", "C8": "supported"}
    told = dict(advice(read, settled))
    assert set(told) == {"C7"} and "no encoder reads" in told["C7"]  # the grammar declares no claims in such a prompt
    told = dict(advice(lint(CUP), settled))
    assert set(told) == {"C8", "C9"} and "red cup" in told["C8"]


@pytest.mark.parametrize(("prompt", "said"), [("  ", "no prompt"), ("x" * 5000, "5,000 characters")])
def test_no_prompt_and_too_long_a_prompt(prompt: str, said: str) -> None:
    with pytest.raises(PromptlabError, match=said):
        lint(prompt)


def test_the_quick_encoder_leaves_what_it_cannot_read(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from promptlab.results.lint import pooled_states

    assert pooled_states(tmp_path) is None, "no file of weights: a folder of several, or of none"
    (tmp_path / "config.json").write_text('{"hidden_act": "relu"}')
    save_file({"embeddings.token_embedding.weight": np.zeros((3, 2), np.float32)}, tmp_path / "model.safetensors")
    assert pooled_states(tmp_path) is None, "an activation of another make"


@pytest.mark.parametrize(("act", "end"), [("quick_gelu", 7), ("gelu", 7), ("quick_gelu", 2)])
def test_the_quick_encoder_against_transformers(act: str, end: int, tmp_path: Path) -> None:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from promptlab.results.lint import pooled_states

    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPTextConfig(vocab_size=8, max_position_embeddings=9, hidden_act=act, eos_token_id=end, **size)
    torch.manual_seed(0)
    model = CLIPTextModel(config).eval()
    model.save_pretrained(tmp_path)
    quick = pooled_states(tmp_path)
    assert quick is not None
    for ids in ([6, 1, 3, 7], [6, 7], [6, 1, 1, 4, 5, 0, 3, 7]):
        with torch.no_grad():
            slow = model(torch.tensor([ids])).pooler_output[0].numpy()
        assert quick(ids) == pytest.approx(slow, abs=1e-5)
