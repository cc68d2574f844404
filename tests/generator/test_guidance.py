"""Guidance row by row, on a real pipeline of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.checkpoints.files import quiet
from promptlab.generator.backends.diffusion import Diffusion, load
from promptlab.generator.models.batches import RowGuidance, single_pass
from tiny import SIDE, job, pictures, write_tiny

BATCH = 4
SCHEDULERS = (
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Diffusion]:
    with quiet():
        folder = write_tiny(tmp_path_factory.mktemp("tiny"))
    backend = load(str(folder), batch_size=BATCH)
    yield backend
    backend.close()


def latents(backend: Diffusion, jobs: list[Any], monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Latents of a batch of jobs, as the backend's pipeline gives them."""
    seen: list[torch.Tensor] = []
    decode = backend._decode

    def spy(z: torch.Tensor) -> Any:
        seen.append(z.clone())
        return decode(z)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "_decode", spy)
        pictures(backend, jobs)
    return torch.cat(seen)


def stock(backend: Diffusion, prompts: list[str], seeds: list[int], **kwargs: Any) -> Any:
    """The pipeline called as any user would call it."""
    backend.pipe.scheduler = type(backend.schedulers["default"]).from_config(backend.schedulers["default"].config)
    with quiet():
        return backend.pipe(
            prompts,
            num_inference_steps=3,
            height=SIDE,
            width=SIDE,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            **{"output_type": "latent", **kwargs},
        ).images


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_multiplies_row_by_row_as_torch_multiplies_by_a_number(dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    scales = (0.0, 0.5, 7.3)
    product = RowGuidance(scales) * tensor
    assert product.dtype == dtype
    for row, scale, original in zip(product, scales, tensor, strict=True):
        assert torch.equal(row, scale * original)


def test_is_a_number_that_always_means_guidance() -> None:
    scale = RowGuidance([0.5, 0.25])
    assert scale == 0.5 and scale > 1 and scale > 0
    assert scale * 2 == 1.0
    with pytest.raises(ValueError, match="2 guidance scales for 3 rows"):
        scale * torch.zeros(3, 2)
    assert [single_pass(w) for w in (0, 0.5, 1, 1.5)] == [True, False, True, False]


def test_zero_is_the_unconditional_sample(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    for negative in ("", "a blurry photo"):
        rows = [job("a red cup", 0, seed, negative_prompt=negative) for seed in range(BATCH)]
        ours = latents(backend, rows, monkeypatch)
        theirs = stock(backend, [negative] * BATCH, list(range(BATCH)), guidance_scale=1.0)
        assert torch.equal(ours, theirs)
        twins = latents(backend, [job(negative, 1, seed) for seed in range(BATCH)], monkeypatch)
        assert torch.equal(ours, twins)


def test_one_is_the_conditional_pass(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [f"a {colour} cup" for colour in ("red", "blue", "green", "white")]
    rows = [job(prompt, 1, seed, negative_prompt="dark") for seed, prompt in enumerate(prompts)]
    theirs = stock(backend, prompts, list(range(BATCH)), guidance_scale=1.0)
    assert torch.equal(latents(backend, rows, monkeypatch), theirs)


def test_zero_in_a_batch_of_two_passes_is_the_unconditional_sample_too(backend: Diffusion) -> None:
    prompts, seeds = ["a red cup"] * BATCH, list(range(BATCH))
    guided = stock(
        backend, prompts, seeds, guidance_scale=RowGuidance([0.0, 9.0, 0.0, 0.5]), negative_prompt=[""] * BATCH
    )
    bare = stock(backend, [""] * BATCH, seeds, guidance_scale=5.0, negative_prompt=[""] * BATCH)
    assert torch.equal(guided[0], bare[0]) and torch.equal(guided[2], bare[2])
    assert not torch.equal(guided[1], bare[1])


def test_equal_scales_are_the_stock_pipeline(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, seeds = ["a red cup", "a dog", "a red cup", "a tree"], [3, 1, 4, 1]
    rows = [job(prompt, 7.3, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    theirs = stock(backend, prompts, seeds, guidance_scale=7.3)
    assert torch.equal(latents(backend, rows, monkeypatch), theirs)
    images = stock(backend, prompts, seeds, guidance_scale=7.3, output_type="pil")
    for ours, image in zip(pictures(backend, rows), images, strict=True):
        assert np.array_equal(ours, np.asarray(image))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_mixed_batch_is_its_single_calls(backend: Diffusion, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = (0.5, 1.5, 4.0, 9.0)
    rows = [job("a red cup", w, seed, scheduler=scheduler) for seed, w in enumerate(scales)]
    together = latents(backend, rows, monkeypatch)
    monkeypatch.setattr(backend._batches, "size", 1)
    alone = torch.cat([latents(backend, [row], monkeypatch) for row in rows])
    assert float((together - alone).norm() / alone.norm()) < 1e-5
    # ... and 0.5 is not what the stock pipeline makes of it, which drops guidance there
    dropped = latents(backend, [job("a red cup", 1, 0, scheduler=scheduler)], monkeypatch)
    assert float((alone[:1] - dropped).norm() / alone[:1].norm()) > 1e-5
