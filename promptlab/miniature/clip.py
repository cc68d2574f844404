"""Two CLIP models of the miniature world, built and trained with open_clip's own classes.

`clip`, the ordinary pair: its text tower, causal with 77 slots, becomes the generator's encoder. In its batches every
picture meets a twin in which one thing is another noun (colours and settings alone would tell most pictures of a small
batch apart, and nouns would never be learned); which colour belongs to which thing, it need not learn.
`scorer`, the binding-aware judge: another seed, and every picture's colour-swapped twin in the same batch.
While either learns, a throw-away head names the noun of every place from the third stage of the picture tower: the
truth of every pixel is known, and silhouettes come in a tenth of the steps that whole captions take to teach them.
`bag`, no CLIP: token vectors of `clip` without position and without attention, the control that cannot know order.

References:
    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020).
    Yuksekgonul et al. 2023, When and Why Vision-Language Models Behave like Bags-of-Words (arXiv 2210.01936).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from promptlab.miniature.drawing import render
from promptlab.miniature.tokenizer import CONTEXT_LENGTH, END, VOCAB_SIZE, write_tokenizer
from promptlab.miniature.train.data import Pool, colour_twin, label_map, noun_twin
from promptlab.miniature.train.loop import Fit, Report, device, fit, save_tensors, step_rng
from promptlab.miniature.world import CANVAS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "WIDTH",
    "ClipTokens",
    "bag_encoder",
    "build_clip",
    "save_clip",
    "shipped_clip",
    "text_encoder",
    "train_clip",
]

WIDTH = 128
"""Width of both towers and of the joint space: the U-Net's cross-attention width."""

END_ID = VOCAB_SIZE - 1

LONG = 0.25
"""Share of the ordinary CLIP's steps with captions of any length: all 77 slots are trained, most steps are short."""

_PIXEL = 0.5


def clip_config(text_layers: int, vision_width: int) -> dict[str, Any]:
    """open_clip's model_cfg: its convolutional tower, one block a stage, `vision_width` channels in the first.

    Convolutions learn silhouettes from a tenth of the pictures that 16-pixel patches need.
    """
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": CANVAS, "width": vision_width, "layers": [1, 1, 1, 1]},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": VOCAB_SIZE,
            "hf_tokenizer_name": "miniature",
            "width": WIDTH,
            "heads": 4,
            "layers": text_layers,
            "pool_type": "eos",
            "eos_id": END_ID,
            "pad_id": END_ID,
        },
    }


def build_clip(text_layers: int, vision_width: int) -> Any:
    """An untrained open_clip CLIP."""
    from open_clip.model import CLIP

    config = clip_config(text_layers, vision_width)
    return CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])


class ClipTokens:
    """Calls turn texts to ids, int64 (n, 77), cut and padded as Stable Diffusion 1.x does."""

    def __init__(self, work: Path) -> None:
        from tokenizers import Tokenizer

        write_tokenizer(work / "tokenizer")
        self._tokenizer = Tokenizer.from_file(str(work / "tokenizer" / "tokenizer.json"))
        self._tokenizer.enable_truncation(CONTEXT_LENGTH)
        self._tokenizer.enable_padding(length=CONTEXT_LENGTH, pad_id=END_ID, pad_token=END)

    def __call__(self, texts: list[str]) -> Tensor:
        """Ids of `texts`, int64 (n, 77)."""
        import torch

        return torch.tensor([e.ids for e in self._tokenizer.encode_batch(texts)], device=device())


def train_clip(
    name: str,
    pool: Pool,
    shape: tuple[int, int],
    plan: Fit,
    seed: int,
    work: Path,
    report: Report,
    *,
    swapped: bool,
) -> Any:
    """Train a CLIP with `shape` = (text layers, vision width) on the pool.

    Half of every batch are twins of the other half, pictures and captions: with another noun, or, where `swapped`, with
    two colours exchanged, so that no picture can be told from its twin by which words occur.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import cross_entropy

    from promptlab.miniature.train.data import places_head

    torch.manual_seed(seed)
    model = build_clip(*shape).to(device(), memory_format=torch.channels_last)
    stage = model.visual.layer3
    model.places = places_head(stage, stage[-1].conv3.out_channels).to(device())
    tokenize = ClipTokens(work)
    twin_of = colour_twin if swapped else noun_twin

    def loss_of(step: int) -> Tensor:
        rng = step_rng(seed, step)
        rows = np.sort(rng.choice(len(pool), plan.batch // 2, replace=False))
        length: Literal["any", "short"] = "any" if rng.random() < LONG and not swapped else "short"
        seeds = rng.integers(2**63, size=len(rows))
        pairs = [twin_of(pool.scene(int(i)), int(k), length) for i, k in zip(rows, seeds, strict=True)]
        texts = [text for pair in pairs for text in pair[1:]]
        twins = [(twin, render(twin)) for twin, *_ in pairs]
        nouns = [label_map(twin.things, drawn.ground_truth)[0] for twin, drawn in twins]
        pixels = _alternate(pool.pixels[rows], [drawn.image for _, drawn in twins])
        labels = _alternate(pool.labels[rows, 0], nouns)
        images = torch.tensor(pixels, device=device()).permute(0, 3, 1, 2)
        u = model.encode_image((images.float() / 255 - _PIXEL) / _PIXEL, normalize=True).float()
        v = encode_text(model, tokenize(texts))
        logits = model.logit_scale.exp().clamp(max=100) * u @ v.T
        target = torch.arange(len(texts), device=logits.device)
        pairing: Tensor = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        places: Tensor = model.places.loss(torch.tensor(labels, device=device()))
        return pairing + places

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel's backward is many times slower on CPUs in bfloat16
        fit(name, model, loss_of, plan, work, report)
    model.places.leave()
    del model.places
    return model.eval()


def _alternate(first: Sequence[np.ndarray] | np.ndarray, second: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([x for both in zip(first, second, strict=True) for x in both])


def encode_text(clip: Any, ids: Tensor) -> Tensor:
    """open_clip's `encode_text(ids, normalize=True)`, float32 (n, WIDTH), without the slots behind the last end mark.

    The tower is causal and reads its vector at the first end mark, so what stands behind changes nothing.
    """
    import torch

    end = (ids == END_ID).int().argmax(1)
    n = int(end.max()) + 1
    x = clip.token_embedding(ids[:, :n]) + clip.positional_embedding[:n]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:n, :n]))
    x = x[torch.arange(len(x), device=x.device), end] @ clip.text_projection
    return torch.nn.functional.normalize(x.float(), dim=-1)


def save_clip(model: Any, shape: tuple[int, int], folder: Path) -> None:
    """Write an fp16 checkpoint that `open_clip.create_model_and_transforms("local-dir:<folder>")` loads."""
    import torch

    tensors = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in model.state_dict().items()}
    tensors = {k: v for k, v in tensors.items() if k != "attn_mask"}
    save_tensors(tensors, folder / "open_clip_model.safetensors")
    preprocess = {
        "size": CANVAS,
        "mode": "RGB",
        "mean": [_PIXEL] * 3,
        "std": [_PIXEL] * 3,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": clip_config(*shape), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_tokenizer(folder)


def _hf_config(layers: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        hidden_act="gelu",
        projection_dim=WIDTH,
        bos_token_id=END_ID - 1,
        eos_token_id=END_ID,
        pad_token_id=END_ID,
    )


def text_encoder(clip: Any, layers: int) -> Any:
    """The text tower of an open_clip model as transformers' CLIPTextModel: the same numbers in other names."""
    from transformers import CLIPTextModel

    model = CLIPTextModel(_hf_config(layers))
    prefix = "text_model." if any(k.startswith("text_model.") for k in model.state_dict()) else ""
    source = clip.state_dict()
    out = {
        "embeddings.token_embedding.weight": source["token_embedding.weight"],
        "embeddings.position_embedding.weight": source["positional_embedding"],
        "final_layer_norm.weight": source["ln_final.weight"],
        "final_layer_norm.bias": source["ln_final.bias"],
    }
    for i in range(layers):
        old, new = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            for name, part in zip(("q", "k", "v"), source[f"{old}attn.in_proj_{kind}"].chunk(3), strict=True):
                out[f"{new}self_attn.{name}_proj.{kind}"] = part
            out[f"{new}self_attn.out_proj.{kind}"] = source[f"{old}attn.out_proj.{kind}"]
            out[f"{new}layer_norm1.{kind}"] = source[f"{old}ln_1.{kind}"]
            out[f"{new}layer_norm2.{kind}"] = source[f"{old}ln_2.{kind}"]
            out[f"{new}mlp.fc1.{kind}"] = source[f"{old}mlp.c_fc.{kind}"]
            out[f"{new}mlp.fc2.{kind}"] = source[f"{old}mlp.c_proj.{kind}"]
    missing, unexpected = model.load_state_dict({prefix + k: v for k, v in out.items()}, strict=False)
    if unexpected or any("position_ids" not in name for name in missing):
        raise ValueError(f"text towers differ: missing {missing}, unexpected {unexpected}")
    return model.to(device()).eval()


def bag_encoder(encoder: Any) -> Any:
    """`encoder`'s token vectors alone: no position, no layer. Any order of words gives the same set of states."""
    import torch
    from transformers import CLIPTextModel

    model = CLIPTextModel(_hf_config(0))
    source = encoder.state_dict()
    state = {k: source[k].clone() for k in model.state_dict() if k in source and "position_ids" not in k}
    for key in state:
        if "position_embedding" in key:
            state[key] = torch.zeros_like(state[key])
    model.load_state_dict(state, strict=False)
    return model.to(device()).eval()


def shipped_clip(vision: Path, encoder: Any) -> Any:
    """The ordinary CLIP as it ships: vision tower and projection from `vision`, text tower from the pipeline's encoder.

    Args:
        vision: the folder `clip/` of the miniature.
        encoder: the pipeline's CLIPTextModel; the inverse of `text_encoder`.
    """
    import torch
    from safetensors.torch import load_file

    config = json.loads((vision / "open_clip_config.json").read_text())["model_cfg"]
    layers = int(config["text_cfg"]["layers"])
    model = build_clip(layers, int(config["vision_cfg"]["width"]))
    source = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    state = load_file(vision / "vision.safetensors") | {
        "token_embedding.weight": source["embeddings.token_embedding.weight"],
        "positional_embedding": source["embeddings.position_embedding.weight"],
        "ln_final.weight": source["final_layer_norm.weight"],
        "ln_final.bias": source["final_layer_norm.bias"],
    }
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for i in range(layers):
        old, new = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            qkv = [source[f"{new}self_attn.{name}_proj.{kind}"] for name in ("q", "k", "v")]
            state[f"{old}attn.in_proj_{kind}"] = torch.cat(qkv)
            state[f"{old}attn.out_proj.{kind}"] = source[f"{new}self_attn.out_proj.{kind}"]
            for ours, theirs in names.items():
                state[f"{old}{ours}.{kind}"] = source[f"{new}{theirs}.{kind}"]
    model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    return model.eval()
