"""Attention maps and ablation: against weights computed by hand, on every family that can be traced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.errors import UntraceableError
from promptlab.generator.backends.diffusion import Diffusion, load
from promptlab.generator.models.attention import attend, token_places, without
from promptlab.records import Phrase, Prompt
from tiny import job, pictures

TRACED = ("sd", "lcm", "sdxl", "sd3", "flux-dev", "flux-schnell")
NOT_TRACED = ("klein", "qwen-image", "z-image", "z-image-turbo")
PROMPTS = ("a red cup", "a photo of a blue chair and a very old green house", "a dog")
WIDE = {"height": 16, "width": 32}


def scale(backend: Diffusion) -> float:
    return 4.0 if backend.able.guidance_kind == "true" else 1.0


@pytest.fixture(scope="module", params=TRACED)
def backend(request: pytest.FixtureRequest, family_folder: Callable[[str], Path]) -> Diffusion:
    return load(str(family_folder(request.param)), batch_size=3)


def test_tracing_changes_no_bit_and_weights_sum_to_one(backend: Diffusion) -> None:
    jobs = [job(prompt, scale(backend), seed, **WIDE) for seed, prompt in enumerate(PROMPTS)]
    plain = pictures(backend, jobs)
    traced = attend(backend, jobs)
    for one, before in zip(jobs, plain, strict=True):
        made, maps = traced[one.image_id]
        assert np.array_equal(made.pixels, before)
        assert len({third.shape for third in maps.thirds if third is not None}) == 1 and maps.steps == (1, 1, 1)
        for third in maps.thirds:
            assert third is not None and third.shape[2] == 2 * third.shape[1] and (third >= 0).all()
            assert np.allclose(third.sum(0), 1, atol=1e-5)
        assert 0 < maps.text_share <= 1 + 1e-6
    assert backend.watch is None


def test_a_batch_gives_each_prompt_its_own_map(backend: Diffusion) -> None:
    jobs = [job(prompt, scale(backend), seed, **WIDE) for seed, prompt in enumerate(PROMPTS)]
    together = attend(backend, jobs)
    for one in jobs:
        alone = attend(backend, [one])[one.image_id][1]
        for a, b in zip(together[one.image_id][1].thirds, alone.thirds, strict=True):
            assert np.allclose(a, b, atol=1e-4)
    first, second = (together[one.image_id][1].thirds[2] for one in jobs[:2])
    assert not np.allclose(first, second, atol=1e-4)


def test_a_word_taken_out_changes_the_picture_and_nothing_taken_out_does_not(backend: Diffusion) -> None:
    prompt = Prompt("a red cup", (Phrase("colour", "red", 2, 5),))
    (place,) = token_places(backend, prompt, prompt.phrases)
    one = job(prompt.text, scale(backend), 3)
    rest = pictures(backend, [one])[0]
    same, changed = without(backend, one, [[], place])
    assert np.array_equal(same, rest)
    assert (changed != rest).any()


class ByHand:
    """Cross-attention with weights that are computed for all to see, by the formula and nothing else."""

    def __init__(self, kept: list[torch.Tensor]) -> None:
        self.kept = kept

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, **_: Any) -> Any:
        n, places, _width = hidden_states.shape
        query = attn.to_q(hidden_states).view(n, places, attn.heads, -1)
        key = attn.to_k(encoder_hidden_states).view(n, -1, attn.heads, query.shape[-1])
        value = attn.to_v(encoder_hidden_states).view(n, -1, attn.heads, query.shape[-1])
        weights = torch.einsum("nqhd,nkhd->nhqk", query, key).mul(query.shape[-1] ** -0.5).softmax(-1)
        self.kept.append(weights)
        out = torch.einsum("nhqk,nkhd->nqhd", weights, value).reshape(n, places, -1)
        return attn.to_out[1](attn.to_out[0](out))


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_maps_are_those_of_weights_by_hand(name: str, family_folder: Callable[[str], Path]) -> None:
    backend = load(str(family_folder(name)), batch_size=2)
    jobs = [job(prompt, 4.0, seed, **WIDE) for seed, prompt in enumerate(PROMPTS[:2])]
    traced = attend(backend, jobs)
    kept: list[torch.Tensor] = []
    unet = backend.denoiser
    usual = unet.attn_processors
    unet.set_attn_processor({key: ByHand(kept) if ".attn2." in key else processor for key, processor in usual.items()})
    pictures(backend, jobs)
    layers = len(kept) // 3
    assert layers * 3 == len(kept) and layers > 1
    for i, one in enumerate(jobs):
        maps = traced[one.image_id][1]
        for step, third in enumerate(maps.thirds):
            slow = torch.zeros(77, 8, 16)
            for weights in kept[step * layers : (step + 1) * layers]:
                mean = weights[2 + i].mean(0)  # two unconditional rows come first
                side = 8 // round((128 / len(mean)) ** 0.5)
                small = mean.T.reshape(1, 77, side, 2 * side)
                slow += torch.nn.functional.interpolate(small, (8, 16), mode="bilinear")[0] / layers
            assert np.allclose(third, slow.numpy(), atol=1e-4)


@pytest.mark.parametrize("name", NOT_TRACED)
def test_a_family_that_cannot_be_split_says_so(name: str, family_folder: Callable[[str], Path]) -> None:
    backend = load(str(family_folder(name)), batch_size=1)
    with pytest.raises(UntraceableError, match=r"is not split into text and image yet"):
        attend(backend, [job("a red cup", scale(backend))])


def test_what_cannot_be_traced_says_why(family_folder: Callable[[str], Path]) -> None:
    backend = load(str(family_folder("sd")), batch_size=1)
    with pytest.raises(UntraceableError, match="guidance of 0 makes the picture without its prompt"):
        attend(backend, [job("a red cup", 0.0)])
    text = "a photo of " + "a very old " * 60 + "cup"
    with pytest.raises(UntraceableError, match="'cup' was cut off"):
        token_places(backend, Prompt(text), [Phrase("noun", "cup", len(text) - 3, len(text))])
    with pytest.raises(ValueError, match="cannot be encoded again"):
        backend.texts.rows(["a red cup\0" + "3"])


def test_few_steps_leave_thirds_empty(family_folder: Callable[[str], Path]) -> None:
    backend = load(str(family_folder("sd")), batch_size=1)
    one = job("a red cup", 4.0, num_inference_steps=1)
    maps = attend(backend, [one])[one.image_id][1]
    assert maps.steps == (1, 0, 0) and maps.thirds[1] is None and maps.thirds[2] is None
    words = maps.of([[2], [2, 3]])
    assert np.allclose(words[0], words[1]) and np.isnan(words[2:]).all()
    assert np.allclose(words[0, 1], maps.thirds[0][[2, 3]].sum(0))
