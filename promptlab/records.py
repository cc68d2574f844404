"""The nouns of promptlab on one page, and the hashes that say when two of them are the same.

    Phrase, Binding   a tracked piece of a prompt; one (attribute, object) pair that a prompt claims
    Prompt            rendered text, with the place of every phrase
    AxisColumn        one column of levels, and the axis that it belongs to
    Cell              one combination of levels: a prompt and generation settings
    Source            the file of a picture that was made elsewhere
    Image             one picture of one cell at one seed; its id hashes everything that decides its pixels
    Measure, Score    what a number means; one number about one image
    Passport          how well a probe does on pictures of known truth
    ContrastEffect    what a contrast of a study came to

Axes are factors of the grid with ordered levels (`promptlab.study.axes`); a study is what a person writes
(`promptlab.study`). Settings are spelled as in diffusers. Records are frozen; to change one, `dataclasses.replace` it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Literal

__all__ = [
    "OUTCOMES",
    "STATUSES",
    "AxisColumn",
    "AxisKind",
    "AxisRole",
    "Binding",
    "Cell",
    "ContrastEffect",
    "Image",
    "Level",
    "Measure",
    "Part",
    "Passport",
    "Phrase",
    "Prompt",
    "Score",
    "Settings",
    "Source",
    "Status",
    "canonical_json",
    "content_id",
    "hashed_spelling",
    "prompt_id",
]


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, UTF-8, no NaN. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(value: Any) -> str:
    """Hash of a value's canonical JSON: 32 hexadecimal digits (128 bits of SHA-256)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Source:
    """A picture made elsewhere: the repeat that it is of its cell, its file, and the SHA-256 of the file's bytes.

    Without a hash the file is not here, and `name` is its address.

    `name` is its path inside the imported folder, which may move; `tile` is the part of a contact sheet that it is: row
    and column from 1, of so many rows and columns.
    """

    seed: int
    path: str
    name: str
    sha256: str | None
    tile: tuple[int, int, int, int] | None = None


Level = str | int | float | bool | None
"""One value of an axis."""

Part = Literal["words", "end", "padding", "all"]
"""A part of what an encoder makes of a prompt: its words, its end mark, the padding behind, or all three."""

Status = Literal["ok", "nsfw_blocked", "nan", "degenerate", "oom", "refused", "error", "invalid_image"]
STATUSES: tuple[Status, ...] = (
    "ok",
    "nsfw_blocked",
    "nan",
    "degenerate",
    "oom",
    "refused",
    "error",
    "invalid_image",
)
"""What became of an image. Only `ok` enters a mean."""

OUTCOMES = ("correct", "swap", "leak", "other", "neglect", "fused")
"""The multinomial result of binding two attributes to two objects."""


AxisKind = str
"""How an axis makes its levels, the key under its name in a study file: one of `promptlab.study.axes.KINDS`."""

AxisRole = Literal["unit", "manipulation", "setting"]
"""What an axis does: it makes up the prompt family, changes the words within one, or changes a setting or the model."""


@dataclass(frozen=True)
class AxisColumn:
    """One column of levels of a study's cells, and the axis that it belongs to.

    Attributes:
        name: the column, as in `Cell.levels`.
        axis: the axis in the study file.
        part: "level", the axis' own column; "arm", details or filler of a ladder; "at", the token where the needle
            begins; "value", one of the columns that a zip or a list of prompts brings along.
        unit: what a level counts: "tokens", "details", "place", "steps", "pixels"; else "".
        position: order in the study, from 0.
        names: the slots or objects that the axis rearranges, as its levels name them.
    """

    name: str
    axis: str
    kind: AxisKind
    part: Literal["level", "arm", "at", "value"]
    role: AxisRole
    unit: str = ""
    position: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Phrase:
    """A tracked piece of a prompt: `text[start:end]`, in characters. `role` is object, attribute, phrase or filler."""

    name: str
    text: str
    start: int
    end: int
    role: Literal["object", "attribute", "phrase", "filler"] = "phrase"


@dataclass(frozen=True)
class Binding:
    """One claim of a prompt: the object named `noun` carries `attribute`.

    `object` is its name in the study, `kind` the kind of attribute: colour, size, pose.
    """

    object: str
    noun: str
    attribute: str | None
    kind: str = "colour"


@dataclass(frozen=True)
class Prompt:
    """Rendered text, where its phrases lie, what it claims, and the same claims with two attributes exchanged.

    Attributes:
        text: what the model is given.
        phrases: every tracked piece, in order of appearance.
        bindings: what the text claims, in order of mention.
        swapped: the text with the attributes of the first two objects exchanged (the foil), or None.
        alone: for each object, the text that asks for it alone (the one-object control).
    """

    text: str
    phrases: tuple[Phrase, ...] = ()
    bindings: tuple[Binding, ...] = ()
    swapped: str | None = None
    alone: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Hash of the text, its phrases and its claims: one text may be declared in several ways."""
        return _prompt_id(self)


@lru_cache(maxsize=100_000)
def _prompt_id(prompt: Prompt) -> str:
    return prompt_id(asdict(prompt))


def prompt_id(prompt: Mapping[str, Any]) -> str:
    """`Prompt.id` of a prompt as plain data."""
    return content_id(hashed_spelling(prompt))


def hashed_spelling(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """A prompt as plain data, spelled as ids have always hashed it: there a claim's `kind` is its `family`."""
    bindings = [
        {("family" if name == "kind" else name): value for name, value in binding.items()}
        for binding in prompt["bindings"]
    ]
    return {**prompt, "bindings": bindings}


@dataclass(frozen=True)
class Settings:
    """How a picture is made, in diffusers' own spelling. `scheduler` None is the model's own.

    `guidance_scale` means w in u + w (c - u): 0 is unconditional, 1 purely conditional. `distilled_guidance_scale` is
    the input of a guidance-distilled model, which has no u; None is the model's own, and the only value where there is
    no such input.
    """

    guidance_scale: float = 5.0
    num_inference_steps: int = 25
    height: int = 128
    width: int = 128
    scheduler: str | None = None
    negative_prompt: str = ""
    distilled_guidance_scale: float | None = None


@dataclass(frozen=True)
class Cell:
    """One combination of levels. `levels` maps axis name to level; `settings` and `prompt` follow from it.

    `group` names the prompt family: cells that differ only in settings, word order or a controlled manipulation share
    it, and statistics pair within it. It is the unit of inference.

    A cell with `sources` was made elsewhere: it has their seeds, and only the settings among its levels are known.
    """

    study: str
    levels: tuple[tuple[str, Level], ...]
    prompt: Prompt
    settings: Settings
    group: str
    backend: str = "diffusion"
    model: str = "miniature"
    sources: tuple[Source, ...] = ()

    @property
    def id(self) -> str:
        """Hash of the study's name and levels: stable while the study keeps its axes."""
        return content_id({"study": self.study, "levels": [list(pair) for pair in self.levels]})

    def seeds(self, asked: Iterable[int]) -> tuple[int, ...]:
        """Those of the seeds asked for at which this cell has a picture: all, unless it was made elsewhere."""
        there = {source.seed for source in self.sources}
        return tuple(seed for seed in asked if seed in there or not self.sources)

    def source(self, seed: int) -> Source | None:
        """The file of the picture at `seed`, or None for a picture that is made here."""
        return next((source for source in self.sources if source.seed == seed), None)

    def known_settings(self) -> dict[str, Any]:
        """The settings as plain data; of a picture made elsewhere those alone that came with it."""
        everything = asdict(self.settings)
        if not self.sources:
            return everything
        return {name: level for name, level in self.levels if name in everything and level is not None}

    def recipe(self, seed: int) -> dict[str, Any]:
        """Everything that decides the pixels of this cell at `seed`, as plain data."""
        plain = {"backend": self.backend, "model": self.model, "prompt": self.prompt.text, "seed": seed}
        source = self.source(seed)
        file = {"file": source.name} if source else {}
        file |= {"sha256": source.sha256} if source and source.sha256 else {}
        tile = {"tile": list(source.tile)} if source and source.tile else {}
        settings = self.known_settings()
        if settings.get("distilled_guidance_scale") is None:  # pictures older than this setting keep their ids
            settings.pop("distilled_guidance_scale", None)
        return {**plain, **settings, **file, **tile}

    def image_id(self, seed: int) -> str:
        """Hash of `recipe(seed)`: two studies that ask for the same picture share it."""
        return content_id(self.recipe(seed))


@dataclass(frozen=True)
class Image:
    """One picture. `file` is its PNG's SHA-256 (also its file name), `pixels` the SHA-256 of its raw RGB bytes.

    Both are None unless `status` is ok or degenerate, and for a picture that people rated elsewhere and that is not
    here. `recipe` holds what decided it; `reason` says why it is not ok.
    """

    id: str
    recipe: dict[str, Any]
    status: Status = "ok"
    reason: str | None = None
    file: str | None = None
    pixels: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    clipped: float | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Measure:
    """What a number means. `lower`, `upper` bound it (None: unbounded); `higher_is_better` None: neither is better."""

    name: str
    description: str
    unit: str = ""
    lower: float | None = None
    upper: float | None = None
    higher_is_better: bool | None = None
    references: str = ""


@dataclass(frozen=True)
class Score:
    """One number about one image: `value`, or None with a `reason`. `target` says about what (a phrase, an object).

    `probe` is the name of the probe ("binding"), `probe_id` its id ("binding-1-0a1b2c3d"): scores under one id are
    comparable. `label` carries a category where the measure is one (the outcome of binding). `prompt` is the id of the
    prompt whose claims the probe asked about: two studies may show one image and name its objects otherwise. NaN is
    refused.
    """

    image: str
    probe: str
    probe_id: str
    measure: str
    target: str = ""
    value: float | None = None
    label: str | None = None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    prompt: str | None = None

    def __post_init__(self) -> None:
        if self.value is not None and self.value != self.value:
            raise ValueError(f"NaN is no score ({self.probe}.{self.measure} of {self.image}): give None and a reason")
        if self.value is None and self.reason is None:
            raise ValueError(f"a score without value needs a reason ({self.probe}.{self.measure} of {self.image})")


@dataclass(frozen=True)
class Passport:
    """How a probe does on `n` images of known truth: sensitivity, specificity (with intervals), Youden's J, AUC.

    `kind` is the kind of question that the images ask: "binding", "colour.red", "swap.contrast".
    """

    probe: str
    probe_id: str
    kind: str
    n: int
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float
    youden: float
    auc: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ContrastEffect:
    """What a contrast of a study came to: the paired difference of `measure`, with the numbers of `stats.Effect`.

    `p_adjusted` is `p` after the correction over the study's confirmatory contrasts (None for an exploratory one).
    `probe_id` is None where no score entered it.
    """

    study: str
    contrast: str
    probe: str
    probe_id: str | None
    measure: str
    target: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    n_groups: int = 0
    n_pairs: int = 0
    n_dropped: int = 0
    dz: float | None = None
    mean_a: float | None = None
    mean_b: float | None = None
    seed_correlation: float | None = None
    method: str = ""
    confidence: float = 0.95
    reason: str | None = None
    verdict: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
