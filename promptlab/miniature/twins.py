"""Hard negatives for a CLIP: a scene's twin that differs in one thing, with the captions of both.

Ours; captions as hard negatives follow Yuksekgonul et al. 2023, When and Why Vision-Language Models Behave like
Bags-of-Words (arXiv 2210.01936). Here the pictures have twins too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from promptlab.miniature.captions import describe
from promptlab.miniature.world import COLOURS, PAIRS, POSES, Scene, pair_weights, swap_colours

__all__ = ["colour_twin", "noun_twin"]


def noun_twin(scene: Scene, seed: int, length: Literal["any", "short"]) -> tuple[Scene, str, str]:
    """The scene with one thing turned into another noun, as common in that colour as in training, and both captions."""
    rng = np.random.default_rng([seed, 1])
    k = int(rng.integers(len(scene.things)))
    thing, present = scene.things[k], {t.noun for t in scene.things}
    weights = np.array(
        [
            w if colour == thing.colour and noun not in present else 0.0
            for (noun, colour), w in zip(PAIRS, pair_weights("train"), strict=True)
        ]
    )
    noun = PAIRS[rng.choice(len(PAIRS), p=weights / weights.sum())][0]
    pose = str(rng.choice(POSES)) if noun == "dog" else None
    twin = replace(scene, things=tuple(replace(t, noun=noun, pose=pose) if t is thing else t for t in scene.things))
    text, other = (describe(s, np.random.default_rng(seed), length=length).text for s in (scene, twin))
    return twin, text, other


def colour_twin(scene: Scene, seed: int, length: Literal["any", "short"]) -> tuple[Scene, str, str]:
    """The scene with colours exchanged (one thing: with another colour), and the captions of both, which differ."""
    first = scene.things[0]
    twin = swap_colours(scene) if len(scene.things) > 1 and first.colour != scene.things[1].colour else None
    if twin is None:
        other = list(COLOURS)[(list(COLOURS).index(first.colour) + 1 + seed % (len(COLOURS) - 1)) % len(COLOURS)]
        twin = replace(scene, things=(replace(first, colour=other), *scene.things[1:]))
    for k in range(seed, seed + 50):
        text, swapped = (describe(s, np.random.default_rng(k), length=length).text for s in (scene, twin))
        if text != swapped:
            return twin, text, swapped
    raise ValueError(f"no caption names the colours of {scene}")
