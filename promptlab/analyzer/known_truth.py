"""Pictures of known truth, drawn by the renderer to order: what probes are calibrated on (tier T0).

A set is named by what is true of its pictures; the prompt asks for what a set called *correct* would show.

    correct, swap, leak, other, neglect, fused    two objects of different colours, with that outcome of binding
    noun, no_noun                                 one object as asked; another noun in its place
    red, not_red, ...                             one object of that colour; asked in it, but drawn in another
    pair, swapped_pair                            a picture and its twin, each of its own prompt; each of the other's
    various, alike                                cells of four seeds: four scenes; one scene in four textures
    plain, burnt                                  the same scenes; with too much saturation and contrast

Two-object pictures also err in ways that the outcome does not count, at the rates `ON_TOP`. All pairs of noun and
colour are as likely, those never trained on included; settings and styles are those of the world.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from promptlab.analyzer.probes import Sample
from promptlab.miniature.drawing import render
from promptlab.miniature.faults import BINDING_FAULTS, FaultRates, burn, render_with_faults
from promptlab.miniature.world import COLOURS, NOUNS, POSES, Scene, Thing, sample_scene, swap_colours
from promptlab.records import Prompt, Settings
from promptlab.study.prompts import ObjectSpec, PromptSpec
from promptlab.study.prompts import render as word

__all__ = ["ON_TOP", "SETS", "prompt_of", "samples_of", "scene_of_two"]

ON_TOP = {"extra": 0.1, "burn": 0.1, "blur": 0.1}
CELL = 4
"""Seeds of a cell in the sets various and alike."""

OUTCOME_SETS = ("correct", *BINDING_FAULTS)
SETS = (
    *OUTCOME_SETS,
    *("noun", "no_noun", "pair", "swapped_pair", "various", "alike", "plain", "burnt"),
    *(prefix + colour for colour in COLOURS for prefix in ("", "not_")),
)
_NAMES = ("first", "second", "third")


def prompt_of(scene: Scene) -> Prompt:
    """What asks for a scene's things: "a red cup and a blue chair". Its objects are called first, second and third."""
    names = _NAMES[: len(scene.things)]
    objects = {
        name: ObjectSpec.model_validate({"noun": thing.noun, "colour": thing.colour})
        for name, thing in zip(names, scene.things, strict=True)
    }
    return word(PromptSpec(template=" and ".join(f"{{{name}}}" for name in names), objects=objects))


def samples_of(name: str, n: int, seed: int = 0) -> Iterator[Sample]:
    """`n` looks of a set; picture i is the same whatever `n`. Raises ValueError for a name not in `SETS`."""
    if name not in SETS:
        raise ValueError(f"no set of known truth is called {name!r}; allowed: {', '.join(SETS)}")
    # Burnt pictures are the plain ones, so both draw from one stream.
    stream = zlib.crc32(name.replace("burnt", "plain").encode())
    return (_sample(name, i, np.random.default_rng([seed, stream, i])) for i in range(n))


def _sample(name: str, i: int, rng: np.random.Generator) -> Sample:
    image = f"{name}-{i}"
    if name in OUTCOME_SETS:
        scene = scene_of_two(rng)
        rates = FaultRates(**ON_TOP, **({} if name == "correct" else {name: 1.0}))
        return _shown(image, render_with_faults(scene, rates, rng)[0].image, prompt_of(scene))
    if name in ("pair", "swapped_pair"):
        return _pair(image, scene_of_two(rng), swapped=name == "swapped_pair")
    if name in ("various", "alike"):
        return _cell(image, rng, alike=name == "alike")
    scene = scene_of_two(rng) if name in ("plain", "burnt") else sample_scene(rng, count=1, pairs="all")
    requested = scene
    if name in ("plain", "burnt"):
        pixels = render(scene).image
        return _shown(image, burn(pixels) if name == "burnt" else pixels, prompt_of(requested))
    thing = scene.things[0]
    if name == "no_noun":
        requested = _with(scene, replace(thing, noun=_other(NOUNS, thing.noun, rng), pose=None))
    elif name != "noun":
        colour = name.removeprefix("not_")
        requested = _with(scene, replace(thing, colour=colour))
        scene = requested if name == colour else _with(scene, replace(thing, colour=_other(COLOURS, colour, rng)))
    return _shown(image, render(scene).image, prompt_of(requested))


def scene_of_two(rng: np.random.Generator) -> Scene:
    """A scene of two things of different colours."""
    while True:
        scene = sample_scene(rng, count=2, pairs="all")
        if scene.things[0].colour != scene.things[1].colour:
            return scene


def _shown(image: str, pixels: np.ndarray, prompt: Prompt, seed: int = 0) -> Sample:
    height, width = pixels.shape[:2]
    return Sample(image, pixels, prompt, Settings(height=height, width=width), seed)


def _pair(image: str, scene: Scene, *, swapped: bool) -> Sample:
    twin = swap_colours(scene)
    shown, twin_shown = (twin, scene) if swapped else (scene, twin)
    other = _shown(f"{image}-twin", render(twin_shown).image, prompt_of(twin))
    return replace(_shown(image, render(shown).image, prompt_of(scene)), twin=other)


def _cell(image: str, rng: np.random.Generator, *, alike: bool) -> Sample:
    """The first seed of a cell. Every picture shows the noun asked; no colour is asked, so that colours may vary."""
    scene = sample_scene(rng, count=1, pairs="all")
    prompt = word(PromptSpec(template="{first}", objects={"first": ObjectSpec(noun=scene.things[0].noun)}))
    samples = []
    for k in range(CELL):
        one = replace(scene, seed=int(rng.integers(2**31)))
        if not alike:
            free = sample_scene(rng, count=1, pairs="all")
            pose = str(rng.choice(POSES)) if scene.things[0].noun == "dog" else None
            one = _with(free, replace(free.things[0], noun=scene.things[0].noun, pose=pose))
        samples.append(_shown(f"{image}-{k}", render(one).image, prompt, k))
    return replace(samples[0], siblings=tuple(samples[1:]))


def _with(scene: Scene, thing: Thing) -> Scene:
    return replace(scene, things=(thing, *scene.things[1:]))


def _other(words: tuple[str, ...] | dict[str, tuple[int, int, int]], but: str, rng: np.random.Generator) -> str:
    return str(rng.choice([word for word in words if word != but]))
