"""Models of a bench's shapes, of random weights, built straight on the device.

BenchShape --configuration in a folder--> capability
           --modules------------------->  pipeline --> Diffusion, whose text states are random too

Real shapes of models, of random weights: speed does not depend on weights, so nothing has to be downloaded.

The configurations are those that the models are published with; DRY holds the same families at a size for tests.

References:
    Rombach et al. 2022 (arXiv 2112.10752), Podell et al. 2023 (arXiv 2307.01952), Esser et al. 2024 (arXiv 2403.03206),
    and `config.json` of stable-diffusion-v1-5, stable-diffusion-xl-base-1.0, stable-diffusion-3.5-large, FLUX.1-dev.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from promptlab.checkpoints.families import FAMILIES
from promptlab.generator.models.capabilities import capability

if TYPE_CHECKING:
    from promptlab.generator.backends.diffusion import Diffusion

__all__ = ["DRY", "REAL", "BenchShape", "backend_of", "random_parts", "write_pipeline"]


@contextmanager
def _built_on(device: Any, dtype: Any) -> Iterator[None]:
    """Inside, modules are made on the device, in the dtype."""
    import torch

    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(usual)


def random_parts(shape: BenchShape, device: Any, dtype: Any) -> dict[str, Any]:
    """Denoiser, autoencoder and scheduler, by component name."""
    import diffusers
    import torch

    family = FAMILIES[shape.pipeline]
    kinds = {"StableDiffusion3Pipeline": "SD3Transformer2DModel", "FluxPipeline": "FluxTransformer2DModel"}
    torch.manual_seed(0)
    with _built_on(device, dtype):
        denoiser = getattr(diffusers, kinds.get(shape.pipeline, "UNet2DConditionModel"))(**shape.denoiser)
        vae = diffusers.AutoencoderKL(**shape.vae)
    denoiser.to(device, dtype).eval()  # some tables of positions are made in float32 whatever is said
    vae.to(device, dtype).eval()
    if shape.flow:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    else:
        scheduler = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1)
    return {family.denoiser: denoiser, "vae": vae, "scheduler": scheduler}


def _pipeline(shape: BenchShape, parts: dict[str, Any]) -> Any:
    import inspect

    import diffusers

    kind = getattr(diffusers, shape.pipeline)
    wanted = inspect.signature(kind.__init__).parameters
    parts = {name: None for name in wanted if name.startswith(("text_", "token"))} | parts
    if shape.pipeline == "StableDiffusionPipeline":
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def backend_of(shape: BenchShape, device: Any, dtype: Any, folder: Path, batch_size: int) -> Diffusion:
    """A backend without text encoders, nothing chosen for speed yet; configurations go to `folder`."""
    import torch

    from promptlab.checkpoints.files import quiet
    from promptlab.generator.backends.diffusion import Diffusion
    from promptlab.generator.models.conditioning import TextStates
    from promptlab.generator.models.loading import Encoders

    with quiet():
        pipe = _pipeline(shape, random_parts(shape, device, dtype))
        for name in (FAMILIES[shape.pipeline].denoiser, "vae"):
            getattr(pipe, name).save_config(folder / name)
        (folder / "model_index.json").write_text(json.dumps({"_class_name": shape.pipeline}), encoding="utf-8")

    def encode(texts: list[str]) -> dict[str, list[torch.Tensor]]:
        drawn = [torch.Generator("cpu").manual_seed(crc32(text.encode())) for text in texts]
        return {
            name: [torch.randn(size, generator=one).to(dtype) for one in drawn] for name, size in shape.states.items()
        }

    backend = Diffusion(pipe, capability(folder), Encoders(pipe, (), False), shape.name, (folder,), batch_size)
    backend.texts = TextStates(encode)
    return backend


def write_pipeline(shape: BenchShape, folder: Path, device: Any, dtype: Any) -> Path:
    """A whole Stable Diffusion of this shape, its text encoder with it, as `save_pretrained` writes real ones.

    The vocabulary is the miniature's, which has fewer words than CLIP's; the encoder is as wide and as deep.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from promptlab.checkpoints.files import quiet
    from promptlab.miniature.tokenizer import VOCAB_SIZE, write_tokenizer

    marks = {"bos_token_id": VOCAB_SIZE - 2, "eos_token_id": VOCAB_SIZE - 1, "pad_token_id": VOCAB_SIZE - 1}
    config = CLIPTextConfig(vocab_size=VOCAB_SIZE, max_position_embeddings=77, **marks, **(shape.text or {}))
    write_tokenizer(folder / "tokenizer")
    with quiet():
        parts = random_parts(shape, device, dtype)
        parts |= {"text_encoder": CLIPTextModel(config).to(device, dtype)}
        parts |= {"tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer")}
        _pipeline(shape, parts).save_pretrained(folder)
    return folder


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
