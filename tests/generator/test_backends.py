"""The diffusion backend on a pipeline of random weights: reproducible, robust, and careful about what it opens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.checkpoints.files import quiet
from promptlab.errors import PromptlabError
from promptlab.generator.backends.diffusion import Diffusion, load
from promptlab.generator.models.batches import GIVE_UP, group
from promptlab.generator.models.conditioning import ROWS, TextStates
from tiny import job, pictures, write_tiny

BATCH = 4
WORDS = ("red", "blue", "green", "white", "black", "pink")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet():
        return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Iterator[Diffusion]:
    backend = load(str(folder), batch_size=BATCH)
    yield backend
    backend.close()


@pytest.fixture
def backend(loaded: Diffusion) -> Diffusion:
    loaded._batches.size = BATCH
    return loaded


def test_same_jobs_same_pixels_in_any_company(backend: Diffusion) -> None:
    wanted = [job(f"a {word} cup", 5.0, seed) for seed, word in enumerate(WORDS)]  # a batch of 4, and 2 with padding
    once = pictures(backend, wanted)
    backend.texts = backend.new_texts()
    for order in (wanted, wanted[::-1], [job("a dog", 2.0, 9), job("a tree", 9.0, 8), *wanted]):
        for one, pixels in zip(wanted, once, strict=True):
            assert np.array_equal(
                dict(zip((j.image_id for j in order), pictures(backend, order), strict=True))[one.image_id], pixels
            )
    for one, pixels in zip(wanted, once, strict=True):
        assert np.array_equal(pictures(backend, [one])[0], pixels)
    assert len({pixels.tobytes() for pixels in once}) == len(once)


def test_stochastic_schedulers_draw_from_the_rows_own_seed(backend: Diffusion) -> None:
    settings = {"scheduler": "EulerAncestralDiscreteScheduler"}
    a, b = job(seed=1, **settings), job("a dog", seed=2, **settings)
    assert np.array_equal(pictures(backend, [a, b])[0], pictures(backend, [b, a])[1])
    assert backend.provenance()["schedulers"][settings["scheduler"]]["class"] == settings["scheduler"]


def test_without_guidance_prompts_share_one_picture(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [job(f"a {word} cup", 0.0, 3) for word in WORDS]
    assert [len(rows) for rows in group(wanted).values()] == [1]
    first, *others = pictures(backend, wanted)
    assert all(np.array_equal(first, other) for other in others)


def test_a_batch_shares_size_steps_and_scheduler(backend: Diffusion) -> None:
    wanted = [job(), job(height=32), job(num_inference_steps=2), job(scheduler="EulerDiscreteScheduler"), job(scale=1)]
    assert len(group(wanted)) == 5
    assert [one.shape for one in pictures(backend, wanted)] == [(16, 16, 3), (32, 16, 3), *[(16, 16, 3)] * 3]


def test_facts_of_a_picture(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.zeros(1, 3, 16, 16)
    values[0, 0, 0, :6] = torch.tensor([-3.0, -1.0, 1.0, 1.5, 0.5, -0.5])
    monkeypatch.setattr(backend, "_values", lambda latents, precise=False: values.clone())
    (one,) = backend.generate([job()])
    assert one.status == "ok" and one.batch_size == BATCH and one.seconds and one.pixels is not None
    assert one.clipped == pytest.approx(2 / (3 * 16 * 16))
    assert one.pixels[0, :6, 0].tolist() == [0, 0, 255, 255, 191, 64] and one.pixels[5, 5].tolist() == [128] * 3


def test_provenance_is_plain_data_that_settles_the_pixels(backend: Diffusion, folder: Path) -> None:
    facts = backend.provenance()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["dtype"] == "float32" and facts["batch_size"] == BATCH and facts["guidance"]["kind"] == "true"
    assert facts["schedulers"]["default"]["config"]["prediction_type"] == "v_prediction"
    assert set(facts["versions"]) == {"promptlab", "torch", "diffusers", "transformers", "python"}
    assert len(facts["weights"]) == 32


def test_every_part_runs_in_the_precision_asked_for(folder: Path) -> None:
    for dtype in (None, "bfloat16"):
        pipe = load(str(folder), dtype=dtype).pipe
        assert pipe.unet.dtype == (torch.bfloat16 if dtype else torch.float32)
        assert {part.dtype for part in (pipe.vae, pipe.text_encoder)} == {torch.float32}, "on a CPU"


# What goes wrong.


def poisoned(function: Callable[..., Any], rows: tuple[int, ...]) -> Callable[..., Any]:
    def poison(*args: Any, **kwargs: Any) -> Any:
        out = function(*args, **kwargs)
        out[0][list(rows)] = float("nan")
        return out

    return poison


def test_nan_from_the_denoiser(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [job(scale=1, seed=seed) for seed in range(BATCH)]
    clean = pictures(backend, wanted)
    monkeypatch.setattr(backend.pipe.unet, "forward", poisoned(backend.pipe.unet.forward, (2,)))
    made = list(backend.generate(wanted))
    assert [one.status for one in made] == ["ok", "ok", "nan", "ok"]
    assert made[2].pixels is None and made[2].reason == "NaN or infinity from the denoiser"
    assert all(np.array_equal(made[i].pixels, clean[i]) for i in (0, 1, 3))


def test_nan_from_the_decoder(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, second = backend.pipe.vae.decoder.forward, torch.tensor([1.0, float("nan"), 1.0, 1.0]).view(4, 1, 1, 1)
    monkeypatch.setattr(backend.pipe.vae.decoder, "forward", lambda z, *a: decode(z, *a) * second)
    made = list(backend.generate([job(seed=seed) for seed in range(BATCH)]))
    assert [one.status for one in made] == ["ok", "nan", "ok", "ok"]
    assert made[1].reason == "NaN or infinity from the decoder"


def test_nan_from_a_half_precision_decoder_is_tried_once_more(folder: Path) -> None:
    half = load(str(folder), batch_size=2, dtype="bfloat16")
    half.pipe.vae.to(torch.bfloat16)  # as on a GPU
    decode = half.pipe.vae.decoder.forward
    half.pipe.vae.decoder.forward = lambda z, *a: decode(z, *a) * (1.0 if z.dtype == torch.float32 else float("nan"))
    made = list(half.generate([job(seed=seed) for seed in range(2)]))
    assert [one.status for one in made] == ["ok", "ok"]
    assert made[0].reason == "decoded again in float32: NaN in half precision"
    assert half.pipe.vae.dtype == torch.bfloat16
    half.pipe.vae.decoder.forward = lambda z, *a: decode(z, *a) * float("nan")
    assert [one.status for one in half.generate([job(seed=0)])] == ["nan"]


def test_what_the_safety_checker_blocks_is_no_picture(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [job(seed=seed) for seed in range(BATCH)]
    clean = pictures(backend, wanted)

    def checker(images: torch.Tensor, clip_input: torch.Tensor) -> tuple[torch.Tensor, list[bool]]:
        images[1] = 0.0  # in place, as the real one does
        return images, [False, True, False, False]

    pixels = SimpleNamespace(pixel_values=torch.zeros(1))
    monkeypatch.setattr(backend.pipe, "safety_checker", checker)
    monkeypatch.setattr(
        backend.pipe, "feature_extractor", lambda images, return_tensors: SimpleNamespace(to=lambda device: pixels)
    )
    made = list(backend.generate(wanted))
    assert [one.status for one in made] == ["ok", "nsfw_blocked", "ok", "ok"]
    assert made[1].pixels is None and np.array_equal(made[2].pixels, clean[2])


class Failing:
    """Raises at call `k` of a function, or at every call that `also` names."""

    def __init__(
        self, function: Callable[..., Any], error: Exception, k: int = -1, also: Any = lambda *a, **k: False
    ) -> None:
        self.function, self.error, self.k, self.also, self.calls = function, error, k, also, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.k or self.also(*args, **kwargs):
            raise self.error
        return self.function(*args, **kwargs)


OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_out_of_memory_at_any_call_costs_no_picture(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [job(f"a {word} cup", seed=seed, num_inference_steps=2) for seed, word in enumerate(WORDS)]
    forward = backend.pipe.unet.forward
    for error in (OOM, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")):
        for k in range(1, 5):  # two batches of two steps
            backend._batches.size = BATCH
            monkeypatch.setattr(backend.pipe.unet, "forward", Failing(forward, error, k))
            made = list(backend.generate(wanted))
            assert {one.image_id for one in made} == {one.image_id for one in wanted} and len(made) == len(wanted)
            assert {one.status for one in made} == {"ok"}
            assert backend.batch_size == BATCH // 2 and made[-1].batch_size == BATCH // 2


def test_only_what_does_not_fit_alone_is_oom(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [job(scale=5.0, seed=seed, height=side) for side in (16, 32) for seed in range(2)]
    big = Failing(
        backend.pipe.unet.forward, OOM, also=lambda latents, *a, **k: latents.shape[-2] > 8 or len(latents) > 4
    )
    monkeypatch.setattr(backend.pipe.unet, "forward", big)
    made = {one.image_id: one for one in backend.generate(wanted)}
    assert [made[one.image_id].status for one in wanted] == ["ok", "ok", "oom", "oom"]
    assert [made[one.image_id].batch_size for one in wanted] == [2, 2, 1, 1]


def test_gives_up_with_advice(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        backend.pipe.unet, "forward", Failing(backend.pipe.unet.forward, OOM, also=lambda *a, **k: True)
    )
    backend._batches._in_a_row = 0  # which lasts from batch to batch, for workers
    made = []
    with pytest.raises(PromptlabError, match="ask for a smaller height and width") as caught:
        for one in backend.generate([job(seed=seed) for seed in range(20)]):
            made.append(one)
    assert [one.status for one in made] == ["oom"] * GIVE_UP and "\n" not in str(caught.value)


def test_any_other_error_is_the_batchs_own(backend: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [job(height=17), job(seed=1)]
    made = {one.image_id: one for one in backend.generate(wanted)}
    assert [made[one.image_id].status for one in wanted] == ["error", "ok"]
    reason = str(made[wanted[0].image_id].reason)
    assert reason.startswith("ValueError: `height` and `width`") and "\n" not in reason


def test_an_unknown_scheduler_is_refused_before_the_first_picture(backend: Diffusion) -> None:
    with pytest.raises(PromptlabError, match="did you mean 'EulerDiscreteScheduler'") as caught:
        backend.generate([job(), job(scheduler="EulerDiscretScheduler")])
    assert "\n" not in str(caught.value)


def test_options_that_cannot_be(folder: Path) -> None:
    for options, message in (
        ({"dtype": "floot32"}, "did you mean 'float32'"),
        ({"dtype": "float16", "device": "cpu"}, "does not run on a CPU"),
        ({"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(PromptlabError, match=message):
            load(str(folder), **options)  # type: ignore[arg-type]


def test_texts_are_encoded_once_in_equal_batches() -> None:
    seen: list[list[str]] = []

    def encode(texts: list[str]) -> dict[str, torch.Tensor]:
        seen.append(texts)
        return {"prompt_embeds": torch.tensor([[float(len(text))] for text in texts])}

    states = TextStates(encode, keep=12)
    states.prepare("a" * n for n in range(10))
    assert [len(texts) for texts in seen] == [ROWS, ROWS]
    assert states.of(["aaa", "", "aaa"])["prompt_embeds"].flatten().tolist() == [3, 0, 3]
    states.prepare("b" * n for n in range(5, 10))
    assert len(seen) == 3
    states.of([""])
    assert len(seen) == 3, "used lately, so still held"
    states.of(["a"])
    assert len(seen) == 4, "used longest ago, so gone"
