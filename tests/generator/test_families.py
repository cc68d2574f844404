"""One table of all architectures, on random weights: the stock pipeline's pictures, row by row, in any company."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.checkpoints.architectures import ARCHITECTURES, FLUX2_SYSTEM, QWEN_FRAME
from promptlab.checkpoints.files import quiet
from promptlab.generator.backends.diffusion import Diffusion, _text_length, load
from promptlab.generator.models.conditioning import padded_length
from promptlab.generator.models.loading import Encoders
from tiny import SIDE, job, pictures
from tiny_families import BUILDERS

BATCH = 3
PROMPTS = ("a red cup", "a photo of a blue chair and a very old green house", "a dog")
TRUE = ("sd", "sdxl", "sd3", "klein-base", "qwen-image", "z-image")
EMBEDDED = ("lcm", "flux-dev", "flux2-dev")


@pytest.fixture(scope="module", params=BUILDERS)
def loaded(request: pytest.FixtureRequest, family_folder: Callable[[str], Path]) -> Iterator[Diffusion]:
    backend = load(str(family_folder(request.param)), batch_size=BATCH)
    backend.kind = request.param  # type: ignore[attr-defined]
    yield backend
    backend.close()


@pytest.fixture
def backend(loaded: Diffusion) -> Diffusion:
    loaded._batches.size = BATCH
    return loaded


def latents(backend: Diffusion, jobs: list[Any], size: int = BATCH) -> torch.Tensor:
    """Latents of jobs of one shape, in their order, by batches of `size`."""
    seen: list[torch.Tensor] = []
    decode = backend._decode
    backend._batches.size = size
    backend._decode = lambda z: (seen.append(z.clone()), decode(z))[1]  # type: ignore[func-returns-value, method-assign]
    try:
        pictures(backend, jobs)
    finally:
        del backend._decode
        backend._batches.size = BATCH
    return torch.cat(seen)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative difference."""
    return float((a - b).norm() / b.norm())


def stock(backend: Diffusion, prompts: tuple[str, ...], **kwargs: Any) -> Any:
    """The pipeline called as any user would call it, seeds 0, 1, ..."""
    pipe = backend.pipe
    default = backend.schedulers["default"]
    pipe.scheduler = type(default).from_config(default.config)
    with quiet():
        return pipe(
            prompt=list(prompts),
            num_inference_steps=3,
            height=SIDE,
            width=SIDE,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in range(len(prompts))],
            **kwargs,
        ).images


def usual(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A usual guidance: as settings of a job, and as arguments of the stock pipeline."""
    if kind == "qwen-image":
        return {"scale": 4.0}, {"true_cfg_scale": 4.0, "negative_prompt": [""] * 3}
    if kind == "z-image":
        return {"scale": 4.0}, {"guidance_scale": 3.0}
    if kind in EMBEDDED:
        return {"scale": 1.0, "distilled_guidance_scale": 4.0}, {"guidance_scale": 4.0}
    if kind == "flux-schnell":
        return {"scale": 1.0}, {"max_sequence_length": 256}
    if kind == "z-image-turbo":
        return {"scale": 1.0}, {"guidance_scale": 0.0}
    return ({"scale": 4.0}, {"guidance_scale": 4.0}) if kind in TRUE else ({"scale": 1.0}, {})


def test_pictures_are_those_of_the_stock_pipeline(backend: Diffusion) -> None:
    settings, arguments = usual(backend.kind)  # type: ignore[attr-defined]
    ours = pictures(backend, [job(prompt, seed=seed, **settings) for seed, prompt in enumerate(PROMPTS)])
    theirs = [np.asarray(image) for image in stock(backend, PROMPTS, **arguments)]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.std() > 1
        # Qwen's pipeline pads to the longest text of the call, so there it is the same up to rounding.
        assert np.abs(mine.astype(int) - other).max() <= (1 if backend.able.architecture.ragged else 0)


def test_mixed_guidance_is_single_calls(backend: Diffusion) -> None:
    if backend.able.guidance_kind == "none":
        same = [job("a red cup", 1.0, 5, distilled_guidance_scale=w) for w in (None, 9.0)]
        first, second = pictures(backend, same)
        assert np.array_equal(first, second)
        return
    scales = (0.5, 4.0, 9.0)
    true = backend.able.guidance_kind == "true"
    rows = [
        job(prompt, w, seed, negative_prompt="dark" if w > 4 else "")
        if true
        else job(prompt, 1.0, seed, distilled_guidance_scale=w)
        for seed, (w, prompt) in enumerate(zip(scales, (PROMPTS[0],) * 3, strict=True))
    ]
    together = latents(backend, rows)
    alone = torch.cat([latents(backend, [row], size=1) for row in rows])
    assert apart(together, alone) < 1e-5
    # ... and guidance does something
    other = latents(backend, [job(PROMPTS[0], 1.0, 1, distilled_guidance_scale=None if true else 1.0)], size=1)
    assert apart(alone[1:2], other) > 1e-5


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads split a batch; on some CPUs a row at the split then rounds otherwise than at the first place."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_equal_batch_shape_gives_equal_bits_in_any_company(backend: Diffusion) -> None:
    settings, _ = usual(backend.kind)  # type: ignore[attr-defined]
    one = job(PROMPTS[0], seed=7, **settings)
    alone = pictures(backend, [one])[0]  # two rows of padding
    backend.texts = backend.new_texts()  # states are made again, in other company
    for company in (
        [job(PROMPTS[1], seed=3, **settings), one, job("a tree", seed=9, **settings)],
        [job(f"a {word} cup", seed=seed, **settings) for seed, word in enumerate(("pink", "blue"))] + [one],
        [one, one, job("a very old tree and " * 20, seed=2, **settings)],
    ):
        assert np.array_equal(pictures(backend, company)[company.index(one)], alone)


def test_no_guidance_and_all_of_it_need_one_pass(backend: Diffusion) -> None:
    if backend.able.guidance_kind != "true":
        return
    calls: list[int] = []
    handle = backend.denoiser.register_forward_pre_hook(lambda module, args: calls.append(1))
    one, zero = ([job(prompt, w, 5) for prompt in PROMPTS] for w in (1.0, 0.0))
    pictures(backend, one)
    single = len(calls)
    pictures(backend, [job(prompt, 2.0, 5) for prompt in PROMPTS])
    handle.remove()
    lengths = (
        len({_text_length(backend.folders[0], backend.able, p) for p in PROMPTS})
        if backend.able.architecture.ragged
        else 1
    )
    assert single == 3 * lengths  # three steps a batch
    conditional, unconditional = (latents(backend, jobs[:1]) for jobs in (one, zero))
    near = 1e-7
    assert apart(latents(backend, [job(PROMPTS[0], 1 + near, 5)]), conditional) < 1e-4
    assert apart(conditional, unconditional) > 1e-4
    assert torch.equal(latents(backend, zero[1:2]), unconditional)
    if backend.able.architecture.pipeline != "QwenImagePipeline":  # which gives u + w (c - u) the norm of c
        assert apart(latents(backend, [job(PROMPTS[0], near, 5)]), unconditional) < 1e-4
    empty = latents(backend, [job("", 1.0, 5)])
    assert torch.equal(empty, unconditional) != backend.able.zeros


def test_a_size_that_is_not_square(backend: Diffusion) -> None:
    settings, _ = usual(backend.kind)  # type: ignore[attr-defined]
    wanted = [job("a red cup", seed=1, height=16, width=32, **settings), job("a red cup", seed=1, **settings)]
    assert [one.shape for one in pictures(backend, wanted)] == [(16, 32, 3), (16, 16, 3)]


def test_a_size_that_cannot_be_is_no_other_size(backend: Diffusion) -> None:
    (made,) = backend.generate([job(height=backend.able.multiple * 4 + 1)])
    assert made.status == "error"
    assert str(made.reason).startswith(f"ValueError: `height` and `width` must be multiples of {backend.able.multiple}")


def test_provenance_says_what_ran(backend: Diffusion) -> None:
    facts = backend.provenance()
    assert facts["pipeline"] == type(backend.pipe).__name__ and len(facts["weights"]) == 32
    assert facts["guidance"] == {"argument": backend.able.guidance, "kind": backend.able.guidance_kind}
    used = facts["schedulers"]["default"]
    assert used["class"] == type(backend.schedulers["default"]).__name__ and "num_train_timesteps" in used["config"]


def test_encoders_that_wait_elsewhere_change_nothing(backend: Diffusion) -> None:
    settings, _ = usual(backend.kind)  # type: ignore[attr-defined]
    wanted = [job(prompt, seed=seed, **settings) for seed, prompt in enumerate(PROMPTS)]
    before = pictures(backend, wanted)
    names = tuple(reader.encoder for reader in backend.able.readers)
    kept = {name: getattr(backend.pipe, name) for name in names}
    present: list[Any] = []
    handle = backend.denoiser.register_forward_pre_hook(
        lambda module, args: present.extend(getattr(backend.pipe, name) for name in names)
    )
    usual_encoders = backend.encoders
    try:
        backend.encoders = Encoders(backend.pipe, names, parked=True)
        backend.texts = backend.new_texts()
        assert all(np.array_equal(a, b) for a, b in zip(before, pictures(backend, wanted), strict=True))
        assert present and set(present) == {None}
    finally:
        handle.remove()
        backend.encoders = usual_encoders
        for name, module in kept.items():
            setattr(backend.pipe, name, module)


# The table itself, held against the installed diffusers.


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda architecture: architecture.pipeline)
def test_the_table_is_what_the_pipelines_take(architecture: Any) -> None:
    import diffusers

    call = inspect.signature(getattr(diffusers, architecture.pipeline).__call__).parameters
    names = {name for name in architecture.encodes if name}
    assert architecture.guidance in call and names <= set(call)
    if architecture.guidance_kind == "true":
        assert {f"negative_{name}" for name in names} <= set(call)
    assert call["num_inference_steps"].default == architecture.steps
    assert call[architecture.guidance].default == architecture.scale
    last = architecture.readers[-1]
    if "max_sequence_length" in call and last.limit is not None:
        assert call["max_sequence_length"].default == last.limit


def test_fixed_texts_are_those_of_the_pipelines(family_folder: Callable[[str], Path]) -> None:
    from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

    assert FLUX2_SYSTEM == SYSTEM_MESSAGE
    pipe = load(str(family_folder("qwen-image"))).pipe
    assert "{}".join(QWEN_FRAME) == pipe.prompt_template_encode
    (reader,) = ARCHITECTURES["QwenImagePipeline"].readers
    assert reader.dropped == pipe.prompt_template_encode_start_idx == len(pipe.tokenizer(QWEN_FRAME[0]).input_ids)


def test_lengths_go_up_in_steps(family_folder: Callable[[str], Path]) -> None:
    from promptlab.generator.models.capabilities import capability

    masked, unmasked = (capability(family_folder(name)) for name in ("qwen-image", "z-image"))
    assert [padded_length(masked, n) for n in (5, 31, 32, 33)] == [32, 32, 64, 64]
    assert [padded_length(unmasked, n) for n in (5, 31, 32, 33)] == [32, 32, 32, 64]


def test_unpacked_latents_are_pictures(backend: Diffusion) -> None:
    settings, _ = usual(backend.kind)  # type: ignore[attr-defined]
    z = latents(backend, [job(seed=1, height=16, width=32, **settings)])
    squeezed = z.squeeze(2) if z.ndim == 5 else z
    side = 16 // backend.able.factor
    if backend.able.architecture.pipeline == "Flux2Pipeline":
        assert squeezed.shape[1:] == (4 * backend.able.channels, side // 2, side)
    else:
        assert squeezed.shape[1:] == (backend.able.channels, side, 2 * side)
