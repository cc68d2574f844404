"""A Stable Diffusion pipeline of random weights in a folder: the whole code path, and nothing learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from promptlab.generator.backends import Job
from promptlab.records import Cell, Prompt, Settings

SIDE = 16
"""Pictures of 16x16 pixels: latents of 8x8."""


def job(prompt: str = "a red cup", scale: float = 5.0, seed: int = 0, **settings: Any) -> Job:
    """A job for the tiny pipeline: three steps, 16x16."""
    given: dict[str, Any] = {"num_inference_steps": 3, "height": SIDE, "width": SIDE, **settings}
    return Job.of(Cell("tiny", (), Prompt(prompt), Settings(guidance_scale=scale, **given), "g"), seed)


def pictures(backend: Any, jobs: list[Job]) -> list[np.ndarray]:
    """Pixels of every job, in the order of the jobs; all must be ok."""
    made = {one.image_id: one for one in backend.generate(jobs)}
    assert {one.status for one in made.values()} == {"ok"}, {one.reason for one in made.values()}
    return [made[one.image_id].pixels for one in jobs]


def write_tiny(folder: Path, seed: int = 0, **unet_config: Any) -> Path:
    """Build the pipeline from configurations and save it as fp16 safetensors, as the miniature ships."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from promptlab.miniature.tokenizer import VOCAB_SIZE, write_tokenizer

    write_tokenizer(folder / "tokenizer")
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
        **unet_config,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIDE,
        scaling_factor=0.2,
    )
    config = CLIPTextConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=VOCAB_SIZE - 2,
        eos_token_id=VOCAB_SIZE - 1,
        pad_token_id=VOCAB_SIZE - 1,
    )
    half = [module.to(torch.float16) for module in (vae, CLIPTextModel(config), unet)]
    StableDiffusionPipeline(
        vae=half[0],
        text_encoder=half[1],
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=half[2],
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder
