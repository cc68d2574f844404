"""The recipe of the miniature: what goes wrong ends in one line, and what was interrupted goes on."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from promptlab.errors import DiskError, ModelError, PromptlabError
from promptlab.miniature import train as recipe
from promptlab.miniature.drawing import render
from promptlab.miniature.parser import load_parser, parse
from promptlab.miniature.train import STAGES, Preset, data, load_preset, loop, presets, train
from promptlab.miniature.train.loop import Fit, fit, save_tensors, step_rng
from promptlab.miniature.world import CANVAS, NOUNS

Usage = namedtuple("Usage", "total used free")

PLAN = Fit(steps=20, batch=8, lr=0.01, warmup=4, ema=0.9, checkpoint_seconds=-1)
"""A checkpoint after every step."""

TINY = """
seed = 1
scenes = 40
parser_scenes = 20

[vae]
channels = [8, 8, 8, 8]
steps = 2
batch = 2
lr = 1e-3
ema = 0.9

[parser]
width = 4
steps = 1
batch = 3
lr = 1e-3

[clip]
text_layers = 1
vision_width = 2
steps = 1
batch = 4
lr = 1e-3

[denoiser]
scenes = 30
channels = [16, 32, 32]
heads = 2
steps = 2
batch = 2
lr = 1e-3
ema = 0.9

[scorer]
text_layers = 1
vision_width = 2
steps = 1
batch = 4
lr = 1e-3
"""


def quiet(line: str) -> None:
    """Takes progress."""


# Presets and stages


@pytest.mark.parametrize("name", presets())
def test_presets_that_ship_are_whole(name: str) -> None:
    preset = load_preset(name)
    for stage in STAGES:
        assert preset.fit(stage).steps > 0
    assert preset.shape("clip") and preset.shape("scorer")


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(PromptlabError, match=r"unknown preset 'smok': choose cpu, gpu, smoke.*did you mean 'smoke'\?"):
        load_preset("smok")


BAD_PRESETS = {
    "no toml": "seed = ",
    "stages missing": "seed = 1",
    "a list": TINY.replace("[vae]", "[[vae]]"),
    "a number": "vae = 3",
    "no seed": TINY.replace("seed = 1", ""),
}


@pytest.mark.parametrize("text", BAD_PRESETS.values(), ids=BAD_PRESETS)
def test_a_bad_preset_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(PromptlabError, match=r"mine\.toml: .*compare with"):
        load_preset(str(path))


def test_a_misspelt_setting_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TINY.replace("steps = 2", "stepz = 2"))
    with pytest.raises(PromptlabError, match=r"no setting 'stepz'.*did you mean 'steps'\?"):
        load_preset(str(path))


def test_an_unknown_stage_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(PromptlabError, match=r"unknown stage 'denoise'.*did you mean 'denoiser'"):
        train(load_preset("smoke"), tmp_path / "out", quiet, ("denoise",))
    assert not (tmp_path / "out").exists()


# Disks and checkpoints


def test_too_little_room_is_said_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 1000))
    with pytest.raises(DiskError, match=r"has 0\.0 GiB free, preset smoke needs 1"):
        train(load_preset("smoke"), tmp_path, quiet)
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("I/O error (os error 28)")])
def test_a_full_disk_keeps_the_last_checkpoint(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors({"x": torch.ones(2)}, path)
    before = path.read_bytes()

    def full(tensors: Any, file: Path, metadata: Any) -> None:
        Path(file).write_bytes(b"half")
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(DiskError, match=r"cannot write .*last complete checkpoint is kept"):
        save_tensors({"x": torch.zeros(2)}, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("(os error 28)")])
def test_a_disk_that_fills_up_ends_the_training_in_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any) -> None:
        raise error

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 2**40))
    monkeypatch.setattr(recipe._Recipe, "make_vae", full)
    with pytest.raises(DiskError, match="full"):
        train(load_preset("smoke"), tmp_path, quiet)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="blocks are reserved on POSIX")
def test_a_pool_that_finds_no_room_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool is a memory map: a write to a block that is not there would kill the process without a word."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DiskError, match=r"full: free some room and run the same command again"):
        train(load_preset("smoke"), tmp_path, quiet)
    assert not list(tmp_path.rglob("*.npy"))


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def learn(folder: Path, plan: Fit = PLAN, stop: int | None = None) -> dict[str, Any]:
    """Train a small model; at step `stop` somebody presses Ctrl-C."""
    model = linear()

    def loss_of(step: int) -> torch.Tensor:
        if step == stop:
            raise KeyboardInterrupt
        x = torch.from_numpy(step_rng(7, step).standard_normal((plan.batch, 3), np.float32))
        loss: torch.Tensor = (model(x) - x[:, :2]).square().mean()
        return loss

    try:
        fit("line", model, loss_of, plan, folder, quiet)
    except KeyboardInterrupt:
        assert stop is not None
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("exact", [True, False])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    ema: float, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exact:  # else in bfloat16, where the machine has it
        monkeypatch.setattr(loop, "autocast", nullcontext)
    plan = replace(PLAN, ema=ema)
    whole = learn(tmp_path / "whole", plan)
    for stop in (5, 6, 13):
        learn(tmp_path / "parts", plan, stop)
    resumed = learn(tmp_path / "parts", plan)
    again = learn(tmp_path / "parts", plan)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value) and torch.equal(again[name], value)
    assert not torch.equal(whole["weight"], linear().state_dict()["weight"])


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "cut short"])
def test_a_corrupt_checkpoint_is_named_and_kept(damage: bytes | None, tmp_path: Path) -> None:
    learn(tmp_path, stop=5)
    path = tmp_path / "line.safetensors"
    path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
    before = path.read_bytes()
    with pytest.raises(ModelError, match=r"corrupt checkpoint .*line\.safetensors .*: delete it and run the same") as e:
        learn(tmp_path)
    assert "\n" not in str(e.value)
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_model_is_no_checkpoint(tmp_path: Path) -> None:
    learn(tmp_path, stop=5)
    with pytest.raises(ModelError, match="corrupt checkpoint"):
        fit("line", nn.Linear(4, 2), lambda step: torch.zeros(()), PLAN, tmp_path, quiet)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    model = linear()
    with pytest.raises(ModelError, match="loss is not finite at step 1: lower lr"):
        fit(
            "line",
            model,
            lambda step: model(torch.full((1, 3), torch.inf)).sum(),
            replace(PLAN, steps=1),
            tmp_path,
            quiet,
        )


# The whole


def test_a_training_runs_and_a_second_one_has_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import StableDiffusionPipeline

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 2**40))
    (tmp_path / "tiny.toml").write_text(TINY)
    preset: Preset = load_preset(str(tmp_path / "tiny.toml"))
    out, lines = tmp_path / "out", list[str]()
    train(preset, out, lines.append)
    assert all(any(line.startswith(f"{stage}: ready") for line in lines) for stage in STAGES)
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix != ".npy"}
    lines.clear()
    train(preset, out, lines.append)
    assert not [line for line in lines if "step" in line or "scenes" in line]
    assert kept == {path: path.read_bytes() for path in kept}
    pipe = StableDiffusionPipeline.from_pretrained(out / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a red cup", num_inference_steps=1, output_type="np").images.shape == (1, CANVAS, CANVAS, 3)
    found = parse(np.stack([render(data.scene(1, 0)).image]), load_parser(out / "parser"))
    assert all(f.noun in (*NOUNS, "unknown") for f in found[0])

    for part, stage in (("clip/open_clip_model.safetensors", "clip"), ("work/latents.npy", "denoiser")):
        shutil.rmtree(out / "pipeline", ignore_errors=True)
        (out / part).write_bytes(b"garbage")
        with pytest.raises(ModelError, match=r"damaged: .*; delete it and run"):
            train(preset, out, lines.append, (stage,))
        assert (out / part).read_bytes() == b"garbage"
        (out / part).write_bytes(kept.get(out / part, b""))
