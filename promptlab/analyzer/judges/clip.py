"""CLIP similarity with nothing left to guess: which model, which weights, which preprocessing, how much text was read.

    u, v     unit vectors of a picture and of a text, float32 (n, d)
    cosine   u . v, -1..1: raw, without CLIPScore's factor 2.5 and cut at 0, and without torchmetrics' factor 100
    scale    the model's own inverse temperature, exp(logit_scale); recorded, never applied

Numbers of two models, or of one model under two preprocessings, do not compare; hence `Clip.provenance`. Pictures go
through the checkpoint's own preprocessing. Where that would crop one that is not square, it is letterboxed instead
(open_clip's "longest"), since what is cropped away cannot be scored. Texts that are too long keep the end mark, from
which CLIP reads its vector. Weights are safetensors on this disk; nothing is downloaded. Where a model's files lie and
what they hash to is told without importing torch.

References:
    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020).
    Hessel et al. 2021, CLIPScore: A Reference-free Evaluation Metric for Image Captioning (arXiv 2104.08718).
    Cherti et al. 2023, Reproducible Scaling Laws for Contrastive Language-Image Learning (arXiv 2212.07143): open_clip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promptlab.errors import ModelError, nearest

__all__ = [
    "SHIPPED",
    "VISION",
    "Clip",
    "Length",
    "checkpoint_of",
    "config_of",
    "cosine",
    "folder_of",
    "identity",
    "load_clip",
    "sha256",
    "text_weights",
]

ROWS = 16
"""Rows of every call of a model, the last call padded: a vector's bits do not depend on what is encoded with it."""
MAX_CACHED = 20_000
Unit = NDArray[np.float32]
_Content = tuple[tuple[int, ...], bytes]


class Length(NamedTuple):
    """Tokens of a text with the marks of beginning and end, and how many the model reads."""

    tokens: int
    limit: int

    @property
    def truncated(self) -> bool:
        """Whether the model misses the end of the text."""
        return self.tokens > self.limit


class Clip:
    """A CLIP model and its preprocessing. Made by `load_clip`.

    Attributes:
        provenance: what the numbers depend on, as plain data.
    """

    def __init__(self, model: Any, preprocess: Any, tokenizer: Any, provenance: dict[str, Any]) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        config = PreprocessCfg(**model.visual.preprocess_cfg)
        size = (config.size, config.size) if isinstance(config.size, int) else tuple(config.size)
        self._height, self._width = size
        self._mean, self._std = np.float32(config.mean), np.float32(config.std)
        self._model, self._preprocess, self._tokenizer = model, preprocess, tokenizer
        config.resize_mode = "longest"
        self._letterbox = image_transform_v2(config, is_train=False)
        self._known: dict[str, Unit] = {}
        self._seen: dict[_Content, Unit] = {}
        self.provenance = provenance

    def images(self, pixels: NDArray[np.uint8]) -> Unit:
        """Unit vectors (n, d) of pictures (n, height, width, 3), uint8 sRGB of one size."""
        import torch

        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
            raise ValueError(f"pictures are uint8 (n, height, width, 3), given {pixels.dtype} {pixels.shape}")
        vectors = []
        with torch.inference_mode():
            for start in range(0, len(pixels), ROWS):
                ready = self._prepared(pixels[start : start + ROWS])
                vectors.append(self._model.encode_image(_padded(ready), normalize=True)[: len(ready)].float().numpy())
        return np.concatenate(vectors) if vectors else np.zeros((0, self._dimension), np.float32)

    def _prepared(self, pixels: NDArray[np.uint8]) -> Any:
        """What open_clip's own transform gives, (n, 3, height, width); pictures of the right size skip Pillow."""
        import torch
        from PIL import Image

        height, width = pixels.shape[1:3]
        if (height, width) == (self._height, self._width):
            scaled = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
            mean, std = (torch.from_numpy(x)[:, None, None] for x in (self._mean, self._std))
            return (scaled - mean) / std
        whole = height * self._width == width * self._height
        transform = self._preprocess if whole else self._letterbox
        return torch.stack([transform(Image.fromarray(picture)) for picture in pixels])

    def pictures(self, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, Unit]:
        """Unit vectors (d,) of pictures (height, width, 3) of any size, by the picture's key.

        Several probes ask about the same pictures, so vectors are remembered by what the pictures hold.
        """
        content = {key: (picture.shape, _digest(picture)) for key, picture in pictures.items()}
        if len(self._seen) + len(content) > MAX_CACHED:
            self._seen.clear()
        sizes: dict[tuple[int, ...], dict[_Content, NDArray[np.uint8]]] = {}
        for key, picture in pictures.items():
            if content[key] not in self._seen:
                sizes.setdefault(picture.shape, {})[content[key]] = picture
        for some in sizes.values():
            self._seen.update(zip(some, self.images(np.stack(list(some.values()))), strict=True))
        return {key: self._seen[content[key]] for key in pictures}

    def texts(self, texts: Sequence[str]) -> Unit:
        """Unit vectors (n, d) of texts; each text is encoded once."""
        import torch

        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(new) > MAX_CACHED:
            self._known.clear()
            new = list(dict.fromkeys(texts))
        with torch.inference_mode():
            for start in range(0, len(new), ROWS):
                some = new[start : start + ROWS]
                tokens = self._tokenizer([self._prefix + text for text in some])
                vectors = self._model.encode_text(_padded(tokens), normalize=True)[: len(some)].float().numpy()
                self._known.update(zip(some, vectors, strict=True))
        if not texts:
            return np.zeros((0, self._dimension), np.float32)
        return np.stack([self._known[text] for text in texts])

    def tokens(self, text: str) -> Length:
        """How long a text is, prefix included, and how much of it the model reads."""
        whole = self._prefix + text
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is None:
            count = len(self._tokenizer.encode(self._tokenizer.clean_fn(whole))) + 2
        else:
            # verbose=False: transformers warns of long texts, which is what is asked here.
            count = len(inner(self._tokenizer.clean_fn(whole), verbose=False).input_ids)
        return Length(count, int(self.provenance["context_length"]))

    @property
    def _prefix(self) -> str:
        return str(self.provenance["prefix"])

    @property
    def _dimension(self) -> int:
        return int(self.provenance["dimension"])


def _padded(rows: Any) -> Any:
    """ROWS rows of a tensor that has as many or fewer, the last one repeated."""
    import torch

    return torch.cat([rows, rows[-1:].expand(ROWS - len(rows), *rows.shape[1:])])


def _digest(picture: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest()


def cosine(picture: Unit, text: Unit) -> float:
    """Cosine of two unit vectors, kept within -1..1 against rounding."""
    return float(np.clip(picture @ text, -1, 1))


def load_clip(name: str = "miniature", checkpoint: str | Path | None = None, prefix: str = "") -> Clip:
    """Open a CLIP model in float32 on the CPU, once a process.

    Args:
        name: a model that ships (`SHIPPED`), `local-dir:/path` to a folder with `open_clip_config.json` and weights,
            or a name that open_clip knows, such as `ViT-B-32`, with its `checkpoint`. Weights of OpenAI were trained
            with another activation: they need the names that end in `-quickgelu`.
        checkpoint: a safetensors file, for names that open_clip knows.
        prefix: put before every text, such as CLIPScore's "A photo depicts ".

    Raises:
        ModelError: no such model here, or its files cannot be used.
    """
    weights = checkpoint_of(name, checkpoint)
    return _open(name, weights, prefix, weights.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _open(name: str, weights: Path, prefix: str, _changed: int) -> Clip:
    import open_clip

    config = config_of(name)
    local = name in SHIPPED or name.startswith("local-dir:")
    source = f"local-dir:{folder_of(name)}" if local else name
    try:
        if weights.name == VISION:
            model, preprocess = _joined(weights.parent)
        else:
            model, _, preprocess = open_clip.create_model_and_transforms(source, None if local else str(weights))
        tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:  # open_clip raises whatever the file makes torch or json raise
        raise ModelError(f"cannot load the CLIP model {name!r} from {weights}: {str(error).splitlines()[0]}") from error
    model.eval()
    cfg = model.visual.preprocess_cfg
    provenance = {
        "model": name,
        "checkpoint": weights.name,
        "sha256": identity(name, None if local else weights)["weights"],
        "activation": "quickgelu" if config.get("quick_gelu") else "gelu",
        "precision": "fp32",
        "size": cfg["size"],
        "resize_mode": cfg["resize_mode"],
        "resize_mode_not_square": "longest",
        "interpolation": cfg["interpolation"],
        "prefix": prefix,
        "scale": float(model.logit_scale.detach().exp()),
        "context_length": int(tokenizer.context_length),
        "dimension": int(config["embed_dim"]),
        "open_clip": open_clip.__version__,
    }
    return Clip(model, preprocess, tokenizer, provenance)


def _joined(folder: Path) -> tuple[Any, Any]:
    """The ordinary CLIP that ships, from its vision tower and the pipeline's text encoder, with its preprocessing."""
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from transformers import CLIPTextModel
    from transformers.utils import logging

    from promptlab.miniature.clip import shipped_clip

    logging.disable_progress_bar()
    text = CLIPTextModel.from_pretrained(text_weights().parent, dtype=torch.float32, local_files_only=True)
    model = shipped_clip(folder, text)
    given = json.loads((folder / "open_clip_config.json").read_text("utf-8"))["preprocess_cfg"]
    cfg = PreprocessCfg(**{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])})
    model.visual.preprocess_cfg = vars(cfg)
    return model, image_transform_v2(cfg, is_train=False)


SHIPPED = {"miniature": "clip", "miniature-scorer": "scorer"}
"""Models that ship, by name: the ordinary CLIP of the miniature world, and its judge that was taught binding."""

# open_clip prefers a pickle to a safetensors file of any other name, so only these are let in.
VISION = "vision.safetensors"
"""A vision tower whose text tower is the miniature's text encoder."""
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", VISION)


def checkpoint_of(name: str, checkpoint: str | Path | None = None) -> Path:
    """The file of weights of a model, as `load_clip` finds it; imports no torch. Raises ModelError."""
    if name in SHIPPED or name.startswith("local-dir:"):
        if checkpoint is not None:
            raise ModelError(f"model {name!r} has its own weights; leave the checkpoint {str(checkpoint)!r} out")
        folder = folder_of(name)
        found = [folder / file for file in WEIGHTS if (folder / file).is_file()]
        if not (folder / "open_clip_config.json").is_file() or not found:
            cure = "; make it with `promptlab miniature train`" if name in SHIPPED else ""
            need = f"open_clip_config.json and {' or '.join(WEIGHTS)}"
            raise ModelError(f"no CLIP model in {folder}: it needs {need}{cure}")
        return found[0]
    if checkpoint is None:
        known = ", ".join(SHIPPED)
        message = f"no weights for the CLIP model {name!r}: give its checkpoint (a safetensors file), local-dir:/path"
        raise ModelError(f"{message}, or one of {known}{nearest(name, SHIPPED)}")
    path = Path(checkpoint).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelError(f"the checkpoint of {name!r} must be a safetensors file on this disk, given {str(path)!r}")
    return path


def identity(name: str, checkpoint: str | Path | None = None, prefix: str = "") -> dict[str, str]:
    """What makes numbers of a model comparable, as plain data without paths; imports no torch. Raises ModelError."""
    weights = checkpoint_of(name, checkpoint)
    local = name in SHIPPED or name.startswith("local-dir:")
    config = sha256(weights.with_name("open_clip_config.json")) if local else name
    parts = [sha256(weights)] + ([sha256(text_weights())] if weights.name == VISION else [])
    return {"weights": "+".join(parts), "config": config, "prefix": prefix}


def text_weights() -> Path:
    """The text tower of the ordinary CLIP that ships: the pipeline's text encoder, which is not stored twice."""
    from promptlab.resources import shipped_folder

    return shipped_folder() / "pipeline" / "text_encoder" / "model.safetensors"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return _sha256(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_of(name: str) -> Path:
    """The folder of a model that ships or of a local-dir name."""
    if name in SHIPPED:
        from promptlab.resources import shipped_folder

        return shipped_folder() / SHIPPED[name]
    return Path(name.removeprefix("local-dir:")).expanduser()


def config_of(name: str) -> dict[str, Any]:
    """open_clip's model_cfg. Refuses what open_clip would fetch from elsewhere."""
    import open_clip

    if name in SHIPPED or name.startswith("local-dir:"):
        path = folder_of(name) / "open_clip_config.json"
        try:
            config = json.loads(path.read_text("utf-8"))["model_cfg"]
            fetches = "hf_model_name" in config["text_cfg"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} is no configuration of open_clip: {error!r}") from error
    else:
        config = open_clip.get_model_config(name)
        if config is None:
            raise ModelError(f"open_clip knows no model {name!r}{nearest(name, open_clip.list_models())}")
        text = config["text_cfg"]
        fetches = "hf_model_name" in text or "hf_tokenizer_name" in text or "siglip" in name.lower()
    if fetches:
        raise ModelError(f"model {name!r} would fetch its tokenizer or tower; use a folder with all: local-dir:/path")
    return dict(config)
