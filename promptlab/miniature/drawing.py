"""Draw a `Scene`: the image, and the ground truth about every thing in it; or draw it with known faults.

Each thing is a stack of tone shares (`shapes.template`) mixed with the tones of its colour and laid over the
background of the setting. The same scene gives the same bytes. Beyond the nouns of the world, `Thing.noun` may be
"unknown" (a random blob that the scene's seed decides) or "a+b" (left half a, right half b: a fused object), and
`Thing.colour` may be "c+d" (left half c, right half d).

`background` paints a setting: smooth, with small differences by seed (a few kept variants of each). `apply_style`
changes the pixels of a finished image as a phrase such as "golden light" or "sketch" asks. All arrays are float32,
0..255.

`render_with_faults` draws what text-to-image models get wrong, at known rates; such images calibrate the judges of
real ones. At most one binding fault befalls a scene and decides its outcome (`promptlab.records.OUTCOMES`):

    swap      the first two things carry each other's colour
    leak      the first two things carry the same one of their two colours
    other     one thing carries a colour that no thing of the scene was asked to carry
    neglect   one of the first two things is missing
    fused     the first two things become one: left half the first noun, right half the second

Each of these may come on top: "extra" (a thing that nobody asked for), "burn" (too much saturation and contrast) and
"blur".

References:
    Feng et al. 2023, Structured Diffusion Guidance (arXiv 2212.05032) and Chefer et al. 2023, Attend-and-Excite
    (arXiv 2301.13826): leakage, interchange and catastrophic neglect.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import ndimage

from promptlab.miniature.shapes import BODY, DEEP, DETAILS, LIGHT, RIM, SHADE, TONES, template
from promptlab.miniature.world import CANVAS, COLOURS, NOUNS, POSES, SETTINGS, STYLES, Scene, Thing

__all__ = [
    "BINDING_FAULTS",
    "FAULTS",
    "HORIZON",
    "VARIANTS",
    "DrawnThing",
    "FaultRates",
    "Picture",
    "apply_style",
    "background",
    "blob",
    "blur",
    "burn",
    "inject",
    "render",
    "render_with_faults",
]

_SHINY = tuple(tone - 1 for tone in (BODY, SHADE, DEEP, LIGHT))
"""Channels of a template that a highlight may cover."""


@dataclass(frozen=True, eq=False)
class DrawnThing:
    """One thing as drawn: tight box (left, top, right, bottom; pixels) of its visible pixels `mask`, bool (128, 128).

    A thing that nothing shows of has an empty mask and the box (0, 0, 0, 0).
    """

    noun: str
    colour: str
    box: tuple[float, float, float, float]
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn scene: sRGB uint8 (128, 128, 3), and the truth of every thing in the scene's order."""

    image: np.ndarray
    ground_truth: tuple[DrawnThing, ...]


@lru_cache(maxsize=256)
def _tones(colour: str, dark_ground: bool, flat: bool) -> np.ndarray:
    """sRGB of every tone for a colour: float32 (TONES, 3)."""
    if colour not in COLOURS:
        raise ValueError(f"no such colour {colour!r}; allowed: {', '.join(COLOURS)}")
    body = np.array(COLOURS[colour], np.float32)
    luminance = float(body @ np.array((0.299, 0.587, 0.114)))
    shade, deep, light = body * 0.85, body * 0.6, body + (255 - body) * 0.42
    if colour == "black":
        # A darker black shows no line: the lines of black things are lighter instead.
        shade, deep, light = body * 0.55, body + 48, body + 62
    rim = body * 0.42 if colour != "white" else body * 0.5
    if dark_ground and luminance < 125:
        rim = body * 0.35 + np.array((214, 220, 236)) * 0.65
    elif dark_ground or flat:
        rim = body if not (flat and colour in ("white", "yellow") and not dark_ground) else body * 0.7
    if flat:
        shade, light = body, body
    tones = np.zeros((TONES, 3), np.float32)
    for tone, value in ((BODY, body), (SHADE, shade), (DEEP, deep), (LIGHT, light), (RIM, rim)):
        tones[tone - 1] = value
    for tone, detail in DETAILS.items():
        tones[tone - 1] = detail
    return tones


@lru_cache(maxsize=128)
def _shadow(width: int) -> np.ndarray:
    """Darkness of a soft contact shadow, float32 (height, width, 1), 0..1."""
    height = max(4, round(width * 0.22))
    y, x = np.mgrid[0:height, 0:width]
    r = ((x + 0.5) / width * 2 - 1) ** 2 + ((y + 0.5) / height * 2 - 1) ** 2
    return np.asarray(0.34 * np.clip(1 - r, 0, 1)[..., None], np.float32)


@lru_cache(maxsize=128)
def _light(side: int) -> np.ndarray:
    """Soft light from the upper left: factor of brightness, float32 (side, side, 1), 0.9..1.06."""
    u = (np.arange(side) + 0.5) / side
    return np.asarray((1.06 - 0.08 * (u[:, None] + u[None]))[..., None], np.float32)


@lru_cache(maxsize=128)
def _gloss(side: int) -> np.ndarray:
    """Strength of the highlight of a glossy thing, float32 (side, side, 1), 0..1."""
    u = (np.arange(side) + 0.5) / side
    v, h = u[:, None], u[None]
    spot = np.exp(-((((h - 0.36) / 0.15) ** 2 + ((v - 0.36) / 0.09) ** 2) ** 2))
    streak = 0.45 * np.exp(-(((h + 0.55 * v - 0.98) / 0.07) ** 4))
    return np.asarray(np.maximum(spot * 0.9, streak)[..., None], np.float32)


def _window(left: int, top: int, width: int, height: int) -> tuple[slice, slice, slice, slice]:
    """Where a patch lies on the canvas (rows, columns) and which part of the patch is inside it (rows, columns)."""
    y0, y1 = max(top, 0), max(min(top + height, CANVAS), 0)
    x0, x1 = max(left, 0), max(min(left + width, CANVAS), 0)
    y0, x0 = min(y0, y1), min(x0, x1)
    return slice(y0, y1), slice(x0, x1), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def _paint(thing: Thing, scene: Scene, jitter: float, side: int, blob: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours times cover, float32 (side, side, 3), and cover, float32 (side, side, 1), of a thing in its own box."""
    flat = scene.style == "flat"
    shares = template(thing.noun, thing.pose, blob, side)
    halves = [
        shares.reshape(-1, TONES) @ _tones(colour, scene.setting == "night", flat) for colour in thing.colour.split("+")
    ]
    paint = halves[0].reshape(side, side, 3)
    if len(halves) == 2:
        paint[:, side // 2 :] = halves[1].reshape(side, side, 3)[:, side // 2 :]
    cover = shares.sum(-1, keepdims=True)
    if not flat:
        paint = paint * (_light(side) * np.float32(jitter))
    if scene.style == "glossy":
        shine = _gloss(side) * shares[:, :, list(_SHINY)].sum(-1, keepdims=True)
        paint = paint * (1 - shine) + 255 * shine
    return paint, cover


def render(scene: Scene) -> Picture:
    """Draw a scene. Raises ValueError for a noun, colour, setting or style that the miniature does not know."""
    rng = np.random.default_rng(scene.seed)
    canvas = background(scene.setting, int(rng.integers(VARIANTS))) * np.float32(rng.uniform(0.97, 1.02))
    jitters = rng.uniform(0.97, 1.03, max(len(scene.things), 1))
    places = []
    for thing in scene.things:
        side = max(8, round(thing.side * CANVAS))
        places.append((round(thing.x * CANVAS - side / 2), round(thing.y * CANVAS - side / 2), side))
    for left, top, side in places:
        if top + side > HORIZON * CANVAS:
            shadow = _shadow(side)
            rows, columns, r, c = _window(left, top + round(side * 0.97) - len(shadow) // 2, side, len(shadow))
            canvas[rows, columns] *= 1 - shadow[r, c]
    owner = np.full((CANVAS, CANVAS), -1, np.int8)
    for k, (thing, (left, top, side)) in enumerate(zip(scene.things, places, strict=True)):
        paint, cover = _paint(thing, scene, float(jitters[k]), side, scene.seed + k)
        rows, columns, r, c = _window(left, top, side, side)
        canvas[rows, columns] = canvas[rows, columns] * (1 - cover[r, c]) + paint[r, c]
        owner[rows, columns][cover[r, c, 0] > 0.5] = k
    canvas = apply_style(canvas, scene.style, owner >= 0)
    image = np.clip(canvas + np.float32(0.5), 0, 255).astype(np.uint8)
    ground_truth = tuple(_drawn_thing(thing, owner == k) for k, thing in enumerate(scene.things))
    return Picture(image, ground_truth)


def _drawn_thing(thing: Thing, mask: np.ndarray) -> DrawnThing:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return DrawnThing(thing.noun, thing.colour, (0.0, 0.0, 0.0, 0.0), mask)
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return DrawnThing(thing.noun, thing.colour, box, mask)


VARIANTS = 24
"""How many versions of a setting exist."""

HORIZON = 0.53
"""Height of the horizon, share of the canvas from the top."""

_Y, _X = np.meshgrid((np.arange(CANVAS) + 0.5) / CANVAS, (np.arange(CANVAS) + 0.5) / CANVAS, indexing="ij")


def _ramp(y: np.ndarray, stops: list[tuple[float, tuple[float, float, float]]]) -> np.ndarray:
    """Vertical gradient through colour stops (height, sRGB), (CANVAS, CANVAS, 3)."""
    heights = [h for h, _ in stops]
    return np.stack([np.interp(y, heights, [c[k] for _, c in stops]) for k in range(3)], -1)


def _soft(value: np.ndarray, width: float = 0.006) -> np.ndarray:
    """Step from 0 to 1 where `value` crosses 0, `width` wide; last axis added for colours."""
    return np.asarray(np.clip(value / width + 0.5, 0, 1)[..., None])


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    return _soft(radius - np.hypot(_X - x, _Y - y), 0.01)


def _plain(rng: np.random.Generator) -> np.ndarray:
    base = rng.uniform(214, 228) + rng.uniform(-3, 3, 3)
    glow = np.exp(-((_X - rng.uniform(0.35, 0.65)) ** 2 + (_Y - 0.45) ** 2) / 0.25)[..., None]
    return np.asarray(base - 8 + 14 * glow)


def _hills(rng: np.random.Generator, depth: float) -> np.ndarray:
    phase = rng.uniform(0, 6.28)
    slope: np.ndarray = depth * np.sin(_X * rng.uniform(4, 7) + phase)
    return _soft(_Y - HORIZON - slope)


def _grass(rng: np.random.Generator) -> np.ndarray:
    sky = _ramp(_Y, [(0, (150, 204, 240)), (HORIZON, (214, 234, 246))])
    meadow = _ramp(_Y, [(HORIZON, (176, 214, 122)), (1, (140, 186, 92))])
    meadow = meadow + 3 * np.sin(_X * 40 + 9 * np.sin(_Y * 30 + rng.uniform(0, 6)))[..., None]
    x, y = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.2)
    for dx, r in ((-0.07, 0.04), (0, 0.055), (0.07, 0.04)):
        sky = sky + 0.8 * _disc(x + dx, y, r) * (252 - sky)
    ground = _hills(rng, 0.012)
    return np.asarray(sky * (1 - ground) + meadow * ground)


def _night(rng: np.random.Generator) -> np.ndarray:
    sky = _ramp(_Y, [(0, (14, 20, 52)), (HORIZON, (38, 50, 98))])
    for _ in range(12):
        x, y = rng.uniform(0.02, 0.98), rng.uniform(0.02, 0.48)
        sky = sky + _disc(x, y, 0.008) * rng.uniform(0.5, 1) * (235 - sky)
    x, y = rng.uniform(0.08, 0.92), rng.uniform(0.09, 0.16)
    moon = np.clip(_disc(x, y, 0.06) - _disc(x + 0.03, y - 0.015, 0.05), 0, 1)
    sky = sky + moon * (np.array((240, 236, 208)) - sky)
    land = _ramp(_Y, [(HORIZON, (36, 50, 74)), (1, (24, 34, 54))])
    ground = _hills(rng, 0.01)
    return np.asarray(sky * (1 - ground) + land * ground)


def _sunset(rng: np.random.Generator) -> np.ndarray:
    sky = _ramp(_Y, [(0, (146, 124, 176)), (0.3, (226, 164, 168)), (HORIZON, (250, 212, 164))])
    sun = _disc(rng.uniform(0.15, 0.85), HORIZON - 0.02, 0.09)
    sky = sky + sun * (np.array((255, 238, 190)) - sky)
    land = _ramp(_Y, [(HORIZON, (196, 148, 140)), (1, (164, 122, 130))])
    ground = _hills(rng, 0.006)
    return np.asarray(sky * (1 - ground) + land * ground)


def _table(rng: np.random.Generator) -> np.ndarray:
    tint = rng.uniform(-5, 5, 3)
    wall = _ramp(_Y, [(0, (226, 222, 208)), (1, (236, 232, 220))]) + tint
    depth = (_Y - HORIZON) / (1 - HORIZON)
    grain = np.sin(_Y * 90 + 2.0 * np.sin(_X * rng.uniform(5, 9) + rng.uniform(0, 6))) * 4
    planks = 8 * np.exp(-(((depth * 3 + rng.uniform(0, 1)) % 1.0 - 0.5) ** 2) / 0.002)
    wood = _ramp(_Y, [(HORIZON, (208, 166, 118)), (1, (192, 148, 102))]) + grain[..., None] - planks[..., None]
    edge = _soft(_Y - HORIZON)
    return np.asarray(wall * (1 - edge) + wood * edge - 18 * np.exp(-((_Y - HORIZON) ** 2) / 0.0002)[..., None])


def _snow(rng: np.random.Generator) -> np.ndarray:
    sky = _ramp(_Y, [(0, (168, 186, 208)), (HORIZON, (206, 218, 230))])
    land = _ramp(_Y, [(HORIZON, (238, 243, 248)), (1, (224, 232, 242))])
    ground = _hills(rng, 0.015)
    picture = sky * (1 - ground) + land * ground
    for _ in range(14):
        x, y = rng.uniform(0, 1), rng.uniform(0, 0.9)
        picture = picture + _disc(x, y, rng.uniform(0.007, 0.012)) * (254 - picture)
    return np.asarray(picture)


_PAINTERS = {
    "plain": _plain,
    "grass": _grass,
    "night": _night,
    "sunset": _sunset,
    "table": _table,
    "snow": _snow,
}


@lru_cache(maxsize=VARIANTS * len(SETTINGS))
def background(setting: str, variant: int) -> np.ndarray:
    """The empty picture of a setting: float32 (CANVAS, CANVAS, 3), 0..255. Treat it as read-only."""
    if setting not in _PAINTERS:
        raise ValueError(f"cannot paint the setting {setting!r}; allowed: {', '.join(SETTINGS)}")
    rng = np.random.default_rng([variant, SETTINGS.index(setting)])
    picture: np.ndarray = np.clip(_PAINTERS[setting](rng), 0, 255).astype(np.float32)
    picture.setflags(write=False)
    return picture


_WARM = (np.array((1.05, 0.93, 0.66)) * (1.10 - 0.22 * (_X + _Y) / 2)[..., None]).astype(np.float32)
_DIM = (0.52 - 0.22 * np.clip(np.hypot(_X - 0.5, _Y - 0.5) - 0.2, 0, 1)).astype(np.float32)[..., None]
_HATCH = (0.94 + 0.06 * np.sin((_X + _Y) * CANVAS * 2 * np.pi / 6)).astype(np.float32)[..., None]


def apply_style(picture: np.ndarray, style: str | None, things: np.ndarray) -> np.ndarray:
    """Change a picture, float32 (CANVAS, CANVAS, 3), as `style` asks. `things` (bool) says where objects are.

    "flat" and "glossy" decide how objects are painted, so they change nothing here.
    """
    if style is not None and style not in STYLES:
        raise ValueError(f"cannot draw in the style {style!r}; allowed: {', '.join(STYLES)}")
    if style == "golden light":
        return np.asarray(picture * _WARM + np.float32(6))
    if style == "dark":
        return np.asarray(picture * _DIM)
    if style == "blurry":
        return np.asarray(ndimage.gaussian_filter(picture, (1.9, 1.9, 0), truncate=3.0))
    if style == "sketch":
        grey = picture.mean(-1)
        lines = np.zeros_like(grey)
        lines[1:] += np.abs(np.diff(grey, axis=0))
        lines[:, 1:] += np.abs(np.diff(grey, axis=1))
        strength = np.where(things[..., None], np.float32(0.74), np.float32(0.34)) * _HATCH
        paper = np.array((252, 250, 244), np.float32)
        return np.asarray(paper - (paper - picture) * strength - np.minimum(lines * 1.1, 110)[..., None])
    return picture


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
