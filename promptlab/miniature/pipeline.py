"""A folder that `StableDiffusionPipeline.from_pretrained` loads with no line of ours."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from promptlab.miniature.denoiser import build_scheduler
from promptlab.miniature.tokenizer import write_tokenizer

__all__ = ["save_pipeline"]


def save_pipeline(vae: Any, encoder: Any, unet: Any, out: Path) -> None:
    """Write `out/pipeline` as fp16 safetensors that load as float32."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers import CLIPTokenizer
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    write_tokenizer(out / "pipeline" / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(out / "pipeline" / "tokenizer")
    half = [copy.deepcopy(m).to("cpu", torch.float16) for m in (vae, encoder, unet)]
    pipeline = StableDiffusionPipeline(
        vae=half[0],
        text_encoder=half[1],
        tokenizer=tokenizer,
        unet=half[2],
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out / "pipeline")
    # transformers would load half precision as half; CPUs want float32, as diffusers loads the other parts
    config = out / "pipeline" / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    for path in (out / "pipeline").rglob("config.json"):  # diffusers notes where it read a part: a path of this machine
        own = {k: v for k, v in json.loads(path.read_text()).items() if k != "_name_or_path"}
        path.write_text(json.dumps(own, indent=2) + "\n")
    # The tokenizer's own files, as small as they can be, over what save_pretrained rewrote.
    for file in (out / "pipeline" / "tokenizer").iterdir():
        file.unlink()
    write_tokenizer(out / "pipeline" / "tokenizer")
