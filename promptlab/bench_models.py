"""Models of a bench's shapes, of random weights, built straight on the device.

BenchShape --configuration in a folder--> capability
           --modules------------------->  pipeline --> Diffusion, whose text states are random too
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from promptlab.backends.capabilities import capability
from promptlab.backends.families import FAMILIES
from promptlab.bench_shapes import BenchShape

if TYPE_CHECKING:
    from promptlab.backends.diffusion import Diffusion

__all__ = ["backend_of", "random_parts", "write_pipeline"]


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

    from promptlab.backends.diffusion import Diffusion
    from promptlab.backends.encoders import Encoders
    from promptlab.backends.quiet import quiet
    from promptlab.backends.texts import TextStates

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

    from promptlab.backends.quiet import quiet
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
