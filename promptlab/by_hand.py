"""What a user would write without promptlab: the loops that `promptlab bench` compares itself with.

Pictures: the stock pipeline, one prompt a call. Scores: torchmetrics' CLIPScore, one picture a call. Both on models of
the shipped miniature's size, in float32, nothing fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptlab.errors import PromptlabError
from promptlab.records import Settings

__all__ = ["picture_loop", "score_loop"]

Picture = NDArray[np.uint8]


def picture_loop() -> Callable[[str, Settings, int], Picture]:
    """One picture a call, of a prompt, settings and a seed: uint8 (height, width, 3)."""
    import torch
    from diffusers import StableDiffusionPipeline

    from promptlab.backends.quiet import quiet
    from promptlab.miniature.shipped import shipped_folder

    with quiet():
        pipeline = StableDiffusionPipeline.from_pretrained(shipped_folder() / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")

    def picture(prompt: str, settings: Settings, seed: int) -> Picture:
        made = pipeline(
            prompt,
            guidance_scale=settings.guidance_scale,
            num_inference_steps=settings.num_inference_steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
        ).images[0]
        return (made * 255).round().astype(np.uint8)  # type: ignore[no-any-return]

    return picture


def score_loop() -> Callable[[Picture, str], float]:
    """CLIPScore of a picture, uint8 (height, width, 3), and a text, by a transformers CLIP of random weights."""
    import torch

    try:
        from torchmetrics.functional.multimodal import clip_score
    except ImportError as error:
        raise PromptlabError("the score benchmark needs torchmetrics: pip install torchmetrics") from error
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    from promptlab.miniature.clip_pair import clip_config
    from promptlab.miniature.shipped import shipped_folder

    ours = clip_config(4, 4)
    text, vision, width = ours["text_cfg"], ours["vision_cfg"], ours["embed_dim"]
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 4, "num_attention_heads": 4}
    ids = {"bos_token_id": text["eos_id"] - 1, "eos_token_id": text["eos_id"], "pad_token_id": text["pad_id"]}
    config = CLIPConfig(
        text_config={**shape, **ids, "vocab_size": text["vocab_size"], "max_position_embeddings": 77},
        vision_config={**shape, "image_size": vision["image_size"], "patch_size": 16},
        projection_dim=width,
    )
    side = vision["image_size"]
    pictures = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = CLIPProcessor(pictures, CLIPTokenizer.from_pretrained(shipped_folder() / "pipeline" / "tokenizer"))

    class Plain(CLIPModel):  # type: ignore[misc]
        """transformers 5 gives features in a record; torchmetrics takes tensors."""

        def get_text_features(self, *args: Any, **more: Any) -> Any:
            return _tensor(super().get_text_features(*args, **more))

        def get_image_features(self, *args: Any, **more: Any) -> Any:
            return _tensor(super().get_image_features(*args, **more))

    model = Plain(config).eval()

    def score(pixels: Picture, text: str) -> float:
        with torch.no_grad():
            picture = torch.from_numpy(pixels).permute(2, 0, 1)
            return float(clip_score(picture, text, lambda: (model, processor)))

    return score


def _tensor(features: Any) -> Any:
    return getattr(features, "pooler_output", features)
