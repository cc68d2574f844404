"""Parts of tiny pipelines, random weights from configurations: text encoders, autoencoders, schedulers."""

from __future__ import annotations

from typing import Any

FLOW = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}


def clip_text(vocabulary: int, projection: bool) -> Any:
    """A CLIP text tower, 32 wide."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=37,
        projection_dim=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5_text(vocabulary: int, width: int = 32) -> Any:
    """A T5 encoder."""
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": width, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    return T5EncoderModel(T5Config(vocab_size=vocabulary, **sizes))


def llm(vocabulary: int, layers: int) -> dict[str, Any]:
    """Sizes of a language model, 16 wide."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }


def qwen3(vocabulary: int, layers: int, causal: bool) -> Any:
    """Qwen3: with its language head for FLUX.2-klein, bare for Z-Image."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

    return (Qwen3ForCausalLM if causal else Qwen3Model)(Qwen3Config(**llm(vocabulary, layers)))


def vae(channels: int, shift: float | None = 0.1) -> Any:
    """An autoencoder of factor 2."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=16,
        scaling_factor=0.4,
        shift_factor=shift,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


def vae_flux2() -> Any:
    """FLUX.2's autoencoder, whose latents are normalised by the statistics of a batch norm."""
    import torch
    from diffusers import AutoencoderKLFlux2

    made = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        latent_channels=4,
        norm_num_groups=8,
        sample_size=16,
    )
    with torch.no_grad():
        made.bn.running_mean.normal_()
        made.bn.running_var.uniform_(0.5, 2.0)
    return made


def flow(**config: Any) -> Any:
    """The flow matching scheduler of all transformer architectures."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**config)
