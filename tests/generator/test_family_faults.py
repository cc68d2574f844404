"""What goes wrong in a batch of any family costs what it must: memory, NaN of the denoiser and of the decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.generator.backends.diffusion import Diffusion, load
from tiny import job, pictures
from tiny_families import BUILDERS

BATCH = 4
WORDS = ("red", "blue", "green", "white", "black", "pink")


@pytest.fixture(scope="module", params=BUILDERS)
def loaded(request: pytest.FixtureRequest, family_folder: Callable[[str], Path]) -> Iterator[Diffusion]:
    backend = load(str(family_folder(request.param)), batch_size=BATCH)
    yield backend
    backend.close()


@pytest.fixture
def backend(loaded: Diffusion) -> Diffusion:
    loaded._batches.size = BATCH
    return loaded


def jobs(n: int, **settings: Any) -> list[Any]:
    return [job(f"a {word} cup", 5.0, seed, **settings) for seed, word in enumerate(WORDS[:n])]


def test_out_of_memory_at_any_call_costs_no_picture(backend: Diffusion) -> None:
    wanted = jobs(5, num_inference_steps=1)
    calls = 0

    def fail(k: int) -> Callable[..., None]:
        def hook(module: Any, args: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == k:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        return hook

    counter = backend.denoiser.register_forward_pre_hook(fail(-1))
    clean = pictures(backend, wanted)
    counter.remove()
    total = calls
    assert total >= 2  # two batches of one step
    for k in range(1, total + 1):
        calls, backend._batches.size = 0, BATCH
        handle = backend.denoiser.register_forward_pre_hook(fail(k))
        try:
            made = {one.image_id: one for one in backend.generate(wanted)}
        finally:
            handle.remove()
        assert [made[one.image_id].status for one in wanted] == ["ok"] * len(wanted)
        assert backend.batch_size == BATCH // 2
        for one, pixels in zip(wanted, clean, strict=True):  # another batch shape: the same up to rounding
            assert np.abs(made[one.image_id].pixels.astype(int) - pixels).max() <= 1


def test_nan_from_the_denoiser_is_the_rows_own(backend: Diffusion) -> None:
    wanted = jobs(BATCH)
    clean = pictures(backend, wanted)

    def poison(module: Any, args: Any, out: Any) -> None:
        out[0][2].fill_(float("nan"))  # row 2 of a tensor, or of a list of tensors

    handle = backend.denoiser.register_forward_hook(poison)
    made = list(backend.generate(wanted))
    handle.remove()
    assert [one.status for one in made] == ["ok", "ok", "nan", "ok"]
    assert made[2].pixels is None and made[2].reason == "NaN or infinity from the denoiser"
    assert all(np.array_equal(made[i].pixels, clean[i]) for i in (0, 1, 3))


def test_nan_from_the_decoder_is_the_rows_own(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = jobs(BATCH)
    clean = pictures(backend, wanted)
    decode = backend.pipe.vae.decode

    def poisoned(z: torch.Tensor, return_dict: bool) -> Any:
        out = decode(z, return_dict=return_dict)
        out[0][1].fill_(float("nan"))
        return out

    monkeypatch.setattr(backend.pipe.vae, "decode", poisoned)
    made = list(backend.generate(wanted))
    assert [one.status for one in made] == ["ok", "nan", "ok", "ok"]
    assert made[1].reason == "NaN or infinity from the decoder"
    assert np.array_equal(made[2].pixels, clean[2])


def test_any_other_error_is_the_batchs_own(backend: Diffusion) -> None:
    wanted = jobs(2)

    def fail(module: Any, args: Any) -> None:
        raise RuntimeError("no kernel image is available\nfor execution on the device")

    handle = backend.denoiser.register_forward_pre_hook(fail)
    made = list(backend.generate(wanted))
    handle.remove()
    assert [one.status for one in made] == ["error"] * 2
    assert made[0].reason == "RuntimeError: no kernel image is available"
    assert {one.status for one in backend.generate(wanted)} == {"ok"}
