"""Going on from what ships: train some stages further, take the others as they are.

A finished miniature holds no optimizer state, so a stage that goes on begins its schedule anew, from the shipped
weights. Stages that are not trained are put in place as if they had just been finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from promptlab.errors import ModelError
from promptlab.miniature.loop import save_tensors, warm_file
from promptlab.miniature.recipe import STAGES, Preset

__all__ = ["warm_start"]


def warm_start(source: Path, out: Path, stages: tuple[str, ...], preset: Preset) -> None:
    """Prepare `out` to train `stages` further from the miniature in `source`; what `out` has already stays.

    Raises ModelError when a part of `source` is missing.
    """
    if not (source / "pipeline" / "model_index.json").is_file():
        raise ModelError(f"no miniature in {source}: give a folder that `promptlab miniature ship` wrote")
    work = out / "work"
    for stage in STAGES:
        warm = warm_file(work, stage)
        if stage not in stages:
            _finish(stage, source, out, preset)
        elif not warm.exists():
            state = _opened(source, stage).state_dict().items()
            save_tensors({k: v.float() if v.is_floating_point() else v for k, v in state}, warm)


def _opened(source: Path, stage: str) -> Any:
    """The shipped weights of a stage, as the model that its training builds."""
    import open_clip
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    from promptlab.miniature.clip_pair import shipped_clip
    from promptlab.miniature.parser import load_parser

    if stage == "vae":
        return AutoencoderKL.from_pretrained(source / "pipeline" / "vae")
    if stage == "denoiser":
        return UNet2DConditionModel.from_pretrained(source / "pipeline" / "unet")
    if stage == "parser":
        return load_parser(source / "parser")
    if stage == "scorer":
        return open_clip.create_model_and_transforms(f"local-dir:{source / stage}")[0]
    encoder = CLIPTextModel.from_pretrained(source / "pipeline" / "text_encoder", dtype=torch.float32)
    return shipped_clip(source / "clip", encoder)


def _finish(stage: str, source: Path, out: Path, preset: Preset) -> None:
    """Put a stage of `source` in place where `out` has none yet."""
    import shutil

    from promptlab.miniature.clip_pair import save_clip

    if stage == "vae" and not (out / "work" / "vae").exists():
        _opened(source, stage).save_pretrained(out / "work" / "vae")
    elif stage in ("clip", "scorer") and not (out / stage).exists():
        save_clip(_opened(source, stage), preset.shape(stage), out / stage)
    elif stage == "parser" and not (out / stage).exists():
        shutil.copytree(source / stage, out / stage)
    # the denoiser ends in a pipeline, which is what the training is for
