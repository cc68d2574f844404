"""Judges of random weights, and every probe made with them: the whole code path, and nothing learned."""

from __future__ import annotations

import atexit
import inspect
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from promptlab import plugins
from promptlab.analyzer.known_truth import samples_of
from promptlab.analyzer.probes import Probe, Sample
from promptlab.errors import ModelError
from promptlab.miniature.parser import Found
from promptlab.records import Measure, Score, Settings


def folder_of_this_session() -> Path:
    """A folder that goes when the tests end: judges are cached beyond the test that first asks."""
    folder = mkdtemp()
    atexit.register(rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def random_clip(seed: int = 0) -> Path:
    """A CLIP folder of random weights, as small as they come."""
    import torch

    from promptlab.miniature.clip import build_clip, save_clip

    torch.manual_seed(seed)
    folder = folder_of_this_session()
    clip = build_clip(1, 4)
    with torch.no_grad():
        for name, weights in clip.visual.named_parameters():
            if name.endswith("bn3.weight"):  # open_clip begins with 0: blocks that see nothing
                weights.fill_(2.0)
    save_clip(clip, (1, 4), folder)
    return folder


@cache
def random_parser() -> Path:
    """A parser folder of random weights. It finds something: a thing wherever its noise is largest."""
    import torch
    from safetensors.torch import save_file

    from promptlab.miniature.parser import build_parser

    torch.manual_seed(3)
    folder = folder_of_this_session()
    model = build_parser(4)
    save_file(dict(model.state_dict()), folder / "model.safetensors", {"width": "4"})
    return folder


def tiny_judge(name: str) -> dict[str, Any]:
    """Options that give a probe a judge of photographs of random weights; none for other probes."""
    from tiny_judges import tiny_blip, tiny_owl, tiny_vlm

    made = {"blip_vqa": tiny_blip, "vqascore": tiny_vlm, "detector": tiny_owl}
    more = {"blip_vqa": {"image_size": 32}, "detector": {"threshold": 0.4}}
    return {"model": str(made[name]()), **more.get(name, {})} if name in made else {}


def every_probe() -> list[Probe]:
    """All probes of the registry; whatever takes a model or a parser gets one of random weights."""
    found = []
    for name in plugins.names("probe"):
        wanted = inspect.signature(import_module(f"promptlab.analyzer.probes.{name}").load).parameters
        options: dict[str, Any] = {"model": f"local-dir:{random_clip()}", "parser": str(random_parser())}
        options |= tiny_judge(name)
        found.append(plugins.load("probe", name, **{k: v for k, v in options.items() if k in wanted}))
    return found


def shipped(name: str, **options: Any) -> Probe:
    """A probe with the judges that ship; skips the test where this copy has none."""
    try:
        probe: Probe = plugins.load("probe", name, **options)
        _ = probe.id
    except ModelError as error:
        pytest.skip(f"no trained judges here: {error}")
    return probe


class Watched:
    """A model that attends and changes at random, always the same way: what one prompt's phrases make of noise."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def attend(self, phrases: Any) -> Any:
        draw = [np.random.default_rng([p.start, p.end]).random((4, 16, 16), np.float32) for p in phrases]
        return np.stack(draw, 1)

    def without(self, phrases: Any) -> Any:
        seeds = [0 if phrase is None else phrase.start for phrase in phrases]
        return [np.random.default_rng(seed).integers(0, 256, self._shape, np.uint8) for seed in seeds]

    def without_parts(self, parts: Any) -> Any:
        seeds = [0 if part is None else len(part) for part in parts]
        return [np.random.default_rng(seed).integers(0, 256, self._shape, np.uint8) for seed in seeds]


def some_looks() -> list[Sample]:
    """Samples of many kinds: one and two objects, with a twin, with siblings, and of sizes no judge was made for."""
    samples = [next(iter(samples_of(name, 1))) for name in ("correct", "neglect", "fused", "noun", "pair", "various")]
    for k, (height, width) in enumerate(((40, 96), (64, 64))):
        pixels = np.random.default_rng(k).integers(0, 256, (height, width, 3), np.uint8)
        samples.append(Sample(f"odd-{k}", pixels, samples[k].prompt, Settings(height=height, width=width), k))
    for k, level in enumerate((0, 255)):
        flat = np.full((128, 128, 3), level, np.uint8)
        samples.append(Sample(f"flat-{k}", flat, samples[0].prompt, Settings(), k))
    return [replace(sample, model=Watched(sample.pixels.shape)) for sample in samples]


class Oracle:
    """A probe that says what it is told: `say` maps a look to a value, or raises."""

    version = 1
    needs: frozenset[Any] = frozenset()

    def __init__(self, say: Any, measure: str = "correct", name: str = "oracle") -> None:
        self.name = name
        self.measures = (Measure(measure, "what it is told", "", 0, 1),)
        self._say = say
        self.seen: list[Sample] = []

    @property
    def id(self) -> str:
        return f"{self.name}-1"

    def score(self, samples: Any) -> Iterator[Score]:
        for sample in samples:
            self.seen.append(sample)
            said = self._say(sample)
            value, label = said if isinstance(said, tuple) else (said, None)
            reason = "it would not say" if value is None else None
            yield sample.score(self, self.measures[0].name, "", value, label, reason)


def truth(sample: Sample) -> str:
    """What the sets of known truth say of an image, in its id."""
    return sample.image_id.rsplit("-", 1)[0]


def thing(noun: str, colour: str = "red", x: int = 0, area: float = 0.1) -> Found:
    """A thing eight blocks wide whose left side is at block x."""
    mask = np.zeros((32, 32), bool)
    mask[8:16, x : x + 8] = True
    return Found(noun, colour, 0.9, 0.9, (4 * x, 32, 4 * x + 32, 64), area, mask)
