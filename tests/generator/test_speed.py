"""How a denoiser is run: every decision from a table, and what it changes in pictures: rounding at most."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.errors import PromptlabError
from promptlab.generator.backends.diffusion import load
from promptlab.generator.models.speed import (
    KERNELS,
    Speed,
    Wish,
    at_work,
    attention_shape,
    compiled,
    equip,
    fastest,
    in_channels_last,
    kernel_order,
    kernel_seconds,
    repays,
)
from promptlab.run import run_study
from promptlab.run.generate import Generation, ModelJobs
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study
from tiny import job, pictures

Folders = Callable[[str], Path]
SD15, SDXL, FLUX = 50.7e12, 416e12, 2094e12
"""FLOP of a picture: SD 1.5 at 512 and SDXL at 1024, 30 steps in two passes; FLUX.1-dev at 1024, 28 steps."""


@pytest.mark.parametrize(
    ("requested", "device", "wanted"),
    [(None, "cuda", True), (None, "cpu", False), (True, "cpu", True), (False, "cuda", False)],
)
def test_channels_last(requested: bool | None, device: str, wanted: bool) -> None:
    assert in_channels_last(requested, device) is wanted
    assert in_channels_last(requested, device, compiles=True) is (requested is not False)


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ({}, "default"),
        ({"math": 9.0}, "math"),
        ({"flash": 1.0, "cudnn": 0.8, "efficient": 2.0}, "cudnn"),
        ({"flash": 1.0, "cudnn": 0.95}, "flash"),  # as fast: a second measurement may well say otherwise
        ({"cudnn": 1.04, "efficient": 1.0}, "cudnn"),
        ({"efficient": 1.0, "math": 0.5}, "math"),
    ],
)
def test_the_fastest_kernel(seconds: dict[str, float], wanted: str) -> None:
    assert fastest(seconds) == wanted


@pytest.mark.parametrize(
    ("pictures", "flop", "kind", "wanted"),
    [
        (2_000, SD15, "whole", False),
        (5_000, SD15, "whole", True),
        (300, SDXL, "whole", False),
        (600, SDXL, "whole", True),
        (5, FLUX, "blocks", False),
        (12, FLUX, "blocks", True),
    ],
)
def test_what_repays_compiling(pictures: int, flop: float, kind: str, wanted: bool) -> None:
    assert repays(pictures, flop, kind) is wanted


@pytest.mark.parametrize(
    ("requested", "device", "pictures", "blocks", "able", "wanted"),
    [
        ("auto", "cuda", 10_000, False, True, "whole"),
        ("auto", "cuda", 10_000, True, True, "blocks"),
        ("auto", "cuda", 10, False, True, "off"),
        ("auto", "cuda", None, True, True, "off"),  # nobody knows how many
        ("auto", "cuda", 10_000, True, False, "off"),
        ("auto", "cpu", 10_000, True, True, "off"),
        ("on", "cuda", None, True, True, "blocks"),
        ("on", "cpu", 1, False, True, "whole"),
        ("off", "cuda", 10_000, True, True, "off"),
    ],
)
def test_compiling(requested: str, device: str, pictures: int | None, blocks: bool, able: bool, wanted: str) -> None:
    assert compiled(requested, device, pictures, SDXL, blocks, able) == wanted


def test_wishes_that_cannot_be() -> None:
    with pytest.raises(PromptlabError, match="no Triton here"):
        compiled("on", "cuda", None, SDXL, False, False)
    with pytest.raises(PromptlabError, match=r"no compile 'fo': choose from auto, on, off"):
        Wish(compile="fo")
    with pytest.raises(PromptlabError, match="did you mean 'flash'"):
        load("miniature", attention="flsh")


def test_orders_of_kernels() -> None:
    assert kernel_order("cudnn") == ("cudnn", "flash", "efficient", "math")
    assert kernel_order("math") == ("math",) and {*kernel_order("flash")} == {*KERNELS}


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3", "flux-dev", "z-image"])
def test_the_largest_attention_is_the_one_that_runs(
    kind: str, family_folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = load(str(family_folder(kind)), batch_size=1)
    seen: list[tuple[int, int, int]] = []
    attention, inside = torch.nn.functional.scaled_dot_product_attention, [False]

    def spy(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if inside[0] and query.shape[-2] == key.shape[-2]:  # encoders and autoencoders attend too
            seen.append((query.shape[1], query.shape[2], query.shape[3]))
        return attention(query, key, value, *args, **kwargs)

    backend.denoiser.register_forward_pre_hook(lambda *_: inside.__setitem__(0, True))
    backend.denoiser.register_forward_hook(lambda *_: inside.__setitem__(0, False))
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    pictures(backend, [job("a red cup", num_inference_steps=1)])
    # Z-Image pads its picture and its text to multiples of 32
    text = {"sd3": 77 + 256, "flux-dev": 512, "z-image": 32 + 16}.get(kind, 0)
    assert max(seen, key=lambda shape: shape[0] * shape[1] ** 2) == attention_shape(backend.denoiser, 8, 8, text)
    backend.close()


def test_the_measurement_runs_with_the_kernels_that_are_here() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seconds = kernel_seconds((2, 64, 8), torch.device("cpu"), torch.float32, repeats=1)
    assert {"flash", "math"} <= seconds.keys() <= {*KERNELS} and all(took > 0 for took in seconds.values())
    assert fastest(seconds) in seconds


def shown(folder: Path, **wish: Any) -> tuple[np.ndarray, dict[str, Any]]:
    backend = load(str(folder), batch_size=2, **wish)
    made = np.stack(pictures(backend, [job(f"a {word} cup", seed=i) for i, word in enumerate(("red", "blue"))]))
    facts = backend.provenance()["speed"]
    backend.close()
    return made.astype(int), facts


@pytest.mark.parametrize("kind", ["sd", "flux-dev", "qwen-image"])
def test_the_same_pictures_but_for_rounding(kind: str, family_folder: Folders) -> None:
    usual, facts = shown(family_folder(kind), pictures=100)
    assert facts == {"channels_last": False, "attention": "default", "compile": "off"}  # what a few images get
    assert np.abs(usual[0] - usual[1]).mean() > 1
    other, facts = shown(family_folder(kind), channels_last=True, attention="math")
    assert facts == {"channels_last": True, "attention": "math", "compile": "off"}
    assert np.abs(usual - other).max() <= 1


def test_channels_last_is_how_weights_lie(family_folder: Folders) -> None:
    for kind, wanted in (("sd", {"unet", "vae"}), ("sd3", {"vae"}), ("qwen-image", set())):
        pipe = load(str(family_folder(kind)), channels_last=True).pipe
        lies = {
            name
            for name in ("unet", "transformer", "vae")
            if (part := getattr(pipe, name, None)) is not None
            and any(p.dim() == 4 and p.shape[2] > 1 and p.stride(1) == 1 for p in part.parameters())
        }
        assert lies == wanted


@pytest.mark.parametrize(("kind", "how"), [("sd3", "whole"), ("flux-dev", "blocks")])
def test_a_compiled_denoiser_draws_the_same(
    kind: str, how: str, family_folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, _ = shown(family_folder(kind))
    monkeypatch.setattr("promptlab.generator.backends.diffusion.equip", lambda *args: equip(*args, backend="aot_eager"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
        other, facts = shown(family_folder(kind), compile="on")
    assert facts["compile"] == how and np.abs(usual - other).max() <= 1
    torch.compiler.reset()


def test_a_compiler_that_fails_says_so_and_no_picture_is_blamed(
    family_folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no such target")

    monkeypatch.setattr("promptlab.generator.backends.diffusion.equip", lambda *args: equip(*args, backend=broken))
    backend = load(str(family_folder("sd")), batch_size=1, compile="on")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(PromptlabError, match=r"cannot be compiled here .*--compile off") as caught:
            list(backend.generate([job()]))
    assert "\n" not in str(caught.value)
    torch.compiler.reset()


def test_watched_attention_runs_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    with at_work(Speed(compile="whole"), watched=True):
        assert torch.compiler._stance.stance == "force_eager" if hasattr(torch.compiler, "_stance") else True
    with at_work(Speed(attention="math")):
        assert not torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


STUDY = """
name: told
question: What is a backend told?
model: {model}
backend: {backend}
prompt: {{template: "{{thing}}", objects: {{thing: {{noun: cup, colour: red}}}}}}
axes: {{guidance_scale: [1, 5, 9]}}
seeds: 2
"""


def test_a_run_tells_its_backend_how_many_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}

    def spy(self: Generation, work: ModelJobs, *_: Any) -> Iterator[Any]:
        options.update(work.options)
        yield from ()

    monkeypatch.setattr(Generation, "_in_process", spy)
    study = parse_study(STUDY.format(model="miniature", backend="diffusion"))
    run_study(study, Store(tmp_path), RunOptions(passports_n=0, compile="off"))
    planned, cache = options.pop("planned"), options.pop("cache")
    assert options == {"model": "miniature", "compile": "off", "dtype": "auto", "pictures": 6}
    assert sorted(planned.values()) == [2, 4] and cache == tmp_path / "cache"
    options.clear()
    drawn = parse_study(STUDY.format(model="swap=0.0", backend="renderer"))
    run_study(drawn, Store(tmp_path), RunOptions(passports_n=0))
    assert options == {"model": "swap=0.0"}
    with pytest.raises(PromptlabError, match="the backend renderer has nothing to compile"):
        run_study(drawn, Store(tmp_path), RunOptions(passports_n=0, compile="on"))
