"""How each pipeline class of diffusers takes its conditioning: what the generator must know of a model, and no more.

    prompt --readers--> states --as arguments--> pipeline(states, negative states, guidance)

A reader is a tokenizer and its text encoder; it reads `limit` tokens and cuts the rest. Three kinds of guidance exist:

    true        u + w (c - u) of two passes; 0 is unconditional, 1 purely conditional
    embedded    an input of a distilled model, in one pass; there is no u, so w has no meaning
    none        a model distilled down to a few steps, with no such input

What depends on the checkpoint, not on its class, is read from the folder (`promptlab.generator.models.capabilities`).

References:
    Ho and Salimans 2022, Classifier-Free Diffusion Guidance (arXiv 2207.12598). Meng et al. 2023, On Distillation of
    Guided Diffusion Models (arXiv 2210.03142): guidance as an input of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from promptlab.errors import ModelError, nearest

__all__ = ["ARCHITECTURES", "FLUX2_SYSTEM", "QWEN_FRAME", "Architecture", "GuidanceKind", "Reader", "architecture_of"]

GuidanceKind = Literal["true", "embedded", "none"]

QWEN_FRAME = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
)
"""What Qwen-Image's pipeline puts before and after every prompt."""
FLUX2_SYSTEM = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing on object "
    "relationships, object\nattribution and actions without speculation."
)
"""The instruction that FLUX.2-dev's pipeline gives its language model before every prompt."""


@dataclass(frozen=True)
class Reader:
    """One tokenizer and its text encoder, as a pipeline uses them.

    Attributes:
        name: what people call the encoder.
        tokenizer: its folder in the pipeline; `encoder` likewise.
        limit: tokens that the encoder reads; None: as many as the tokenizer's own `model_max_length`.
        frame: fixed text before and after the prompt.
        chat: options of the tokenizer's chat template, which then makes the frame; None: it is not used.
        system: the system message of that chat.
        dropped: tokens at the beginning of the frame that the limit does not count, since they are dropped again.
    """

    name: str
    tokenizer: str = "tokenizer"
    encoder: str = "text_encoder"
    limit: int | None = None
    frame: tuple[str, str] = ("", "")
    chat: tuple[tuple[str, bool], ...] | None = None
    system: str | None = None
    dropped: int = 0


@dataclass(frozen=True)
class Architecture:
    """One pipeline class.

    Attributes:
        pipeline: its name in diffusers, as in `model_index.json`.
        title: the models that come in it.
        encodes: what `encode_prompt` returns, in order, by the argument of the call that takes it; "" for what is not
            passed on. The negative prompt's arguments are the same after "negative_".
        readers: its text encoders, in the pipeline's order.
        guidance: the argument that carries w, or the embedded guidance.
        guidance_kind: that of the class; a checkpoint can differ.
        offset: the argument is w - offset (1 where a pipeline computes c + g (c - u)).
        rows: how the pipeline multiplies by w: the whole batch as one tensor, or one row after the other.
        steps, scale: the class's own defaults of num_inference_steps and of the guidance argument.
        few_steps: what its checkpoints that are distilled down to no guidance take.
        size: default height and width; None: the denoiser's sample_size times the autoencoder's factor.
        denoiser: the component that denoises.
        patch: height and width are multiples of the autoencoder's factor times this; 0: read it from the denoiser.
        together: texts that are encoded at once; 1 where the pipeline pads a batch to its longest text, so that the
            states of a text would depend on its company.
        ragged: whether states are as long as their text, so that rows of a batch must be of one length.
    """

    pipeline: str
    title: str
    encodes: tuple[str, ...]
    readers: tuple[Reader, ...]
    guidance: str = "guidance_scale"
    guidance_kind: GuidanceKind = "true"
    offset: float = 0.0
    rows: Literal["tensor", "list"] = "tensor"
    steps: int = 50
    few_steps: int = 4
    scale: float = 5.0
    size: int | None = None
    denoiser: Literal["unet", "transformer"] = "transformer"
    patch: int = 2
    together: int = 8
    ragged: bool = False


_CLIP = Reader("CLIP")
_CLIP_2 = Reader("CLIP 2", "tokenizer_2", "text_encoder_2")
_POOLED = ("prompt_embeds", "", "pooled_prompt_embeds", "")

ARCHITECTURES = {
    architecture.pipeline: architecture
    for architecture in (
        # the miniature too
        Architecture(
            "StableDiffusionPipeline",
            "Stable Diffusion 1.x and 2.x",
            ("prompt_embeds", ""),
            (_CLIP,),
            scale=7.5,
            denoiser="unet",
            patch=1,
        ),
        Architecture(
            "StableDiffusionXLPipeline",
            "Stable Diffusion XL",
            _POOLED,
            (_CLIP, _CLIP_2),
            denoiser="unet",
            patch=1,
        ),
        Architecture(
            "StableDiffusion3Pipeline",
            "Stable Diffusion 3 and 3.5",
            _POOLED,
            (_CLIP, _CLIP_2, Reader("T5", "tokenizer_3", "text_encoder_3", 256)),
            steps=28,
            scale=7.0,
            patch=0,
        ),
        Architecture(
            "FluxPipeline",
            "FLUX.1",
            ("prompt_embeds", "pooled_prompt_embeds", ""),
            (_CLIP, Reader("T5", "tokenizer_2", "text_encoder_2", 512)),
            guidance_kind="embedded",
            steps=28,
            scale=3.5,
            size=1024,
        ),
        Architecture(
            "Flux2Pipeline",
            "FLUX.2",
            ("prompt_embeds", ""),
            (Reader("Mistral", limit=512, chat=(("add_generation_prompt", False),), system=FLUX2_SYSTEM),),
            guidance_kind="embedded",
            scale=4.0,
            size=1024,
        ),
        Architecture(
            "Flux2KleinPipeline",
            "FLUX.2 klein",
            ("prompt_embeds", ""),
            (Reader("Qwen3", limit=512, chat=(("add_generation_prompt", True), ("enable_thinking", False))),),
            scale=4.0,
            size=1024,
        ),
        Architecture(
            "QwenImagePipeline",
            "Qwen-Image",
            ("prompt_embeds", "prompt_embeds_mask"),
            (Reader("Qwen2.5-VL", limit=512, frame=QWEN_FRAME, dropped=34),),
            guidance="true_cfg_scale",
            scale=4.0,
            size=1024,
            together=1,
            ragged=True,
        ),
        Architecture(
            "ZImagePipeline",
            "Z-Image",
            ("prompt_embeds", ""),
            (Reader("Qwen3", limit=512, chat=(("add_generation_prompt", True), ("enable_thinking", True))),),
            offset=1.0,
            rows="list",
            few_steps=8,
            size=1024,
            ragged=True,
        ),
    )
}
"""Every class that can be run, by name."""


def architecture_of(pipeline: str) -> Architecture:
    """The architecture of a pipeline class. Raises ModelError for a class that is not in the table."""
    if pipeline not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"models of class {pipeline!r} cannot be run yet: known are {known}{nearest(pipeline, ARCHITECTURES)}"
        )
    return ARCHITECTURES[pipeline]
