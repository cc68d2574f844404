"""Whether a model can do what a study asks: an axis without effect is refused before anything is made.

A guidance that the model does not compute, a negative prompt that it never reads, a size that its pipeline would round:
each would cost hours and end in a comparison of equal pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from promptlab.backends.capabilities import Capability, capability
from promptlab.backends.folders import resolve
from promptlab.records import Cell, Settings
from promptlab.study import Study
from promptlab.yaml_strict import Route

__all__ = ["check_suits"]

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
    for name, axis in study.axes.items():
        if column in axis.columns(name):
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
