"""A pipeline of random weights of every family, in a folder, as `save_pretrained` writes real ones: 2 pixels a latent.

The tokenizers are of the families' own kinds (`tiny_tokenizers`), the text encoders as deep as the pipelines ask for
(`tiny_parts`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from promptlab.checkpoints.files import quiet
from tiny import write_tiny
from tiny_parts import FLOW, clip_text, flow, llm, qwen3, t5_text, vae, vae_flux2
from tiny_tokenizers import mistral_processor, write_clip, write_qwen, write_t5


def sdxl(folder: Path) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTokenizer

    for name in ("tokenizer", "tokenizer_2"):
        size = write_clip(folder / name)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=72,
        norm_num_groups=8,
    )
    StableDiffusionXLPipeline(
        vae=vae(4, None),
        text_encoder=clip_text(size, False),
        text_encoder_2=clip_text(size, True),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"),
    ).save_pretrained(folder)


def sd3(folder: Path) -> None:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTokenizer, T5TokenizerFast

    for name in ("tokenizer", "tokenizer_2"):
        size = write_clip(folder / name)
    t5 = write_t5(folder / "tokenizer_3")
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=48,
        out_channels=4,
        pos_embed_max_size=64,
    )
    clip = [clip_text(size, True) for _ in range(2)]
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow(shift=3.0),
        vae=vae(4),
        text_encoder=clip[0],
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=clip[1],
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        text_encoder_3=t5_text(t5, 64),  # as wide as both CLIPs together
        tokenizer_3=T5TokenizerFast.from_pretrained(folder / "tokenizer_3"),
    ).save_pretrained(folder)


def flux(folder: Path, guided: bool) -> None:
    from diffusers import FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTokenizer, T5TokenizerFast

    size, t5 = write_clip(folder / "tokenizer"), write_t5(folder / "tokenizer_2")
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=guided,
        axes_dims_rope=(4, 4, 8),
    )
    FluxPipeline(
        scheduler=flow(**FLOW) if guided else flow(shift=1.0),
        vae=vae(4),
        text_encoder=clip_text(size, False),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=t5_text(t5),
        tokenizer_2=T5TokenizerFast.from_pretrained(folder / "tokenizer_2"),
        transformer=transformer,
    ).save_pretrained(folder)


def _flux2_transformer(guided: bool) -> Any:
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guided,
    )


def flux2(folder: Path) -> None:
    from diffusers import Flux2Pipeline
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    processor, size = mistral_processor()
    config = Mistral3Config(
        text_config={"model_type": "mistral", **llm(size, 31)},
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 8,
            "image_size": 32,
            "patch_size": 8,
        },
    )
    Flux2Pipeline(
        scheduler=flow(**FLOW),
        vae=vae_flux2(),
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=processor,
        transformer=_flux2_transformer(True),
    ).save_pretrained(folder)


def klein(folder: Path, distilled: bool) -> None:
    from diffusers import Flux2KleinPipeline
    from transformers import Qwen2TokenizerFast

    size = write_qwen(folder / "tokenizer")
    Flux2KleinPipeline(
        scheduler=flow(**FLOW),
        vae=vae_flux2(),
        text_encoder=qwen3(size, 28, True),
        tokenizer=Qwen2TokenizerFast.from_pretrained(folder / "tokenizer"),
        transformer=_flux2_transformer(False),
        is_distilled=distilled,
    ).save_pretrained(folder)


def qwen(folder: Path) -> None:
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

    size = write_qwen(folder / "tokenizer", pair=True)
    sizes = {k: v for k, v in llm(size, 2).items() if k != "head_dim"}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    config = Qwen2_5_VLConfig(
        text_config={**sizes, "rope_parameters": rope},
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
    )
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    autoencoder = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.7, 1.1, 2.0],
    )
    tokenizer = Qwen2Tokenizer.from_pretrained(folder / "tokenizer")
    QwenImagePipeline(
        scheduler=flow(**FLOW),
        vae=autoencoder,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=tokenizer,
        transformer=transformer,
    ).save_pretrained(folder)
    # save_pretrained rewrote the tokenizer: here it is as the published folder has it, a vocabulary beside its merges.
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    write_qwen(folder / "tokenizer", pair=True)


def z_image(folder: Path, shift: float) -> None:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen2TokenizerFast

    size = write_qwen(folder / "tokenizer")
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[600, 64, 64],
    )
    ZImagePipeline(
        scheduler=flow(shift=shift),
        vae=vae(4),
        text_encoder=qwen3(size, 3, False),
        tokenizer=Qwen2TokenizerFast.from_pretrained(folder / "tokenizer"),
        transformer=transformer,
    ).save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], Any]] = {
    "sd": write_tiny,
    "lcm": lambda folder: write_tiny(folder, time_cond_proj_dim=32),
    "sdxl": sdxl,
    "sd3": sd3,
    "flux-dev": lambda folder: flux(folder, True),
    "flux-schnell": lambda folder: flux(folder, False),
    "flux2-dev": flux2,
    "klein-base": lambda folder: klein(folder, False),
    "klein": lambda folder: klein(folder, True),
    "qwen-image": qwen,
    "z-image": lambda folder: z_image(folder, 6.0),
    "z-image-turbo": lambda folder: z_image(folder, 3.0),
}
"""One folder each: every family, and its kinds where it has several."""


def write_family(name: str, folder: Path) -> Path:
    """Build one of BUILDERS into `folder`."""
    import torch

    torch.manual_seed(0)
    with quiet():
        BUILDERS[name](folder)
    return folder
