"""Axes: the factors of a grid, each an ordered tuple of levels known before the run.

    colour: [red, green]                            plain values: of a slot, of a setting, or of `model`
    guidance_scale: {range: {start: 0, stop: 8, step: 2}}           both ends included; or `num` in place of `step`
    pair: {zip: [{noun: cup, colour: red}, ...]}    several names vary together; also {zip: {noun: [..], colour: [..]}}
    order: {order: [first, second]}                 every permutation of what stands in these slots
    place: {position: {of: style, among: [...]}}    one phrase at each place, the others in their order
    wording: {paraphrase: [a photo of, a picture of]}               the same in other words, in the slot {wording}
    details: {ladder: [shiny, on a table]}          the first 0, 1, 2, ... details in the slot {details};
                                                    with `control: true` beside filler as long (`details_arm`)
    length: {tokens: {to: [20, 77], needle: first, at: 9}}          padded to N tokens, the needle at token k
    assignment: {swap: [first, second]}             as written, and with the attributes exchanged
    objects: {alone: [first, second]}               together, and each object alone
    text: {prompts: color_val.txt}                  the prompts of a list; also format, only, root

Every axis has a column of its own name; `zip` adds one for each name, `ladder` with a control `NAME_arm`, `tokens` with
`at` `NAME_at`, `prompts` whatever its list has.

The folder is the registry: each file but `axis.py` holds one kind, and a new kind is a new file (see `axis.py`). What
may stand in a study file, the messages about it and its JSON schema follow from the kinds that are registered.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from promptlab.errors import nearest
from promptlab.study.axes.axis import KINDS, SETTINGS, Axis, Levels, Point, register, settle
from promptlab.study.strict_yaml import Mistake, shown

__all__ = ["KINDS", "SETTINGS", "AnyAxis", "Axis", "Levels", "Point", "register", "settle"]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

_LIST = "values"
"""The kind that a study file writes as a list; all others are mappings with the kind as a key."""


def _kind_of(value: Any) -> type[Axis]:
    """The kind of axis that a value of a study file means. Raises Mistake."""
    named = [kind for kind in KINDS if kind != _LIST]
    if isinstance(value, list):
        return KINDS[_LIST]
    if not isinstance(value, dict):
        hint = "a single value belongs into the prompt or the settings"
        raise Mistake((), f"given {shown(value)}; allowed: a list, or one of {', '.join(named)}; {hint}")
    found = [key for key in value if key in named]
    if len(found) > 1:
        raise Mistake((found[1],), f"one axis is of one kind; given: {', '.join(found)}", key=True)
    if not found:
        first = next(iter(value), "")
        hint = next((h for key in value if (h := nearest(str(key), named))), "")
        message = f"{shown(first)} is no kind of axis; allowed: a list, or one of {', '.join(named)}{hint}"
        raise Mistake((first,) if value else (), message, key=bool(value))
    return KINDS[found[0]]


def _read(value: Any, info: ValidationInfo) -> Axis:
    if isinstance(value, Axis):
        return value
    axis: Axis = TypeAdapter(_kind_of(value)).validate_python(value, context=info.context)
    return axis


class _RegisteredKinds:
    """Tells pydantic to look a kind up when it reads an axis, so that kinds registered later can be read as well."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(kind) for name, kind in KINDS.items()}
        union = core_schema.tagged_union_schema(choices, discriminator=lambda value: None)
        return core_schema.with_info_plain_validator_function(_read, json_schema_input_schema=union)


AnyAxis = Annotated[Axis, _RegisteredKinds]
"""What may stand under a name in `axes:`."""
