"""Opening a pipeline's folder: safetensors only, nothing from the network, every weight from a file.

Precision: all parts run in one dtype, but an autoencoder whose configuration asks for it (`force_upcast`) runs in
float32 beside float16 parts, since its activations overflow there. bfloat16 has the range of float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from promptlab.backends.capabilities import Capability
from promptlab.backends.encoders import Encoders, pays
from promptlab.backends.folders import check_complete, components, read_json

__all__ = ["open_pipeline", "vae_dtype", "variant_of"]


def open_pipeline(folder: Path, able: Capability, bag: bool, dtype: Any, device: Any) -> tuple[Any, Encoders]:
    """The pipeline on its device, and its text encoders, which may wait elsewhere.

    `bag` puts a bag of words in place of the text encoder. Raises ModelError, and whatever loaders raise.
    """
    import torch
    from diffusers import DiffusionPipeline

    safe: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    # A folder without an encoder (SD3 without T5) is only loaded if one says so.
    present = components(folder)
    parts = {part for reader in able.family.readers for part in (reader.encoder, reader.tokenizer)}
    safe |= dict.fromkeys(parts - present.keys())
    # Without a dtype, transformers keeps the file's own and diffusers takes float32.
    pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, variant=variant_of(folder), **safe)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            check_complete(folder / name, part)
            part.eval()
            wanted = vae_dtype(folder, dtype) if name == "vae" else dtype
            if part.dtype != wanted:
                part.to(wanted)
    if bag:
        from promptlab.miniature.clip_pair import bag_encoder

        pipe.text_encoder = bag_encoder(pipe.text_encoder).to(dtype)
    pipe.set_progress_bar_config(disable=True)
    names = tuple(reader.encoder for reader in able.readers)
    encoders = Encoders(pipe, names, pays([getattr(pipe, name) for name in names], device))
    return pipe.to(device), encoders


def vae_dtype(folder: Path, dtype: Any) -> Any:
    """Precision of the autoencoder beside parts of `dtype`."""
    import torch

    asks = read_json(folder / "vae" / "config.json").get("force_upcast") is True
    return torch.float32 if dtype == torch.float16 and asks else dtype


def variant_of(folder: Path) -> str | None:
    """ "fp16" for a folder that holds its weights only as `*.fp16.safetensors`, else None."""
    weights = [file.name for file in folder.glob("*/*.safetensors")]
    return "fp16" if weights and all(".fp16." in name or ".fp16-" in name for name in weights) else None
