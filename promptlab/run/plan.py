"""What a run would do, counted before anything heavy loads.

    Study --expand--> cells at seeds --check--> Plan --count, against the store--> missing images, time, disk, cost

A plan is refused before an image is made, with a StudyError at the place in the file, for one of three reasons:

    settings    the model cannot follow one: a guidance that it does not compute, a negative prompt that it never reads,
                a size that its pipeline would round. Such an axis would end in a comparison of equal images
    power       a contrast says `detect: 0.10`, and its design does not find a difference of ten points with 80 % power
    cost        the missing images of a closed system cost more than the budget

Power comes from `promptlab.stats.power`. It counts the prompt families that the contrast pairs (both levels present,
`where` met) and the seeds of the study. The level is 0.05, for a confirmatory contrast divided by the number of them
(Holm's first step). Pairs at other levels of the other axes do not count as more seeds, which errs on the safe side.

A run of `backend: hosted` needs a budget in US dollars: `budget_usd` of the study, or `--budget`. A run without one is
refused, and a run that would exceed it ends (`promptlab.generator.backends.hosted.Budget`).

The model's own tokenizers count tokens, inside the frame that its pipeline puts around a prompt. A pipeline may have
several encoders with different limits: of a long prompt FLUX.1's CLIP reads 77 tokens and its T5 512.

Seconds an image come from images of the same model and size that the store timed, else from `RATE`, else from
arithmetic (`promptlab.generator.models.capabilities`). The plan says which. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from promptlab import plugins
from promptlab.checkpoints.files import MINIATURES, pinned, resolve, tokenizer_of
from promptlab.errors import ModelError, StudyError
from promptlab.generator.backends.hosted import list_price, missing_key
from promptlab.generator.models.capabilities import Capability, capability, defaults_of, estimate, open_reader
from promptlab.miniature.captions import check_words
from promptlab.records import STATUSES, Cell, Image, Prompt, Settings
from promptlab.stats.power import smallest_detectable
from promptlab.study.axes.axis import settle
from promptlab.study.checks import columns_of
from promptlab.study.grid import MAX_CELLS, expand
from promptlab.study.strict_yaml import Route
from promptlab.study.study import Contrast, Study

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = [
    "RETRIED",
    "Cost",
    "Plan",
    "Power",
    "Truncation",
    "check_model_settings",
    "check_paid",
    "check_power",
    "cost_of",
    "families_of",
    "plan_facts",
    "plan_study",
    "power_table",
    "recount",
    "tier_of",
    "token_limits",
    "truncations",
    "unknown_words",
]

RATE = {"miniature": 0.35}
"""Seconds an image on two CPU cores, used until the store has timed one."""

MODEL_DEFAULTS = frozenset({"guidance_scale", "num_inference_steps", "height", "width"})
"""Settings whose defaults depend on the model."""

RETRIED = frozenset({"error", "oom", "invalid_image"})
"""Statuses that a later run tries again; a refusal or a NaN would only repeat."""

PlannedJob = tuple[Cell, int]
"""A cell and a seed."""


@dataclass(frozen=True)
class Plan:
    """An expanded study, and what a run of it would make.

    Attributes:
        jobs: cell and seed of each distinct image, by image id.
        groups: number of prompt families.
        truncations: what each text encoder cuts off.
        unknown: words of the prompts that the miniature never learned.
        home: path of the store that the plan was counted against; None without a store.
        make: whether the run makes images; False only scores those that exist.
        missing: jobs that have no image yet.
        seconds: time to make them, None if unknown; `basis` says what the estimate rests on.
        megabytes: disk space that they take.
        memory: bytes of the largest model's weights; None if no model is loaded.
        cost: None if images cost nothing.
    """

    study: Study
    cells: tuple[Cell, ...]
    jobs: Mapping[str, PlannedJob] = field(repr=False)
    groups: int
    truncations: tuple[Truncation, ...]
    unknown: tuple[str, ...] = ()
    home: Path | None = None
    make: bool = True
    missing: tuple[PlannedJob, ...] = ()
    seconds: float | None = None
    basis: str = ""
    megabytes: float = 0.0
    memory: float | None = None
    cost: Cost | None = None

    @property
    def planned(self) -> int:
        """The number of images of all cells; an image that two cells share counts twice."""
        return sum(len(cell.seeds(self.study.seeds)) for cell in self.cells)

    @property
    def images(self) -> int:
        """The number of distinct images."""
        return len(self.jobs)

    @property
    def made(self) -> int:
        """The number of distinct images that need not be made."""
        return len(self.jobs) - len(self.missing)

    @property
    def detectable(self) -> float | None:
        """The smallest difference of rates that a contrast over all prompt families finds with 80 % power, or None."""
        if self.groups < 2:
            return None
        return smallest_detectable(self.groups, len(self.study.seeds))

    @property
    def power(self) -> tuple[Power, ...]:
        """What this design and larger ones can find; empty without contrasts or with one prompt family."""
        return power_table(self.groups, len(self.study.seeds)) if self.groups > 1 and self.study.contrasts else ()


def plan_facts(plan: Plan) -> dict[str, Any]:
    """A plan as plain data."""
    return {
        "study": plan.study.name,
        "model": plan.study.model,
        "cells": len(plan.cells),
        "seeds": len(plan.study.seeds),
        "images": plan.images,
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
        "truncations": [asdict(one) for one in plan.truncations],
        "smallest_detectable_difference": plan.detectable,
        "power": [asdict(one) for one in plan.power],
    }


def tier_of(cell: Cell) -> str:
    """The tier of a cell: T0 for the renderer, T1 for the miniature with either text encoder, T2 for all else."""
    if cell.backend == "renderer":
        return "T0"
    return "T1" if cell.model in ("miniature", "miniature-bag") else "T2"


def plan_study(
    study: Study, store: Store | None, max_cells: int = MAX_CELLS, *, retry: bool = False, make: bool = True
) -> Plan:
    """Expand a study, check it, and count what `store` lacks of it.

    Args:
        retry: whether images that failed for good (a refusal, a NaN) count as missing.
        make: whether the run makes images. If not, models need not be on this disk, provided that the study leaves
            none of their default settings open.

    Raises StudyError (too many cells, impossible prompts, settings without effect) and ModelError.
    """
    known = store.images() if store else {}
    cells, absent = _cells(study, known.values(), max_cells, make)
    present = tuple(cell for cell in cells if cell.model not in absent) if absent else cells
    check_model_settings(study, present)
    if make:
        check_power(study, cells)
    plan = Plan(
        study,
        cells,
        {cell.image_id(seed): (cell, seed) for cell in cells for seed in cell.seeds(study.seeds)},
        len({cell.group for cell in cells}),
        truncations(present),
        unknown_words(present),
        store.home.path if store else None,
        make,
    )
    return _count(plan, known, retry)


def recount(plan: Plan, store: Store, *, retry: bool = False) -> Plan:
    """Count a plan again, against what `store` has now: another run may have made some of it since."""
    return _count(plan, store.images(), retry)


def _cells(
    study: Study, known: Collection[Image], max_cells: int, make: bool
) -> tuple[tuple[Cell, ...], frozenset[str]]:
    """The cells of a study, and which of their models are not on this disk."""
    left_open = MODEL_DEFAULTS - study.settings.model_fields_set - columns_of(study.axes).keys()
    absent: set[str] = set()

    def defaults(model: str) -> Settings:
        try:
            return defaults_of(model)
        except ModelError:
            if make or left_open:
                raise
            absent.add(model)
            return Settings()

    cells = tuple(expand(study, tokenizer_of, max_cells, defaults if study.backend == "diffusion" else None))
    if study.backend != "diffusion":
        return cells, frozenset()
    # The commit enters the ids of images: when a branch of the hub moves on, its images are others.
    names = {m: _made_by(m, known) if m in absent else pinned(m) for m in {cell.model for cell in cells}}
    if any(name != model for model, name in names.items()):
        cells = tuple(replace(cell, model=names[cell.model]) for cell in cells)
    return cells, frozenset(names[model] for model in absent)


def _count(plan: Plan, known: Mapping[str, Image], retry: bool) -> Plan:
    """Fill in what `plan` lacks, given the images `known`, and what making it takes."""
    again = frozenset(STATUSES) - {"ok"} if retry else RETRIED
    missing = tuple(job for key, job in plan.jobs.items() if key not in known or known[key].status in again)
    settings = plan.cells[0].settings
    drawn = 20e3 if settings.width <= 256 else 1.3 * settings.width * settings.height
    size = sum(map(_bytes, missing)) / max(1, len(missing)) or drawn
    seconds, basis, memory = _time(plan.cells, known.values(), missing) if plan.make else (None, "", None)
    return replace(
        plan,
        missing=missing,
        seconds=seconds,
        basis=basis,
        megabytes=size * len(missing) / 1e6,
        memory=memory,
        cost=cost_of(plan.study, missing) if plan.make else None,
    )


def _bytes(job: PlannedJob) -> float:
    """Estimated bytes as PNG of an image made elsewhere; 0 for one that promptlab makes."""
    source = job[0].source(job[1])
    if source is None:
        return 0.0
    path = Path(source.path)
    size = path.stat().st_size if path.is_file() else 0
    return float(size) if path.suffix.lower() == ".png" else 8.0 * size


def _made_by(model: str, known: Collection[Image]) -> str:
    """The NAME@COMMIT under which images of an absent model were made, if there is only one, else its name."""
    made = {str(image.recipe.get("model")) for image in known}
    found = {name for name in made if name.startswith(f"{model}@")}
    return found.pop() if len(found) == 1 else model


def _is_alike(image: Image, cell: Cell) -> bool:
    recipe: dict[str, Any] = image.recipe
    same = ("width", "height", "num_inference_steps")
    return recipe.get("model") == cell.model and all(recipe.get(k) == getattr(cell.settings, k) for k in same)


def _time(
    cells: Sequence[Cell], known: Collection[Image], missing: Sequence[PlannedJob]
) -> tuple[float | None, str, float | None]:
    """Seconds for the missing images, their basis, and bytes of weights. A model's first cell stands for all."""
    total, bases, memory = 0.0, dict[str, None](), 0.0
    for model, first in _by_model(cells).items():
        todo = [cell for cell, _ in missing if cell.model == model]
        timed = [image.seconds for image in known if image.status == "ok" and image.seconds and _is_alike(image, first)]
        if timed:
            total += median(timed) * len(todo)
            bases["by pictures timed here"] = None
        elif model in RATE and first.backend != "folder":
            total += RATE[model] * sum(cell.settings.num_inference_steps for cell in todo) / 25
            bases["on two CPU cores"] = None
        elif first.backend != "diffusion":
            return None, "", None
        if first.backend == "diffusion" and model not in RATE:
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


def check_model_settings(study: Study, cells: Sequence[Cell]) -> None:
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
    """Raise StudyError for a setting that a closed system ignores: all but the words, and the size for OpenAI."""
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
    """Where the study sets a column: its axis, the settings, or the model if it is the model's default."""
    if name := columns_of(study.axes).get(column):
        return ("axes", name)
    return ("settings", column) if column in study.settings.model_fields_set else ("model",)


def _title(able: Capability) -> str:
    return f"{able.architecture.title} ({able.architecture.pipeline})"


def _guidance(able: Capability, settings: dict[Settings, None]) -> str | None:
    if able.guidance_kind == "true" or {one.guidance_scale for one in settings} == {1.0}:
        return None
    what = "w in u + w (c - u) (classifier-free guidance, CFG) is not computed by this"
    if able.guidance_kind == "embedded":
        default = able.settings.distilled_guidance_scale
        return (
            f"{what} {_title(able)}, whose guidance was distilled into an input; vary distilled_guidance_scale instead "
            f"(its own is {default:g}), which is no CFG: it has no unconditional 0, and 1 is not the conditional pass"
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
"""The most families, or seeds, that advice suggests."""


@dataclass(frozen=True)
class Power:
    """A design, and the smallest difference of rates that it finds with 80 % power; None if it finds none."""

    families: int
    seeds: int
    detectable: float | None


def power_table(families: int, seeds: int, alpha: float = 0.05) -> tuple[Power, ...]:
    """The power of this design and of twice and four times the families, each with once and twice the seeds."""
    return tuple(
        Power(n, m, smallest_detectable(n, m, alpha=alpha))
        for n in (families, 2 * families, 4 * families)
        for m in (seeds, 2 * seeds)
        if n >= 2
    )


def families_of(contrast: Contrast, cells: Sequence[Cell]) -> int:
    """Count the prompt families that have both levels of a contrast, with equal other levels that meet `where`."""
    arms: list[set[tuple[str, object]]] = [set(), set()]
    wanted = [settle(contrast.axis, level) for level in contrast.levels]
    where = {axis: settle(axis, level) for axis, level in contrast.where.items()}
    for cell in cells:
        levels = dict(cell.levels)
        if levels.get(contrast.axis) in wanted and all(levels.get(axis) == level for axis, level in where.items()):
            rest = frozenset((axis, level) for axis, level in levels.items() if axis != contrast.axis)
            arms[wanted.index(levels[contrast.axis])].add((cell.group, rest))
    return len({group for group, _ in arms[0] & arms[1]})


def check_power(study: Study, cells: Sequence[Cell]) -> None:
    """Raise StudyError for the first contrast whose design cannot find its `detect`; suggest designs that can."""
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
    """The cost of the missing images.

    `basis` says what prices it rests on; `keyless` is the environment variable in which a key is missing, or None.
    """

    usd: float
    basis: str
    budget: float | None
    keyless: str | None = None


def cost_of(study: Study, missing: Sequence[PlannedJob]) -> Cost | None:
    """The cost of `missing`; None if images cost nothing.

    Raises StudyError if no price is known, or the estimate is above the budget.
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
    """For images that cost money, raise ModelError without a key, and StudyError without a budget."""
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
    """Dollars rounded up to whole cents."""
    return -(-round(usd * 1e6) // 10_000) / 100


@dataclass(frozen=True)
class Truncation:
    """How much of the prompts one text encoder reads. Tokens include the marks and the frame that the encoder gets.

    It reads up to `limit` tokens, and the longest prompt has `longest`. `truncated` prompts are longer than the limit.
    `lost` is the text of the longest prompt that the encoder does not see.
    """

    model: str
    encoder: str
    limit: int
    longest: int
    truncated: int
    lost: str


def truncations(cells: Iterable[Cell]) -> tuple[Truncation, ...]:
    """One `Truncation` for each text encoder of each diffusion model of `cells`. Raises ModelError."""
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
            longest = max(spans, key=lambda one: (one.cut, one.total))
            truncated = sum(one.cut > 0 for one in spans)
            limit, total = limit - reader.dropped, longest.total - reader.dropped
            found.append(Truncation(model, reader.name, limit, total, truncated, longest.cut_text))
    return tuple(found)


def token_limits(model: str) -> dict[str, int]:
    """The number of tokens that each text encoder of a model reads, by its name. Raises ModelError."""
    folder = resolve(model)[0]
    return {reader.name: open_reader(folder, reader)[1] - reader.dropped for reader in capability(folder).readers}


def unknown_words(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Words of prompts for the miniature that it never learned, in order of appearance."""
    texts = dict.fromkeys(
        cell.prompt.text for cell in cells if cell.backend == "diffusion" and cell.model in MINIATURES
    )
    return tuple(dict.fromkeys(word for text in texts for word in check_words(text)))
