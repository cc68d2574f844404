"""The GPU benchmark goes all its ways at tiny size on the CPU, and what it finds there is whole and sane."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from promptlab.bench import Measured
from promptlab.bench.gpu import DRY_RUN, PARTS, bench_gpu
from promptlab.bench.shapes import DRY, REAL, random_parts
from promptlab.bench.timing import Timing, grid
from promptlab.cli import maintain as command
from promptlab.cli.terminal import console
from promptlab.errors import PromptlabError
from tiny_families import BUILDERS

SHAPES = tuple(shape.name for shape in REAL)
PARAMETERS = {"sd15": 0.86e9, "sdxl": 2.57e9, "sd35": 8.06e9, "flux": 11.9e9}
"""Of the published denoisers."""


def ran(*asked: str) -> tuple[dict[str, Measured], list[Timing]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
        found = list(bench_gpu(asked, dry=True))
    figures = {one.name: one for one in found if isinstance(one, Measured)}
    return figures, [one for one in found if isinstance(one, Timing)]


def test_shapes_are_those_of_the_published_models() -> None:
    assert [shape.name for shape in DRY] == [*SHAPES] == [*PARAMETERS] and {
        "sdxl",
        "sd3",
        "flux-dev",
    } <= BUILDERS.keys()
    for shape in REAL:
        parts = random_parts(shape, torch.device("meta"), torch.bfloat16)
        denoiser = parts["transformer" if shape.flow else "unet"]
        assert sum(p.numel() for p in denoiser.parameters()) == pytest.approx(PARAMETERS[shape.name], rel=0.01)
        assert {p.dtype for p in denoiser.parameters()} == {torch.bfloat16}
        # 83.7 M with 4 channels of latents, 83.8 M with 16
        assert sum(p.numel() for p in parts["vae"].parameters()) == pytest.approx(83.7e6, rel=0.01)


def test_work_is_that_of_the_published_models() -> None:
    """FLOP of SD 1.5 at 512, one row, counted without computing anything."""
    from torch.utils.flop_counter import FlopCounterMode

    (shape,) = (shape for shape in REAL if shape.name == "sd15")
    unet = random_parts(shape, torch.device("meta"), torch.bfloat16)["unet"]
    given = {"device": "meta", "dtype": torch.bfloat16}
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
        unet(torch.empty(1, 4, 64, 64, **given), torch.empty(1, device="meta"), torch.empty(1, 77, 768, **given))
    assert counter.get_total_flops() == pytest.approx(0.803e12, rel=0.02)


def test_grids_have_guidance_where_the_model_takes_it() -> None:
    for shape in DRY:
        jobs = grid(shape)
        assert len({job.image_id for job in jobs}) == len(jobs) == 4 * shape.prompts * shape.seeds
        scales = {job.settings.distilled_guidance_scale or job.settings.guidance_scale for job in jobs}
        assert scales == {1.0, 3.0, 5.0, 7.5}


def test_speed() -> None:
    figures, timings = ran("speed", "sd35", "flux")
    assert figures["matrix product"].value > 0
    for name in ("sd35", "flux"):
        own = [one for one in timings if one.shape == name]
        ways = {one.way for one in own}
        assert {"eager", "eager, flash", "eager, cudnn", "eager, efficient", "eager, math"} < ways
        assert any(way.startswith("channels_last") for way in ways)
        assert f"compiled ({'blocks' if name == 'flux' else 'whole'}, aot_eager)" in ways
        assert {one.batch for one in own if one.way == "eager"} == {1, 4}
        for one in own:
            if one.step is None:  # kernels that a CPU lacks
                assert one.note and one.way in ("eager, cudnn", "eager, efficient")
                continue
            assert one.pictures and one.flops and one.share and one.decode and one.memory is None
            shape = next(shape for shape in DRY if shape.name == name)
            assert one.pictures == pytest.approx(one.batch / (shape.steps * one.step + one.batch * one.decode))
        assert figures[f"{name}: work"].value > 0
        assert figures[f"{name}: best"].value == max(one.pictures for one in own if one.pictures)


def test_loop() -> None:
    figures, _ = ran("loop", "flux")  # a whole U-Net takes the compiler longer
    for way in ("", ", compiled"):
        ratio = figures[f"flux: grid against the plain loop{way}"]
        assert ratio.value > 0 and ratio.detail["pictures"] == 16
        assert float(ratio.detail["grey_levels_apart"]) < 0.1  # the same pictures
        assert (ratio.detail["compile"] == "off") == (not way)


def test_guidance_and_memory() -> None:
    figures, timings = ran("guidance", "memory", "sd15", "sdxl")
    assert not timings
    for name in ("sd15", "sdxl"):
        apart = figures[f"{name}: mixed guidance against single calls"]
        assert apart.value < 1e-3 and apart.detail.keys() == {"w_0", "w_1", "w_1.5", "w_4", "w_9"}
        assert figures[f"{name}: same bits beside other neighbours"].met
        lost, once = (
            figures[f"{name}: pictures lost where memory runs out"],
            figures[f"{name}: the batch was halved once"],
        )
        assert lost.value == 0 and lost.met and lost.detail["came"] == lost.detail["asked"] == 8
        assert once.met and lost.detail["batch_before"] == 2 * float(lost.detail["batch_after"])


def test_study() -> None:
    figures, _ = ran("study")
    whole = figures["sd15: study end to end"]
    assert whole.value > 0 and whole.detail["failed"] == 0 and whole.detail["pictures"] == 8
    assert float(whole.detail["scores"]) == 8 * 7  # six of exposure, one of CLIP
    assert float(whole.detail["peak_memory_GB"]) > 0
    for way in ("making pictures", "whole study"):
        assert 0 < figures[f"sd15: time not in the model, {way}"].value < 1


def test_the_command(tmp_path: Path) -> None:
    with console.capture() as said:
        command.bench(["gpu", "guidance", "flux"], dry=True)
    assert said.get().startswith(DRY_RUN) and "flux: mixed guidance against single calls" in said.get()
    assert "dry run: machine: " in said.get()
    with console.capture() as said:
        command.bench(["gpu", "memory", "sd35"], dry=True, json_=True)
    told = json.loads(said.get())
    assert told["dry_run"] and [row["name"] for row in told["rows"]][1:] == [
        "sd35: pictures lost where memory runs out",
        "sd35: the batch was halved once",
    ]
    with pytest.raises(PromptlabError, match=r"no part or shape 'sdlx': .*did you mean 'sdxl'"):
        list(bench_gpu(["sdlx"], dry=True))
    assert list(PARTS) == ["speed", "loop", "guidance", "study", "memory"]
