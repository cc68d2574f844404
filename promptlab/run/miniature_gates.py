"""Whether the shipped miniature is good enough to study: its gates, and the parts of its model card that show them.

Every gate is a rate over images or things whose truth is known, with its count and Wilson's 95 % interval. Prompts are
new captions of scenes that no training used. The stock pipeline makes the images at guidance 5 in 25 steps. The numbers
describe the miniature alone, never SDXL or FLUX.

The card shows a contact sheet of new prompts and the table of gates.
"""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from promptlab.analyzer.judges.outcomes import outcome
from promptlab.miniature.captions import describe
from promptlab.miniature.drawing import render
from promptlab.miniature.parser import Found, load_parser, parse
from promptlab.miniature.world import COLOURS, NOUNS, Scene, sample_scene, swap_colours
from promptlab.records import OUTCOMES, Binding
from promptlab.stats.paired import wilson

__all__ = [
    "Gate",
    "captioned_scenes",
    "contact_sheet",
    "evaluate",
    "gates_table",
    "load_pipeline",
    "sample",
    "write_card",
]

GUIDANCE, STEPS, BATCH = 5.0, 25, 16
FEW = 30
"""With fewer images than this, no rate is called equal to chance."""
_SEED = 77_000_000
"""Far from every training seed."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Gate:
    """One measured rate: `k` of `n`, its interval `low` to `high`, the wanted value, and whether it is met."""

    name: str
    k: int
    n: int
    rate: float | None
    low: float
    high: float
    wanted: str
    met: bool | None


def _gate(name: str, hits: Iterable[bool], wanted: str = "", least: float | None = None) -> Gate:
    rows = [bool(h) for h in hits]
    k, n = sum(rows), len(rows)
    low, high = wilson(k, n) if n else (0.0, 1.0)
    rate = k / n if n else None
    return Gate(name, k, n, rate, low, high, wanted, None if least is None or rate is None else rate >= least)


def sample(pipeline: Any, prompts: list[str], seeds: list[int], report: Report, what: str) -> np.ndarray:
    """Make images of `prompts`, uint8 (n, 128, 128, 3), with one CPU generator a row and BATCH rows a call."""
    import torch

    out = []
    began = time.monotonic()
    for start in range(0, len(prompts), BATCH):
        rows = slice(start, start + BATCH)
        made = pipeline(
            prompt=prompts[rows],
            guidance_scale=GUIDANCE,
            num_inference_steps=STEPS,
            generator=[torch.Generator("cpu").manual_seed(s) for s in seeds[rows]],
            output_type="np",
        ).images
        out.append((made * 255).round().astype(np.uint8))
        done = start + len(made)
        if (start // BATCH) % 4 == 3 or done == len(prompts):
            left = (time.monotonic() - began) / done * (len(prompts) - done)
            report(f"{what}: {done}/{len(prompts)} pictures, {left / 60:.1f} min left")
    return np.concatenate(out)


@dataclass(frozen=True)
class _Captioned:
    """A scene, its caption, the caption with two colours swapped, and what the caption claims."""

    scene: Scene
    text: str
    twin: str
    claims: tuple[Binding, ...]


def captioned_scenes(n: int, count: int, pairs: Literal["train", "held_out", "all"], start: int) -> list[_Captioned]:
    """Sample `n` new scenes of `count` things in different colours, with captions that name every colour."""
    out: list[_Captioned] = []
    i = start
    while len(out) < n:
        i += 1
        scene = sample_scene(np.random.default_rng([_SEED, i]), count=count, pairs=pairs)
        caption = describe(scene, np.random.default_rng([_SEED, i, 1]), length="short")
        named = {m.noun: m.colour for m in caption.mentioned}
        if len({t.colour for t in scene.things}) < count or any(named.get(t.noun) != t.colour for t in scene.things):
            continue
        twin = caption.text
        if count > 1:
            twin = describe(swap_colours(scene), np.random.default_rng([_SEED, i, 1]), length="short").text
        claims = tuple(Binding(m.noun, m.noun, m.colour) for m in caption.mentioned[:count])
        out.append(_Captioned(scene, caption.text, twin, claims))
    return out


def _named(found: tuple[Found, ...], noun: str) -> Found | None:
    same = [f for f in found if f.noun == noun]
    return max(same, key=lambda f: f.area) if same else None


def _things_right(scenes: list[Scene], pictures: np.ndarray, parser: Any) -> list[bool]:
    right = []
    for scene, found in zip(scenes, parse(pictures, parser), strict=True):
        for thing in scene.things:
            match = _named(found, thing.noun)
            right.append(match is not None and match.colour == thing.colour)
    return right


def _one_object(pipeline: Any, parser: Any, n: int, pairs: Literal["train", "held_out"], report: Report) -> list[Gate]:
    what = "one object" if pairs == "train" else "held-out pair"
    captioned = captioned_scenes(n, 1, pairs, 10_000_000 if pairs == "train" else 20_000_000)
    texts, claims = [a.text for a in captioned], [a.claims for a in captioned]
    pictures = sample(pipeline, texts, list(range(n)), report, what)
    seen = [_named(found, c[0].noun) for found, c in zip(parse(pictures, parser), claims, strict=True)]
    colour = [f is not None and f.colour == c[0].attribute for f, c in zip(seen, claims, strict=True)]
    wanted = [("noun", 0.95), ("both", 0.92)] if pairs == "train" else [("noun", None), ("both", None)]
    gates = [_gate(f"{what}: noun", [f is not None for f in seen], _at_least(wanted[0][1]), wanted[0][1])]
    with_noun = [c for f, c in zip(seen, colour, strict=True) if f is not None]
    least = 0.95 if pairs == "train" else None
    gates.append(_gate(f"{what}: colour, given the noun", with_noun, _at_least(least), least))
    gates.append(_gate(f"{what}: noun and colour", colour, _at_least(wanted[1][1]), wanted[1][1]))
    return gates


def _at_least(share: float | None) -> str:
    return "" if share is None else f">= {share:.0%}"


def _twin_claims(claims: tuple[Binding, ...]) -> tuple[Binding, ...]:
    first, second = claims
    return replace(first, attribute=second.attribute), replace(second, attribute=first.attribute)


def _two_objects(pipeline: Any, parser: Any, n: int, report: Report, *, bag: bool = False) -> list[Gate]:
    """The gates of two objects. With `bag`, half of the prompts are the other half's swapped twins, at the same seeds.

    A bag of words gives both prompts one image, right for one and swapped for the other, so chance is a half. For
    prompts without their twins chance is higher: of two pairings, the one that training showed more often is likelier.
    """
    what = "two objects, bag of words" if bag else "two objects"
    captioned = captioned_scenes(n // 2 if bag else n, 2, "train", 30_000_000)
    texts, claims, seeds = [a.text for a in captioned], [a.claims for a in captioned], list(range(len(captioned)))
    if bag:
        texts, seeds = [*texts, *(a.twin for a in captioned)], [*seeds, *seeds]
        claims = [*claims, *map(_twin_claims, claims)]
    pictures = sample(pipeline, texts, seeds, report, what)
    seen = [outcome(c, found) for c, found in zip(claims, parse(pictures, parser), strict=True)]
    tally = Counter(seen)
    present = [s for s in seen if s in ("correct", "swap", "leak", "other")]
    least = None if bag else 0.85
    gates = [_gate(f"{what}: both present", [s in present for s in seen], _at_least(least), least)]
    for name in OUTCOMES:
        pool = present if name in ("correct", "swap", "leak", "other") else seen
        condition = "given both present" if pool is present else "of all"
        gates.append(_gate(f"{what}: {name}, {condition}", [s == name for s in pool]))
    with_twins = ", beside the twins" if bag else ""
    chance = _gate(
        f"{what}: correct against swap{with_twins}", [s == "correct" for s in seen if s in ("correct", "swap")]
    )
    if bag:
        alone = [s == "correct" for s in seen[: len(captioned)] if s in ("correct", "swap")]
        gates.append(_gate(f"{what}: correct against swap, prompts as trained, without their twins", alone))
        met = chance.low <= 0.5 <= chance.high if chance.n >= FEW else None
        gates.append(Gate(**{**asdict(chance), "wanted": "interval holds 50%", "met": met}))
    else:
        share = tally["correct"] / max(1, len(present))
        met = share <= 0.98 if len(present) >= FEW else None
        gates[1] = Gate(**{**asdict(gates[1]), "wanted": "<= 98% (leaves something to study)", "met": met})
        gates.append(chance)
    return gates


def _scorer(name: str, n: int) -> Gate:
    """Share of rendered two-object images whose true caption scores above the colour-swapped one."""
    from promptlab.analyzer.judges.clip import load_clip

    clip = load_clip(name)
    captioned = captioned_scenes(n, 2, "all", 50_000_000)
    u = clip.images(np.stack([render(a.scene).image for a in captioned]))
    true = (u * clip.texts([a.text for a in captioned])).sum(1)
    false = (u * clip.texts([a.twin for a in captioned])).sum(1)
    least = 0.97 if name.endswith("scorer") else None
    label = "binding-aware scorer" if least else "ordinary CLIP"
    return _gate(f"{label}: true caption above swapped", true > false, _at_least(least), least)


def _zero_shot(name: str, n: int) -> list[Gate]:
    """Share of rendered single things whose noun, of 14, and colour, of 10, a CLIP model names."""
    from promptlab.analyzer.judges.clip import load_clip

    clip = load_clip(name)
    things = [a.scene for a in captioned_scenes(n, 1, "all", 50_000_000)]
    u = clip.images(np.stack([render(scene).image for scene in things]))
    label = "binding-aware scorer" if name.endswith("scorer") else "ordinary CLIP"
    gates = []
    for kind, words, texts in (
        ("noun", list(NOUNS), [f"a {noun}" for noun in NOUNS]),
        ("colour", list(COLOURS), [f"a {colour} ball" for colour in COLOURS]),
    ):
        best = (u @ clip.texts(texts).T).argmax(1)
        hits = [words[i] == getattr(scene.things[0], kind) for i, scene in zip(best, things, strict=True)]
        gates.append(_gate(f"{label}: {kind} named, of {len(words)}", hits))
    return gates


def load_pipeline(folder: Path, *, bag: bool = False) -> Any:
    """Load the shipped pipeline in float32 with the stock class; with `bag`, with the bag-of-words encoder."""
    import torch
    from diffusers import StableDiffusionPipeline

    from promptlab.miniature.clip import bag_encoder

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder / "pipeline", use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    if bag:
        pipeline.text_encoder = bag_encoder(pipeline.text_encoder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def evaluate(folder: Path, n: int, report: Report, out: Path | None = None) -> tuple[list[Gate], dict[str, float]]:
    """Measure every gate of the miniature in `folder` with `n` images each, seconds an image, and peak memory.

    Writes the result to `out` (JSON) unless it is None. Raises ModelError if a part of the miniature is missing.
    """
    import resource

    import torch

    parser = load_parser(folder / "parser")
    pipeline = load_pipeline(folder)
    scenes = [sample_scene(np.random.default_rng([_SEED, i]), pairs="all") for i in range(n)]
    rendered = np.stack([render(s).image for s in scenes])
    gates = [_gate("rendered truth: things parsed right", _things_right(scenes, rendered, parser))]
    with torch.no_grad():
        trips = []
        for start in range(0, n, 32):
            x = torch.tensor(rendered[start : start + 32]).permute(0, 3, 1, 2).float() / 127.5 - 1
            y = pipeline.vae.decode(pipeline.vae.encode(x).latent_dist.mean).sample
            trips.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    gates.append(
        _gate(
            "autoencoder round trip: things parsed right",
            _things_right(scenes, np.concatenate(trips), parser),
            ">= 98%",
            0.98,
        )
    )
    texts = [a.text for a in captioned_scenes(2 * BATCH, 2, "train", 60_000_000)]
    sample(pipeline, texts[:BATCH], list(range(BATCH)), lambda _: None, "")
    began = time.monotonic()
    sample(pipeline, texts[BATCH:], list(range(BATCH)), lambda _: None, "")
    seconds = (time.monotonic() - began) / BATCH
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    gates += _one_object(pipeline, parser, n, "train", report)
    gates += _two_objects(pipeline, parser, n, report)
    gates += _one_object(pipeline, parser, n, "held_out", report)
    gates += _two_objects(load_pipeline(folder, bag=True), parser, n, report, bag=True)
    for name in ("miniature-scorer", "miniature"):
        gates += [_scorer(name, n), *_zero_shot(name, n)]
    figures = {"seconds_an_image": round(seconds, 3), "peak_memory_mib": round(memory), "pictures_a_gate": n}
    if out is not None:
        measured = {"gates": [asdict(g) for g in gates], "figures": figures}
        out.write_text(json.dumps(measured, indent=1, allow_nan=False) + "\n")
    return gates, figures


BEGIN, END = "<!-- gates: written by `promptlab miniature card` -->", "<!-- end of gates -->"


def contact_sheet(folder: Path, out: Path, report: Report, rows: int = 8) -> None:
    """Draw `rows` x 8 images with their prompts as a PNG: a third of one thing, the rest of two."""
    from PIL import Image, ImageDraw, ImageFont

    n = rows * 8
    single = n // 3
    captioned = captioned_scenes(single, 1, "train", 70_000_000) + captioned_scenes(n - single, 2, "train", 80_000_000)
    pictures = sample(load_pipeline(folder), [a.text for a in captioned], list(range(n)), report, "contact sheet")
    side, strip = pictures.shape[1], 34
    sheet = Image.new("RGB", (8 * side, rows * (side + strip)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for i, (a, picture) in enumerate(zip(captioned, pictures, strict=True)):
        x, y = i % 8 * side, i // 8 * (side + strip)
        sheet.paste(Image.fromarray(picture), (x, y))
        text = "\n".join(textwrap.wrap(a.text, 25)[:3])
        draw.multiline_text((x + 3, y + side + 1), text, fill="black", font=font, spacing=0)
    sheet.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


def gates_table(measured: Path) -> str:
    """Format the gates in `measured` (JSON of `promptlab miniature evaluate --out`) as a Markdown table."""
    data = json.loads(measured.read_text())
    lines = ["| gate | measured | 95 % interval | n | wanted | met |", "|---|---|---|---|---|---|"]
    for g in data["gates"]:
        met = "" if g["met"] is None else "yes" if g["met"] else "**no**"
        interval = f"{g['low']:.1%} to {g['high']:.1%}"
        measured_rate = "no picture" if g["rate"] is None else f"{g['rate']:.1%}"
        lines.append(f"| {g['name']} | {measured_rate} | {interval} | {g['n']} | {g['wanted']} | {met} |")
    figures = data["figures"]
    lines += ["", ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in figures.items()) + "."]
    return "\n".join(lines)


def write_card(folder: Path) -> None:
    """Write the table of `folder/gates.json` between the marks in `folder/README.md`."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    path.write_text(f"{head}{BEGIN}\n{gates_table(folder / 'gates.json')}\n{END}{tail}", encoding="utf-8")
