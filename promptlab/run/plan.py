"""What a run would do, counted before anything heavy loads: cells, pictures, what is made, what the encoders cut.

A setting that the model cannot follow is refused (`promptlab.run.plan`). Seconds a picture come from the pictures
that the store has of the same model and size, else from `RATE`, else from arithmetic
(`promptlab.generator.models.estimate`), and the plan says which. Nothing here imports torch.

Whether a model can do what a study asks: an axis without effect is refused before anything is made.

A guidance that the model does not compute, a negative prompt that it never reads, a size that its pipeline would round:
each would cost hours and end in a comparison of equal pictures.

Can a study find what it says it looks for? Asked of its plan, before anything is made.

A contrast may say `detect: 0.10`: a difference of rates of ten points must be found with 80 % power. What its design
can find is in `promptlab.stats.power`, with the families that the contrast pairs (both levels there, `where` met),
as many
seeds as the study has, and level 0.05, over the number of confirmatory contrasts where it is one of them (Holm's first
step). Pairs at other levels of the other axes are not counted as more seeds: that errs on the safe side.

What a study on a closed system would cost, and whether a run may begin: nobody pays by accident.

A run of `backend: hosted` needs a budget, `budget_usd` of the study or `--budget`: US dollars that one run may spend.
An estimate over it is refused while planning; without one a run is refused; while it goes on, a run ends before it
would pass the budget, as when broken pictures had to be paid for twice (`promptlab.generator.backends.hosted.Budget`).

How the text encoders of a model read the prompts of a study: how long they are in tokens, and what is cut.

A pipeline may have several encoders, each with its own tokenizer and limit: of a long prompt FLUX.1's CLIP reads 77
tokens and its T5 512. Counted by the model's own tokenizers, inside the frame that its pipeline puts around a prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from promptlab import plugins
from promptlab.checkpoints.files import MINIATURES, pinned, resolve, tokenizer_of
from promptlab.errors import ModelError, StudyError
from promptlab.generator.backends.hosted import list_price, missing_key
from promptlab.generator.models.capabilities import Capability, capability, defaults_of, open_reader
from promptlab.generator.models.estimate import estimate
from promptlab.miniature.lexicon import check_words
from promptlab.records import STATUSES, Cell, Image, Prompt, Settings
from promptlab.stats.power import smallest_detectable
from promptlab.study import Contrast, Study
from promptlab.study.axes import settle
from promptlab.study.checks import columns_of
from promptlab.study.grid import MAX_CELLS, expand
from promptlab.study.strict_yaml import Route

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = [
    "RETRIED",
    "Cost",
    "Plan",
    "Power",
    "Reading",
    "check_detects",
    "check_paid",
    "check_suits",
    "cost_of",
    "families_of",
    "limits",
    "plan_facts",
    "plan_study",
    "power_table",
    "readings",
    "tier_of",
    "unknown_words",
]

RATE = {"miniature": 0.35}
"""Seconds a picture where nothing is known yet: two CPU cores."""

_OWN = frozenset({"guidance_scale", "num_inference_steps", "height", "width"})
"""Settings that each model has defaults of its own for."""

RETRIED = frozenset({"error", "oom", "invalid_image"})
"""Statuses that a later run tries again; a refusal or a NaN would only come again."""


@dataclass(frozen=True)
class Plan:
    """A study expanded. `missing` are (cell, seed) to be made, one for each distinct picture.

    `seconds` rest on `basis`: pictures that were timed here, or an estimate; `memory` is the bytes of the largest
    model's weights, None where no model is loaded; `cost` is None where pictures cost nothing.
    """

    study: Study
    cells: tuple[Cell, ...]
    planned: int
    images: int
    made: int
    missing: tuple[tuple[Cell, int], ...]
    seconds: float | None
    megabytes: float
    readings: tuple[Reading, ...]
    groups: int
    basis: str = ""
    memory: float | None = None
    unknown: tuple[str, ...] = ()
    cost: Cost | None = None

    @property
    def detectable(self) -> float | None:
        """Smallest difference of rates that a contrast over all prompt families finds with 80 % power, or None."""
        if self.groups < 2:
            return None
        return smallest_detectable(self.groups, len(self.study.seeds))

    @property
    def power(self) -> tuple[Power, ...]:
        """What this design and larger ones find; empty without contrasts or with one prompt family."""
        return power_table(self.groups, len(self.study.seeds)) if self.groups > 1 and self.study.contrasts else ()


def plan_facts(plan: Plan) -> dict[str, Any]:
    """A plan as plain data."""
    return {
        "study": plan.study.name,
        "model": plan.study.model,
        "cells": len(plan.cells),
        "seeds": len(plan.study.seeds),
        "pictures": plan.images,
        "made": plan.made,
        "missing": len(plan.missing),
        "prompt_families": plan.groups,
        "seconds": plan.seconds,
        "megabytes": plan.megabytes,
        "time_by": plan.basis,
        "memory_bytes": plan.memory,
        "cost_usd": plan.cost and plan.cost.usd,
        "budget_usd": plan.cost and plan.cost.budget,
        "unknown_words": list(plan.unknown),
        "readings": [asdict(reading) for reading in plan.readings],
        "smallest_detectable_difference": plan.detectable,
        "power": [asdict(one) for one in plan.power],
    }


def tier_of(cell: Cell) -> str:
    """T0 drawn truth, T1 the miniature under either of its text encoders, T2 everything else."""
    if cell.backend == "renderer":
        return "T0"
    return "T1" if cell.model in ("miniature", "miniature-bag") else "T2"


def plan_study(
    study: Study, store: Store | None, max_cells: int = MAX_CELLS, *, retry: bool = False, make: bool = True
) -> Plan:
    """Expand a study and hold it against the store; `retry` counts whatever did not end ok as missing.

    Where nothing is to be made (`make` False), models need not be on this disk, as long as the study leaves none of
    their own settings open.

    Raises StudyError (too many cells, impossible prompts, settings without effect) and ModelError.
    """
    known = store.images() if store else {}
    absent: set[str] = set()
    left_open = _OWN - study.settings.model_fields_set - columns_of(study.axes).keys()

    def own(model: str) -> Settings:
        try:
            return defaults_of(model)
        except ModelError:
            if make or left_open:
                raise
            absent.add(model)
            return Settings()

    cells = tuple(expand(study, tokenizer_of, max_cells, own if study.backend == "diffusion" else None))
    if study.backend == "diffusion":
        # The commit enters the ids of pictures: when a branch of the hub moves on, its pictures are others.
        names = {m: _made_by(m, known.values()) if m in absent else pinned(m) for m in {cell.model for cell in cells}}
        absent = {names[model] for model in absent}
        if any(name != model for model, name in names.items()):
            cells = tuple(replace(cell, model=names[cell.model]) for cell in cells)
    present = tuple(cell for cell in cells if cell.model not in absent) if absent else cells
    check_suits(study, present)
    if make:
        check_detects(study, cells)
    wanted = {cell.image_id(seed): (cell, seed) for cell in cells for seed in cell.seeds(study.seeds)}
    again = frozenset(STATUSES) - {"ok"} if retry else RETRIED
    missing = {key: job for key, job in wanted.items() if key not in known or known[key].status in again}
    seconds, basis, memory = _time(present, known.values(), list(missing.values()))
    width, height = cells[0].settings.width, cells[0].settings.height
    size = sum(map(_bytes, missing.values())) / max(1, len(missing)) or (20e3 if width <= 256 else 1.3 * width * height)
    return Plan(
        study,
        cells,
        sum(len(cell.seeds(study.seeds)) for cell in cells),
        len(wanted),
        len(wanted) - len(missing),
        tuple(missing.values()),
        seconds,
        size * len(missing) / 1e6,
        readings(present),
        len({cell.group for cell in cells}),
        basis,
        memory,
        unknown_words(present),
        cost_of(study, tuple(missing.values())) if make else None,
    )


def _bytes(job: tuple[Cell, int]) -> float:
    """What a picture made elsewhere will take as PNG; 0 for one that is made here."""
    source = job[0].source(job[1])
    if source is None:
        return 0.0
    path = Path(source.path)
    size = path.stat().st_size if path.is_file() else 0
    return float(size) if path.suffix.lower() == ".png" else 8.0 * size


def _made_by(model: str, known: Collection[Image]) -> str:
    """The name with its commit under which pictures of an absent model were made, if there is one only."""
    made = {str(image.recipe.get("model")) for image in known}
    found = {name for name in made if name.startswith(f"{model}@")}
    return found.pop() if len(found) == 1 else model


def _kin(image: Image, cell: Cell) -> bool:
    recipe: dict[str, Any] = image.recipe
    same = ("width", "height", "num_inference_steps")
    return recipe.get("model") == cell.model and all(recipe.get(k) == getattr(cell.settings, k) for k in same)


def _time(
    cells: Sequence[Cell], known: Collection[Image], missing: Sequence[tuple[Cell, int]]
) -> tuple[float | None, str, float | None]:
    """Seconds for what is missing, what they rest on, and bytes of weights; a model's first cell stands for all."""
    total, bases, memory = 0.0, dict[str, None](), 0.0
    for model, some in _by_model(cells).items():
        todo = [cell for cell, _ in missing if cell.model == model]
        timed = [image.seconds for image in known if image.status == "ok" and image.seconds and _kin(image, some)]
        if timed:
            total += median(timed) * len(todo)
            bases["by pictures timed here"] = None
        elif model in RATE and some.backend != "folder":
            total += RATE[model] * sum(cell.settings.num_inference_steps for cell in todo) / 25
            bases["on two CPU cores"] = None
        elif some.backend != "diffusion":
            return None, "", None
        if some.backend == "diffusion" and model not in RATE:
            rough = estimate(model, [cell.settings for cell in todo])
            memory = max(memory, rough.memory)
            if not timed:
                total += rough.seconds
                bases[f"an estimate by arithmetic, for {rough.device}"] = None
    return total, "; ".join(bases), memory or None


def _by_model(cells: Sequence[Cell]) -> dict[str, Cell]:
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.model, cell)
    return first


HOSTED_SIZES = ("1024x1024", "1536x1024", "1024x1536")
"""Sizes of OpenAI's gpt-image models."""


def check_suits(study: Study, cells: Sequence[Cell]) -> None:
    """Raise StudyError, at its place in the file, for the first setting that a model of the study cannot follow."""
    if study.backend == "hosted":
        _check_hosted(study, cells)
    models: dict[str, dict[Settings, None]] = {}
    for cell in cells:
        if cell.backend == "diffusion":
            models.setdefault(cell.model, {})[cell.settings] = None
    for model, settings in models.items():
        able = capability(resolve(model)[0])
        for column, wrong in (
            ("guidance_scale", _guidance(able, settings)),
            ("negative_prompt", _negative(able, settings)),
            ("distilled_guidance_scale", _distilled(able, settings)),
            ("height", _side(able, {one.height for one in settings})),
            ("width", _side(able, {one.width for one in settings})),
        ):
            if wrong:
                route = _route(study, column)
                mend = f"; or leave the axis out: --without {route[1]}" if route[0] == "axes" else ""
                raise study.error(route, f"{column} with the model {model!r}: {wrong}{mend}")


def _check_hosted(study: Study, cells: Sequence[Cell]) -> None:
    """Closed systems read the words, and OpenAI's a size; nothing else of the settings reaches them."""
    for model in {cell.model: None for cell in cells}:
        sized = model.startswith("openai:")
        for column in Settings.__dataclass_fields__:
            route = _route(study, column)
            if route != ("model",) and not (sized and column in ("height", "width")):
                raise study.error(
                    route, f"{column} with the model {model!r}: this system takes no {column}; leave it out"
                )
        for cell in cells if sized else ():
            size = f"{cell.settings.width}x{cell.settings.height}"
            if cell.model == model and size not in HOSTED_SIZES:
                route = next((r for r in map(partial(_route, study), ("width", "height")) if len(r) > 1), ("model",))
                allowed = ", ".join(HOSTED_SIZES)
                raise study.error(
                    route, f"the size {size} with the model {model!r}: allowed (width x height): {allowed}"
                )


def _route(study: Study, column: str) -> Route:
    """Where a setting was given: its axis, the settings, or else the model, whose default it is."""
    if name := columns_of(study.axes).get(column):
        return ("axes", name)
    return ("settings", column) if column in study.settings.model_fields_set else ("model",)


def _title(able: Capability) -> str:
    return f"{able.family.title} ({able.family.pipeline})"


def _guidance(able: Capability, settings: dict[Settings, None]) -> str | None:
    if able.guidance_kind == "true" or {one.guidance_scale for one in settings} == {1.0}:
        return None
    what = "w in u + w (c - u) (classifier-free guidance, CFG) is not computed by this"
    if able.guidance_kind == "embedded":
        own = able.settings.distilled_guidance_scale
        return (
            f"{what} {_title(able)}, whose guidance was distilled into an input; vary distilled_guidance_scale instead "
            f"(its own is {own:g}), which is no CFG: it has no unconditional 0, and 1 is not the conditional pass"
        )
    return (
        f"{what} {_title(able)}, which was distilled to a few steps and takes no guidance; vary num_inference_steps, "
        "the words or the seeds instead"
    )


def _negative(able: Capability, settings: dict[Settings, None]) -> str | None:
    if able.negative_prompt or not any(one.negative_prompt for one in settings):
        return None
    return f"{_title(able)} makes one pass and reads none here; say in the prompt what is wanted instead"


def _distilled(able: Capability, settings: dict[Settings, None]) -> str | None:
    if able.guidance_kind == "embedded" or all(one.distilled_guidance_scale is None for one in settings):
        return None
    if able.guidance_kind == "true":
        return f"{_title(able)} has no such input here; vary guidance_scale instead"
    return f"{_title(able)} has no such input here; vary num_inference_steps, the words or the seeds instead"


def _side(able: Capability, sides: set[int]) -> str | None:
    for side in sorted(sides):
        if side % able.multiple:
            below = side - side % able.multiple
            near = [f"{value}" for value in (below, below + able.multiple) if value]
            return f"given {side}; allowed: multiples of {able.multiple}, such as {' or '.join(near)}"
    return None


MOST = 1_000
"""Families, or seeds, beyond which advice is of no use."""


@dataclass(frozen=True)
class Power:
    """A design, and the smallest difference of rates that it finds with 80 % power; None where it finds none."""

    families: int
    seeds: int
    detectable: float | None


def power_table(families: int, seeds: int, alpha: float = 0.05) -> tuple[Power, ...]:
    """This design, and those with twice and four times the families, each with these seeds and twice as many."""
    return tuple(
        Power(n, m, smallest_detectable(n, m, alpha=alpha))
        for n in (families, 2 * families, 4 * families)
        for m in (seeds, 2 * seeds)
        if n >= 2
    )


def families_of(contrast: Contrast, cells: Sequence[Cell]) -> int:
    """Prompt families with a cell at each of the two levels, whose other levels agree and meet `where`."""
    arms: list[set[tuple[str, object]]] = [set(), set()]
    wanted = [settle(contrast.axis, level) for level in contrast.levels]
    where = {axis: settle(axis, level) for axis, level in contrast.where.items()}
    for cell in cells:
        levels = dict(cell.levels)
        if levels.get(contrast.axis) in wanted and all(levels.get(axis) == level for axis, level in where.items()):
            rest = frozenset((axis, level) for axis, level in levels.items() if axis != contrast.axis)
            arms[wanted.index(levels[contrast.axis])].add((cell.group, rest))
    return len({group for group, _ in arms[0] & arms[1]})


def check_detects(study: Study, cells: Sequence[Cell]) -> None:
    """Raise StudyError for the first contrast whose design cannot find what it must, with designs that can."""
    confirmatory = sum(contrast.family == "confirmatory" for contrast in study.contrasts)
    for i, contrast in enumerate(study.contrasts):
        if contrast.detect is None:
            continue
        _check_rate(study, i, contrast)
        alpha = 0.05 / confirmatory if contrast.family == "confirmatory" else 0.05
        families, seeds = families_of(contrast, cells), len(study.seeds)
        able = smallest_detectable(families, seeds, alpha=alpha) if families >= 2 else None
        if able is not None and able <= contrast.detect:
            continue
        finds = f"finds {able:.2f} or more" if able is not None else "finds no difference of rates"
        raise study.error(
            ("contrasts", i, "detect"),
            f"{contrast.detect:g} must be found, but this design ({families} prompt families, {seeds} seeds, level "
            f"{alpha:.2g}) {finds} with 80 % power; {_advice(contrast.detect, families, seeds, alpha)}",
        )


def _check_rate(study: Study, i: int, contrast: Contrast) -> None:
    use = next(use for use in study.probes if use.name == contrast.probe)
    name = contrast.measure.split(".", 1)[1]
    unit = {m.name: m.unit for m in plugins.load("probe", use.name, **use.options).measures}.get(name)
    if unit is not None and unit != "1 or 0":
        raise study.error(
            ("contrasts", i, "detect"),
            f"{contrast.measure} is no rate (its unit: {unit or 'none'}), and how much it varies is not known before a "
            "run; allowed: detect for measures that are 1 or 0, such as binding.correct",
        )


def _advice(detect: float, families: int, seeds: int, alpha: float) -> str:
    more = next((n for n in range(max(2, families), MOST) if _finds(detect, n, seeds, alpha)), None)
    longer = None
    if families >= 2:
        longer = next((m for m in range(seeds, MOST) if _finds(detect, families, m, alpha)), None)
    ways = [f"{n} {what}" for n, what in ((more, "families"), (longer, "seeds")) if n]
    return f"it would take {' or '.join(ways)}" if ways else f"no design of up to {MOST} families can"


def _finds(detect: float, families: int, seeds: int, alpha: float) -> bool:
    able = smallest_detectable(families, seeds, alpha=alpha)
    return able is not None and able <= detect


@dataclass(frozen=True)
class Cost:
    """US dollars for the pictures that are missing, what they rest on, the budget, and what variable lacks a key."""

    usd: float
    basis: str
    budget: float | None
    keyless: str | None = None


def cost_of(study: Study, missing: Sequence[tuple[Cell, int]]) -> Cost | None:
    """The cost of `missing`; None where pictures cost nothing.

    Raises StudyError where no price is known, or the budget is less than the estimate.
    """
    if study.backend != "hosted":
        return None
    total, bases = 0.0, dict[str, None]()
    for cell, _ in missing:
        if study.price_per_image is not None:
            total += study.price_per_image
            bases["by the study's price_per_image"] = None
            continue
        price = list_price(cell.model, cell.settings.width, cell.settings.height)
        if price is None:
            message = f"no list price of {cell.model!r} is known; give price_per_image, in US dollars"
            raise study.error(("model",) if "model" in study.model_fields_set else (), message)
        total += price.usd
        quality = f", quality {price.quality}, the dearest that it may choose" if price.quality else ""
        bases[f"{price.source} of {price.date}{quality}"] = None
    keyless = next((name for name in map(missing_key, {cell.model: None for cell, _ in missing}) if name), None)
    cost = Cost(total, "; ".join(bases), study.budget_usd, keyless)
    if cost.budget is not None and total > cost.budget + 1e-9:
        raise StudyError(
            f"study {study.name}: {len(missing):,} missing pictures cost about ${total:.2f} ({cost.basis}), over the "
            f"budget of ${cost.budget:.2f}; allow more (--budget, budget_usd), or ask for fewer"
        )
    return cost


def check_paid(cost: Cost | None) -> None:
    """Raise ModelError without a key, StudyError without a budget, if pictures have to be paid for."""
    if cost is None or not cost.usd:
        return
    if cost.keyless:
        raise ModelError(f"no key: the environment variable {cost.keyless} is not set")
    if cost.budget is None:
        raise StudyError(
            f"this run would cost about ${cost.usd:.2f} ({cost.basis}); allow it by --budget {_up(cost.usd):.2f}, "
            "or by budget_usd in the study"
        )


def _up(usd: float) -> float:
    """Whole cents, rounded up."""
    return -(-round(usd * 1e6) // 10_000) / 100


@dataclass(frozen=True)
class Reading:
    """What one encoder makes of the prompts: `limit` tokens are read, the longest prompt has `longest`, `cut` are cut.

    Tokens count marks and frame as the encoder is given them. `lost` is what it does not see of the longest.
    """

    model: str
    encoder: str
    limit: int
    longest: int
    cut: int
    lost: str


def readings(cells: Iterable[Cell]) -> tuple[Reading, ...]:
    """One reading for each text encoder of each model that makes pictures from text. Raises ModelError."""
    prompts: dict[str, dict[str, Prompt]] = {}
    for cell in cells:
        if cell.backend == "diffusion":
            prompts.setdefault(cell.model, {})[cell.prompt.text] = cell.prompt
    found = []
    for model, texts in prompts.items():
        folder = resolve(model)[0]
        for reader in capability(folder).readers:
            tokens, limit = open_reader(folder, reader)
            spans = [tokens.spans(prompt, limit) for prompt in texts.values()]
            worst = max(spans, key=lambda one: (one.cut, one.total))
            cut = sum(one.cut > 0 for one in spans)
            own = reader.dropped
            found.append(Reading(model, reader.name, limit - own, worst.total - own, cut, worst.cut_text))
    return tuple(found)


def limits(model: str) -> dict[str, int]:
    """Tokens that each text encoder of a model reads, by the encoder's name. Raises ModelError."""
    folder = resolve(model)[0]
    return {reader.name: open_reader(folder, reader)[1] - reader.dropped for reader in capability(folder).readers}


def unknown_words(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Words that the miniature is asked and never learned, in order of appearance; other models are not asked."""
    texts = dict.fromkeys(
        cell.prompt.text for cell in cells if cell.backend == "diffusion" and cell.model in MINIATURES
    )
    return tuple(dict.fromkeys(word for text in texts for word in check_words(text)))
