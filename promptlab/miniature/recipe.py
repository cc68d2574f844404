"""`promptlab miniature train`: from nothing to a complete latent-diffusion system, stage by stage, resumable.

    pool --> vae --> parser
              |  --> latents --+
    pool --> clip --> bag -----+--> denoiser --> pipeline
    pool --> scorer

Each stage leaves its final weights in `OUT/` and its checkpoint and log in `OUT/work/`; a stage whose final weights
exist is skipped, so the same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import platform
import shutil
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.errors import DiskError, ModelError, PromptlabError, nearest
from promptlab.miniature.loop import Fit, Report, save_tensors

__all__ = ["STAGES", "Preset", "load_preset", "presets", "train"]

STAGES = ("vae", "parser", "clip", "denoiser", "scorer")
_SHAPES = {
    "vae": ("channels", "decoder_only"),
    "parser": ("width",),
    "clip": ("text_layers", "vision_width"),
    "denoiser": ("channels", "heads", "scenes", "shards"),
    "scorer": ("text_layers", "vision_width"),
}
"""What a stage's table says of its model."""
_ROOM = {"smoke": 1, "cpu": 6, "gpu": 16}
"""GiB that a preset needs on disk."""


@dataclass(frozen=True)
class Preset:
    """The settings of one recipe, as in its TOML file."""

    name: str
    table: dict[str, Any]

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return int(self.table["seed"])

    def fit(self, stage: str) -> Fit:
        """The training plan of a stage. Raises PromptlabError for a setting that no stage knows."""
        if not isinstance(self.table[stage], dict):
            raise TypeError(f"[{stage}] is no table")
        known = (*Fit.__dataclass_fields__, *_SHAPES[stage])
        for key in self.table[stage]:
            if key not in known:
                allowed = ", ".join(known)
                raise PromptlabError(
                    f"preset {self.name}, [{stage}]: no setting {key!r}: allowed are {allowed}{nearest(key, known)}"
                )
        return Fit(**{k: v for k, v in self.table[stage].items() if k in Fit.__dataclass_fields__})

    def shape(self, stage: str) -> tuple[int, int]:
        """Text layers and vision width of a CLIP stage."""
        return int(self.table[stage]["text_layers"]), int(self.table[stage]["vision_width"])


def presets() -> tuple[str, ...]:
    """Names of the presets that ship."""
    folder = resources.files("promptlab.miniature") / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_preset(name: str) -> Preset:
    """A preset by name, or from a TOML file of one's own. Raises PromptlabError for an unknown name or a bad file."""
    known = presets()
    path = Path(name)
    if name in known:
        text = (resources.files("promptlab.miniature") / "presets" / f"{name}.toml").read_bytes()
    elif path.suffix == ".toml" and path.is_file():
        text = path.read_bytes()
    else:
        choice = f"choose {', '.join(known)} or a .toml file"
        raise PromptlabError(f"unknown preset {name!r}: {choice}{nearest(name, known)}")
    try:
        table = tomllib.loads(text.decode("utf-8"))
        preset = Preset(path.stem, table)
        for key in ("seed", "scenes", "parser_scenes"):
            int(table[key])
        for stage in STAGES:
            preset.fit(stage)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PromptlabError(f"preset {name}: {error!r}; compare with promptlab/miniature/presets/cpu.toml") from error
    return preset


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What cannot be read of an earlier run is named, with the cure."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # safetensors, numpy, torch and diffusers each raise their own
        cause = str(error).splitlines()[0][:120]
        raise ModelError(f"damaged: {path} ({cause}); delete it and run the same command to make it again") from error


class _Recipe:
    """The stages of one training, each made from those before it when first asked for."""

    def __init__(self, preset: Preset, out: Path, report: Report) -> None:
        self.preset, self.out, self.report = preset, out, report
        self.work = out / "work"

    @cached_property
    def pool(self) -> Any:
        from promptlab.miniature.pool import fill

        return fill(self.work, self.preset.seed, self.preset.table["scenes"], self.report)

    @cached_property
    def vae(self) -> Any:
        from diffusers import AutoencoderKL

        from promptlab.miniature.loop import device
        from promptlab.miniature.vae import train_vae

        folder = self.work / "vae"
        if not (folder / "config.json").exists():
            table = self.preset.table["vae"]
            vae = train_vae(
                self.pool,
                tuple(table["channels"]),
                self.preset.fit("vae"),
                self.preset.seed,
                self.work,
                self.report,
                decoder_only=bool(table.get("decoder_only", False)),
            )
            vae.save_pretrained(folder)
        import torch

        with _reading(folder):
            vae = AutoencoderKL.from_pretrained(folder)
        return vae.to(device(), memory_format=torch.channels_last).eval()

    @cached_property
    def latents(self) -> np.ndarray:
        from promptlab.miniature.vae import encode_pool

        path = self.work / "latents.npy"
        if not path.exists():
            count = int(self.preset.table["denoiser"]["scenes"])
            np.save(path.with_suffix(".part.npy"), encode_pool(self.vae, self.pool.pixels[:count], self.report))
            path.with_suffix(".part.npy").rename(path)
        with _reading(path):
            return np.load(path)  # type: ignore[no-any-return]

    @cached_property
    def clip(self) -> Any:
        return self._clip("clip", swapped=False)

    def _clip(self, name: str, *, swapped: bool) -> Any:
        from safetensors.torch import load_file

        from promptlab.miniature.clip_pair import build_clip, save_clip, train_clip
        from promptlab.miniature.loop import device

        folder, shape = self.out / name, self.preset.shape(name)
        if (folder / "open_clip_model.safetensors").exists():
            model = build_clip(*shape)
            with _reading(folder):
                model.load_state_dict(load_file(folder / "open_clip_model.safetensors"), strict=False)
            return model.float().to(device()).eval()
        seed = self.preset.seed + (100 if swapped else 0)
        plan = self.preset.fit(name)
        model = train_clip(name, self.pool, shape, plan, seed, self.work, self.report, swapped=swapped)
        save_clip(model, shape, folder)
        return model

    @cached_property
    def encoders(self) -> tuple[Any, Any]:
        from promptlab.miniature.clip_pair import bag_encoder, text_encoder

        encoder = text_encoder(self.clip, self.preset.shape("clip")[0])
        return encoder, bag_encoder(encoder)

    # The stages, by name.

    def make_vae(self) -> None:
        _ = self.vae

    def make_parser(self) -> None:
        import torch

        from promptlab.miniature.parser_training import train_parser
        from promptlab.miniature.pool import fill

        path = self.out / "parser" / "model.safetensors"
        if path.exists():
            return
        pool = fill(self.work, self.preset.seed, self.preset.table["parser_scenes"], self.report, kind="parser")
        width = int(self.preset.table["parser"]["width"])
        plan = self.preset.fit("parser")
        model = train_parser(pool, self.vae, width, plan, self.preset.seed, self.work, self.report)
        tensors = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in model.state_dict().items()}
        save_tensors(tensors, path, {"width": str(width)})

    def make_clip(self) -> None:
        _ = self.clip

    def make_scorer(self) -> None:
        self._clip("scorer", swapped=True)

    def make_denoiser(self) -> None:
        from promptlab.miniature.denoiser import train_denoiser
        from promptlab.miniature.pipeline import save_pipeline

        if (self.out / "pipeline" / "model_index.json").exists():
            return
        encoder, bag = self.encoders
        table = self.preset.table["denoiser"]
        unet = train_denoiser(
            self.pool,
            self.latents,
            float(self.vae.config.scaling_factor),
            encoder,
            bag,
            tuple(table["channels"]),
            int(table["heads"]),
            int(table.get("shards", 1)),
            self.preset.fit("denoiser"),
            self.preset.seed,
            self.work,
            self.report,
        )
        save_pipeline(self.vae, encoder, unet, self.out)


def train(preset: Preset, out: Path, report: Report, stages: tuple[str, ...] = STAGES) -> None:
    """Run `stages` of the recipe into `out`, skipping what is finished and resuming what is not.

    Raises:
        DiskError: too little room, before anything is drawn; or the disk filled up (the last checkpoint is kept).
        ModelError: a corrupt checkpoint (named, with the cure).
        PromptlabError: an unknown stage.
    """
    for stage in stages:
        if stage not in STAGES:
            raise PromptlabError(f"unknown stage {stage!r}: choose from {', '.join(STAGES)}{nearest(stage, STAGES)}")
    try:
        (out / "work").mkdir(parents=True, exist_ok=True)
        need = _ROOM.get(preset.name, 6)
        free = shutil.disk_usage(out).free / 2**30
        if free < need:
            raise DiskError(f"{out} has {free:.1f} GiB free, preset {preset.name} needs {need}: free some room")
        recipe = _Recipe(preset, out, report)
        report(f"recipe {preset.name} on {platform.machine()}, python {platform.python_version()}, into {out}")
        for stage in stages:
            began = time.monotonic()
            getattr(recipe, f"make_{stage}")()
            report(f"{stage}: ready ({(time.monotonic() - began) / 60:.1f} min)")
    except PromptlabError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) == 28 or "os error 28" in str(error):  # safetensors has an error of its own
            raise DiskError(f"the disk of {out} is full: free some room and run the same command again") from error
        if isinstance(error, OSError):
            raise ModelError(f"cannot read or write {error.filename or out}: {error.strerror or error}") from error
        raise
