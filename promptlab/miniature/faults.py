"""Wrong pictures on demand: what text-to-image models get wrong, made by us at known rates.

At most one binding fault befalls a scene and decides its outcome (`promptlab.records.OUTCOMES`):

    swap      the first two things carry each other's colour
    leak      the first two things carry the same one of their two colours
    other     one thing carries a colour that no thing of the scene was asked to carry
    neglect   one of the first two things is missing
    fused     the first two things become one: left half the first noun, right half the second

Each of these may come on top: "extra" (a thing that nobody asked for), "burn" (too much saturation and contrast) and
"blur". Pictures with known faults calibrate the judges of real pictures.

References:
    Feng et al. 2023, Structured Diffusion Guidance (arXiv 2212.05032) and Chefer et al. 2023, Attend-and-Excite
    (arXiv 2301.13826): leakage, interchange and catastrophic neglect.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import ndimage

from promptlab.miniature.drawing import Picture, render
from promptlab.miniature.world import COLOURS, NOUNS, POSES, Scene, Thing

__all__ = ["BINDING_FAULTS", "FAULTS", "FaultRates", "blob", "blur", "burn", "inject", "render_with_faults"]

FAULTS = ("swap", "leak", "other", "neglect", "fused", "extra", "burn", "blur")
BINDING_FAULTS = FAULTS[:5]
"""Faults that exclude one another; each is also an outcome."""


@dataclass(frozen=True)
class FaultRates:
    """Probability of each fault, 0..1; the five binding faults exclude one another, so they sum to at most 1."""

    swap: float = 0.0
    leak: float = 0.0
    other: float = 0.0
    neglect: float = 0.0
    fused: float = 0.0
    extra: float = 0.0
    burn: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible rates."""
        for name, rate in asdict(self).items():
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {name!r} must lie between 0 and 1, given {rate!r}")
        total = sum(self.binding())
        if total > 1 + 1e-9:
            rates = ", ".join(f"{n}={r:g}" for n, r in zip(BINDING_FAULTS, self.binding(), strict=True) if r)
            raise ValueError(f"the rates of faults that exclude one another sum to {total:g} > 1: {rates}")

    def binding(self) -> tuple[float, ...]:
        """The rates of `BINDING_FAULTS`, in that order."""
        return tuple(float(getattr(self, name)) for name in BINDING_FAULTS)


def inject(scene: Scene, rates: FaultRates, rng: np.random.Generator) -> tuple[Scene, str, tuple[str, ...]]:
    """Draw faults and change the scene: (what to draw, outcome of the binding, faults that come on top).

    A fault that the scene cannot show leaves it "correct": swap, leak and fused need two things, swap and leak two
    colours. Burn and blur are drawn here too, but change pixels only (`render_with_faults`).
    """
    # All chances are drawn first, so that changing one rate does not move the draws of the others.
    chance, *top = rng.random(4)
    edges = np.cumsum(rates.binding())
    drawn = int(np.searchsorted(edges, chance, side="right"))
    outcome = BINDING_FAULTS[drawn] if drawn < len(BINDING_FAULTS) else "correct"
    changed, outcome = _bind(scene, outcome, rng)
    limits = (rates.extra, rates.burn, rates.blur)
    added = tuple(name for name, u, rate in zip(FAULTS[5:], top, limits, strict=True) if u < rate)
    if "extra" in added:
        changed = _with_extra(changed, {t.noun for t in scene.things}, rng)
    return changed, outcome, added


def _bind(scene: Scene, outcome: str, rng: np.random.Generator) -> tuple[Scene, str]:
    """The scene with a binding fault, and the outcome: "correct" where the scene cannot show that fault."""
    things = list(scene.things)
    if outcome == "correct" or not things or (len(things) < 2 and outcome in ("swap", "leak", "fused")):
        return scene, "correct"
    pick = int(rng.integers(min(2, len(things))))
    if outcome == "neglect":
        del things[pick]
        return replace(scene, things=tuple(things), relation=None), outcome
    if outcome == "other":
        named = {t.colour for t in things}
        free = [c for c in COLOURS if c not in named]
        things[pick] = replace(things[pick], colour=str(rng.choice(free)))
        return replace(scene, things=tuple(things)), outcome
    a, b, *rest = things
    if outcome == "fused":
        colour = (a.colour, b.colour, f"{a.colour}+{b.colour}")[int(rng.integers(3))]
        one = Thing(
            noun=f"{a.noun}+{b.noun}",
            colour=colour,
            size=max(a, b, key=lambda t: t.side).size,
            x=(a.x + b.x) / 2,
            y=(a.y + b.y) / 2,
            side=max(a.side, b.side),
        )
        return replace(scene, things=(one, *rest), relation=None), outcome
    if a.colour == b.colour:
        return scene, "correct"
    if outcome == "swap":
        a, b = replace(a, colour=b.colour), replace(b, colour=a.colour)
    else:
        shared = (a, b)[pick].colour
        a, b = replace(a, colour=shared), replace(b, colour=shared)
    return replace(scene, things=(a, b, *rest)), outcome


def _with_extra(scene: Scene, requested: set[str], rng: np.random.Generator) -> Scene:
    """The scene with one more thing, of a noun not in `requested`, where it covers least of the others."""
    noun = str(rng.choice([n for n in NOUNS if n not in requested]))
    pose = str(rng.choice(POSES)) if noun == "dog" else None
    side = float(rng.uniform(0.24, 0.30))
    places = rng.uniform(side / 2 + 0.02, 0.98 - side / 2, (60, 2))
    covered = np.zeros(len(places))
    for t in scene.things:
        reach = (t.side + side) / 2
        overlap = np.clip(reach - np.abs(places - (t.x, t.y)), 0, None)
        covered += overlap.prod(1)
    x, y = places[int(covered.argmin())]
    extra = Thing(noun, str(rng.choice(list(COLOURS))), "small", pose, float(x), float(y), side)
    # First in the list means drawn first: where room is short, the asked things cover the extra one.
    return replace(scene, things=(extra, *scene.things))


def blob(rng: np.random.Generator, side: float | None = None) -> Thing:
    """A distractor that is no noun: a smooth random shape in a random colour at a random place; side 0.2..0.45."""
    side = float(rng.uniform(0.2, 0.45)) if side is None else side
    x, y = rng.uniform(side / 2 + 0.02, 0.98 - side / 2, 2)
    return Thing("unknown", str(rng.choice(list(COLOURS))), "medium", None, float(x), float(y), side)


def burn(image: np.ndarray) -> np.ndarray:
    """Too much saturation and contrast, clipped: uint8 (H, W, 3) to the same."""
    pixels = image.astype(np.float32)
    grey = pixels.mean(-1, keepdims=True)
    vivid = grey + (pixels - grey) * 1.9
    return np.asarray(np.clip((vivid - 128) * 1.6 + 134, 0, 255).round(), np.uint8)


def blur(image: np.ndarray, sigma: float = 2.4) -> np.ndarray:
    """Gaussian blur of `sigma` pixels: uint8 (H, W, 3) to the same."""
    soft = ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    return np.asarray(np.clip(soft.round(), 0, 255), np.uint8)


def render_with_faults(
    scene: Scene, rates: FaultRates, rng: np.random.Generator
) -> tuple[Picture, str, tuple[str, ...]]:
    """Draw a scene with faults: (picture, outcome of the binding, other faults applied: extra, burn, blur).

    The picture's truth is what was drawn, not what was asked: a neglected thing has none, a fused one has the noun
    "a+b", and an extra thing comes first.
    """
    changed, outcome, added = inject(scene, rates, rng)
    picture = render(changed)
    if "burn" in added:
        picture = replace(picture, image=burn(picture.image))
    if "blur" in added:
        picture = replace(picture, image=blur(picture.image))
    return picture, outcome, added
