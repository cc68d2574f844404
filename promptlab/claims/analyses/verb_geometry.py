"""Whether the text encoder keeps a running dog apart from a sleeping one: variance of its pooled states by verb.

    R2 = 1 - (sum of squares within verbs) / (total sum of squares), within one noun and colour, over paraphrases

less its mean over permutations of the verbs within paraphrases, so that 0 is what labels without meaning give. One unit
is one colour of the dog; the miniature knows verbs of the dog alone. (Anderson 2001, A new method for non-parametric
multivariate analysis of variance; restricted permutation.)
"""

from __future__ import annotations

import numpy as np

from promptlab.claims.analyses import Analysis, Finding
from promptlab.miniature.world import COLOURS
from promptlab.store import Store

__all__ = ["explained", "load"]

VERBS = ("standing", "running", "sleeping")
FRAMES = (
    "a photo of a {verb} {colour} dog",
    "a {verb} {colour} dog",
    "a {colour} dog {verb}",
    "a picture of a {colour} dog {verb}",
    "a {verb} {colour} dog on grass",
    "a {verb} {colour} dog at night",
)
PERMUTATIONS = 200


def load() -> Analysis:
    """The analysis of the miniature's text encoder."""
    return _measure


def explained(states: np.ndarray) -> float:
    """R2 of the verb for states (frames, verbs, d), frames centred first: they are no noise of the verb's.

    0 where verbs change nothing but rounding.
    """
    x = states - states.mean(1, keepdims=True)
    total = float((x**2).sum())
    between = float(len(x) * (x.mean(0) ** 2).sum())
    return between / total if total > 1e-20 * float((states**2).sum()) else 0.0


def _measure(_: Store) -> Finding:
    from promptlab.analyzer.judges.clip import load_clip

    clip = load_clip("miniature")
    rng = np.random.default_rng(0)
    values = {}
    raw = []
    for colour in COLOURS:
        texts = [frame.format(verb=verb, colour=colour) for frame in FRAMES for verb in VERBS]
        states = np.asarray(clip.texts(texts), np.float64).reshape(len(FRAMES), len(VERBS), -1)
        chance = np.mean([explained(_mixed(states, rng)) for _ in range(PERMUTATIONS)])
        raw.append(explained(states))
        values[colour] = raw[-1] - float(chance)
    detail = {"r2": round(float(np.mean(raw)), 4), "frames": len(FRAMES), "verbs": list(VERBS)}
    return Finding("variance of the text states by verb, above chance", values, "colour", None, detail, tier="T1")


def _mixed(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([frame[rng.permutation(states.shape[1])] for frame in states])
