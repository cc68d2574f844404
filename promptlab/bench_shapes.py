"""Real shapes of models, of random weights: speed does not depend on weights, so nothing has to be downloaded.

The configurations are those that the models are published with; DRY holds the same families at a size for tests.

References:
    Rombach et al. 2022 (arXiv 2112.10752), Podell et al. 2023 (arXiv 2307.01952), Esser et al. 2024 (arXiv 2403.03206),
    and `config.json` of stable-diffusion-v1-5, stable-diffusion-xl-base-1.0, stable-diffusion-3.5-large, FLUX.1-dev.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from promptlab.backends.families import FAMILIES

__all__ = ["DRY", "REAL", "BenchShape"]


@dataclass(frozen=True)
class BenchShape:
    """One model's shape and what is asked of it.

    Attributes:
        states: shape of each text state of one prompt, by argument name.
        text: configuration of a CLIP text encoder, where a whole pipeline is to be written.
        batches: rows of a batch; `several` is the one at which ways are compared.
        prompts, seeds: of the grid that the plain loop draws too, at four guidance scales.
    """

    name: str
    title: str
    pipeline: str
    side: int
    steps: int
    denoiser: Mapping[str, Any]
    vae: Mapping[str, Any]
    states: Mapping[str, tuple[int, ...]]
    text: Mapping[str, Any] | None = None
    batches: tuple[int, ...] = (1, 4, 8, 16)
    several: int = 8
    prompts: int = 2
    seeds: int = 2

    @property
    def flow(self) -> bool:
        """Whether the model is a transformer of flow matching, not a U-Net."""
        return FAMILIES[self.pipeline].denoiser == "transformer"


def _vae(widths: Sequence[int], channels: int, groups: int, **more: Any) -> dict[str, Any]:
    kinds = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    blocks = {name: kind * len(widths) for name, kind in kinds.items()}
    sizes = {"block_out_channels": tuple(widths), "latent_channels": channels, "norm_num_groups": groups}
    return {**blocks, **sizes, "layers_per_block": 2, **more}


_WIDE = (128, 256, 512, 512)
_NO_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_XL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
}

REAL = (
    BenchShape(
        "sd15",
        "Stable Diffusion 1.5",
        "StableDiffusionPipeline",
        512,
        30,
        {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        _vae(_WIDE, 4, 32, scaling_factor=0.18215, sample_size=512),
        {"prompt_embeds": (77, 768)},
        _CLIP_L,
        (1, 4, 8, 16, 32),
        prompts=4,
        seeds=4,
    ),
    BenchShape(
        "sdxl",
        "Stable Diffusion XL",
        "StableDiffusionXLPipeline",
        1024,
        30,
        {
            **_XL,
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        _vae(_WIDE, 4, 32, scaling_factor=0.13025, sample_size=1024, force_upcast=True),
        {"prompt_embeds": (77, 2048), "pooled_prompt_embeds": (1280,)},
    ),
    BenchShape(
        "sd35",
        "Stable Diffusion 3.5 Large",
        "StableDiffusion3Pipeline",
        1024,
        28,
        {
            "sample_size": 128,
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 38,
            "attention_head_dim": 64,
            "num_attention_heads": 38,
            "joint_attention_dim": 4096,
            "caption_projection_dim": 2432,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
        _vae(_WIDE, 16, 32, scaling_factor=1.5305, shift_factor=0.0609, sample_size=1024, **_NO_QUANT),
        {"prompt_embeds": (333, 4096), "pooled_prompt_embeds": (2048,)},
        prompts=1,
    ),
    BenchShape(
        "flux",
        "FLUX.1-dev",
        "FluxPipeline",
        1024,
        28,
        {
            "patch_size": 1,
            "in_channels": 64,
            "num_layers": 19,
            "num_single_layers": 38,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 768,
            "guidance_embeds": True,
        },
        _vae(_WIDE, 16, 32, scaling_factor=0.3611, shift_factor=0.1159, sample_size=1024, **_NO_QUANT),
        {"prompt_embeds": (512, 4096), "pooled_prompt_embeds": (768,)},
        prompts=1,
    ),
)
"""What a GPU is measured by."""

_SMALL: dict[str, Any] = {"batches": (1, 4), "several": 4, "side": 16, "steps": 3, "prompts": 2, "seeds": 2}
_UNET = {"sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
_UNET |= {"cross_attention_dim": 32, "attention_head_dim": 4}
_UNET |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
_UNET |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
_SD3 = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 1, "attention_head_dim": 8}
_SD3 |= {"num_attention_heads": 4, "joint_attention_dim": 64, "caption_projection_dim": 32, "pos_embed_max_size": 64}
_FLUX = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "axes_dims_rope": [4, 4, 8],
}
_FLUX |= {"num_attention_heads": 2, "joint_attention_dim": 32}
_TINY_XL = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 72, "use_linear_projection": True}
_TINY: dict[str, dict[str, Any]] = {
    "sd15": {
        "denoiser": _UNET,
        "states": {"prompt_embeds": (77, 32)},
        "text": {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4},
    },
    "sdxl": {
        "denoiser": _UNET | _TINY_XL | {"addition_embed_type": "text_time", "transformer_layers_per_block": (1, 2)},
        "states": {"prompt_embeds": (77, 32), "pooled_prompt_embeds": (24,)},
    },
    "sd35": {
        "denoiser": {**_SD3, "patch_size": 2, "pooled_projection_dim": 48, "qk_norm": "rms_norm"},
        "states": {"prompt_embeds": (16, 64), "pooled_prompt_embeds": (48,)},
    },
    "flux": {
        "denoiser": {**_FLUX, "patch_size": 1, "pooled_projection_dim": 32, "guidance_embeds": True},
        "states": {"prompt_embeds": (16, 32), "pooled_prompt_embeds": (32,)},
    },
}


def _dry(shape: BenchShape) -> BenchShape:
    kept = {name: value for name, value in shape.vae.items() if name not in ("sample_size", "layers_per_block")}
    kept |= _vae((16, 32), 4, 8, sample_size=16)
    return replace(shape, vae=kept, **_SMALL, **_TINY[shape.name])


DRY = tuple(_dry(shape) for shape in REAL)
"""The same, tiny."""
