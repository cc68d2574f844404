"""`promptlab miniature train`: from nothing to a complete latent-diffusion system, stage by stage, resumable.

    pool --> vae --> parser
              |  --> latents --+
    pool --> clip --> bag -----+--> denoiser --> pipeline
    pool --> scorer

Each stage leaves its final weights in `OUT/` and its checkpoint and log in `OUT/work/`; a stage whose final weights
exist is skipped, so the same command goes on where an interrupted one stopped.

From a finished training to what ships: copies, counts, losses and their curves. 24 MiB, nothing twice.

The ordinary CLIP ships its vision tower alone (`clip/`): its text tower is the pipeline's text encoder. The bag encoder
does not ship: it is the text encoder's token vectors (`clip_pair.bag_encoder`).

Going on from what ships: train some stages further, take the others as they are.

A finished miniature holds no optimizer state, so a stage that goes on begins its schedule anew, from the shipped
weights. Stages that are not trained are put in place as if they had just been finished.
"""

from __future__ import annotations

import csv
import json
import math
import platform
import shutil
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.errors import DiskError, ModelError, PromptlabError, nearest
from promptlab.miniature.train.data import scene
from promptlab.miniature.train.loop import Fit, Report, save_tensors, warm_file
from promptlab.miniature.world import HELD_OUT, PAIRS

__all__ = ["STAGES", "Preset", "curves", "load_preset", "pair_counts", "presets", "ship", "train", "warm_start"]

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
    folder = resources.files("promptlab.miniature.train") / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_preset(name: str) -> Preset:
    """A preset by name, or from a TOML file of one's own. Raises PromptlabError for an unknown name or a bad file."""
    known = presets()
    path = Path(name)
    if name in known:
        text = (resources.files("promptlab.miniature.train") / "presets" / f"{name}.toml").read_bytes()
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
        from promptlab.miniature.train.data import fill

        return fill(self.work, self.preset.seed, self.preset.table["scenes"], self.report)

    @cached_property
    def vae(self) -> Any:
        from diffusers import AutoencoderKL

        from promptlab.miniature.train.loop import device
        from promptlab.miniature.train.networks import train_vae

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
        from promptlab.miniature.train.networks import encode_pool

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

        from promptlab.miniature.clip import build_clip, save_clip, train_clip
        from promptlab.miniature.train.loop import device

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
        from promptlab.miniature.clip import bag_encoder, text_encoder

        encoder = text_encoder(self.clip, self.preset.shape("clip")[0])
        return encoder, bag_encoder(encoder)

    # The stages, by name.

    def make_vae(self) -> None:
        _ = self.vae

    def make_parser(self) -> None:
        import torch

        from promptlab.miniature.parser import train_parser
        from promptlab.miniature.train.data import fill

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
        from promptlab.miniature.train.networks import save_pipeline, train_denoiser

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


_COLOURS = {"vae": "#0072B2", "parser": "#009E73", "clip": "#E69F00", "denoiser": "#D55E00", "scorer": "#CC79A7"}


def ship(out: Path, folder: Path, preset: Preset) -> None:
    """Copy the finished training in `out` to `folder`, with pair counts and loss curves.

    Raises ModelError when a stage is not finished.
    """
    parts = ("pipeline/model_index.json", "clip/open_clip_model.safetensors", "scorer", "parser/model.safetensors")
    for part in parts:
        if not (out / part).exists():
            raise ModelError(f"{out / part} is missing: finish with promptlab miniature train --out {out}")
    for part in ("pipeline", "scorer", "parser"):
        shutil.rmtree(folder / part, ignore_errors=True)
        shutil.copytree(out / part, folder / part)
    _ship_vision(out / "clip", folder / "clip")
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):  # tokenizer.json says the same
        (folder / "scorer" / name).unlink(missing_ok=True)
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o644)  # safetensors writes for its owner alone
    with (folder / "pair_counts.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["noun", "colour", "things", "held_out"])
        writer.writerows(pair_counts(preset))
    logs = folder / "losses"
    logs.mkdir(exist_ok=True)
    for stage in STAGES:  # a stage that was taken over as it was keeps its log
        if (log := out / "work" / f"{stage}.jsonl").exists():
            shutil.copy(log, logs / log.name)
    (folder / "curves.svg").write_text(curves(logs), encoding="utf-8")


def _ship_vision(source: Path, folder: Path) -> None:
    from safetensors.torch import load_file

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tensors = load_file(source / "open_clip_model.safetensors")
    own = {k: v for k, v in tensors.items() if k.startswith("visual.") or k in ("logit_scale", "text_projection")}
    save_tensors(own, folder / "vision.safetensors")
    for name in ("open_clip_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)


def pair_counts(preset: Preset) -> list[tuple[str, str, int, bool]]:
    """How many things of each (noun, colour) the training pool shows: rows noun, colour, things, held out."""
    counts: Counter[tuple[str, str]] = Counter()
    for i in range(int(preset.table["scenes"])):
        counts.update((t.noun, t.colour) for t in scene(preset.seed, i).things)
    return [(*pair, counts[pair], pair in HELD_OUT) for pair in PAIRS]


def curves(logs: Path) -> str:
    """Loss of every stage against its share of steps, each on its own logarithmic scale: an SVG picture."""
    width, height, left, top = 760, 300, 50, 20
    lines, legend = [], []
    for k, stage in enumerate(s for s in STAGES if (logs / f"{s}.jsonl").exists()):
        rows = [json.loads(line) for line in (logs / f"{stage}.jsonl").read_text().splitlines()]
        rows = sorted({r["step"]: math.log(r["loss"]) for r in rows}.items())
        low, high, last = min(v for _, v in rows), max(v for _, v in rows), rows[-1][0]
        points = " ".join(
            f"{left + s / last * (width - 220):.1f},{top + (1 - (v - low) / max(high - low, 1e-9)) * (height - 60):.1f}"
            for s, v in rows
        )
        colour = _COLOURS[stage]
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = top + 20 + 44 * k
        text = f'<text x="{width - 150}" y="{y}" fill="{colour}" font-weight="bold">{stage}</text>'
        small = f"{math.exp(high):.3f} to {math.exp(low):.3f}, {last} steps"
        legend.append(f'{text}<text x="{width - 150}" y="{y + 16}" font-size="11">{small}</text>')
    low_left, turn = f'x="{left - 10}" y="{top + 190}"', f"rotate(-90 {left - 10} {top + 190})"
    axis = (
        f'<line x1="{left}" y1="{height - 40}" x2="{width - 170}" y2="{height - 40}" stroke="#888"/>'
        f'<line x1="{left}" y1="{top}" x2="{left}" y2="{height - 40}" stroke="#888"/>'
        f'<text x="{left}" y="{height - 15}">share of steps, 0 to 1</text>'
        f'<text {low_left} transform="{turn}">loss, own logarithmic scale</text>'
    )
    style = 'font-family="sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {style}>'
    return f'{head}<rect width="100%" height="100%" fill="white"/>{axis}{"".join(lines)}{"".join(legend)}</svg>\n'


def warm_start(source: Path, out: Path, stages: tuple[str, ...], preset: Preset) -> None:
    """Prepare `out` to train `stages` further from the miniature in `source`; what `out` has already stays.

    Raises ModelError when a part of `source` is missing.
    """
    if not (source / "pipeline" / "model_index.json").is_file():
        raise ModelError(f"no miniature in {source}: give a folder that `promptlab miniature ship` wrote")
    work = out / "work"
    for stage in STAGES:
        warm = warm_file(work, stage)
        if stage not in stages:
            _finish(stage, source, out, preset)
        elif not warm.exists():
            state = _opened(source, stage).state_dict().items()
            save_tensors({k: v.float() if v.is_floating_point() else v for k, v in state}, warm)


def _opened(source: Path, stage: str) -> Any:
    """The shipped weights of a stage, as the model that its training builds."""
    import open_clip
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    from promptlab.miniature.clip import shipped_clip
    from promptlab.miniature.parser import load_parser

    if stage == "vae":
        return AutoencoderKL.from_pretrained(source / "pipeline" / "vae")
    if stage == "denoiser":
        return UNet2DConditionModel.from_pretrained(source / "pipeline" / "unet")
    if stage == "parser":
        return load_parser(source / "parser")
    if stage == "scorer":
        return open_clip.create_model_and_transforms(f"local-dir:{source / stage}")[0]
    encoder = CLIPTextModel.from_pretrained(source / "pipeline" / "text_encoder", dtype=torch.float32)
    return shipped_clip(source / "clip", encoder)


def _finish(stage: str, source: Path, out: Path, preset: Preset) -> None:
    """Put a stage of `source` in place where `out` has none yet."""
    import shutil

    from promptlab.miniature.clip import save_clip

    if stage == "vae" and not (out / "work" / "vae").exists():
        _opened(source, stage).save_pretrained(out / "work" / "vae")
    elif stage in ("clip", "scorer") and not (out / stage).exists():
        save_clip(_opened(source, stage), preset.shape(stage), out / stage)
    elif stage == "parser" and not (out / stage).exists():
        shutil.copytree(source / stage, out / stage)
    # the denoiser ends in a pipeline, which is what the training is for
