"""From a finished training to what ships: copies, counts, losses and their curves. 24 MiB, nothing twice.

The ordinary CLIP ships its vision tower alone (`clip/`): its text tower is the pipeline's text encoder. The bag encoder
does not ship: it is the text encoder's token vectors (`clip_pair.bag_encoder`).
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from pathlib import Path

from promptlab.errors import ModelError
from promptlab.miniature.loop import save_tensors
from promptlab.miniature.pool import scene
from promptlab.miniature.recipe import STAGES, Preset
from promptlab.miniature.world import HELD_OUT, PAIRS

__all__ = ["curves", "pair_counts", "ship"]

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
