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
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag

from promptlab.errors import nearest
from promptlab.study.axes.axis import SETTINGS, Axis, Point, Range, Values, Zip, settle
from promptlab.study.axes.lengths import Ladder, TokenLength
from promptlab.study.axes.manipulations import Alone, Order, Paraphrase, Position, Swap
from promptlab.study.axes.prompts import Prompts
from promptlab.study.strict_yaml import Mistake, shown

__all__ = ["KINDS", "SETTINGS", "AnyAxis", "Axis", "Point", "settle"]

KINDS: dict[str, type[Axis]] = {
    axis.kind: axis
    for axis in (Values, Range, Zip, Order, Position, Paraphrase, Ladder, TokenLength, Swap, Alone, Prompts)
}


def _known_kind(value: Any) -> Any:
    named = [kind for kind in KINDS if kind != "values"]
    if isinstance(value, list | Axis):
        return value
    if not isinstance(value, dict):
        hint = "a single value belongs into the prompt or the settings"
        raise Mistake((), f"given {shown(value)}; allowed: a list, or one of {', '.join(named)}; {hint}")
    found = [kind for kind in named if kind in value]
    if len(found) > 1:
        raise Mistake((found[1],), f"one axis is of one kind; given: {', '.join(found)}", key=True)
    if not found:
        given = next(iter(value), "")
        hint = next((h for key in value if (h := nearest(str(key), named))), "")
        message = f"{shown(given)} is no kind of axis; allowed: a list, or one of {', '.join(named)}{hint}"
        raise Mistake((given,) if value else (), message, key=bool(value))
    return value


def _tag(value: Any) -> str | None:
    # In brackets, because pydantic puts the tag into an error's path, where `ladder` would look like the key ladder.
    if isinstance(value, Axis):
        return f"<{value.kind}>"
    return "<values>" if isinstance(value, list) else next((f"<{kind}>" for kind in KINDS if kind in value), None)


AnyAxis = Annotated[
    Annotated[Values, Tag("<values>")]
    | Annotated[Range, Tag("<range>")]
    | Annotated[Zip, Tag("<zip>")]
    | Annotated[Order, Tag("<order>")]
    | Annotated[Position, Tag("<position>")]
    | Annotated[Paraphrase, Tag("<paraphrase>")]
    | Annotated[Ladder, Tag("<ladder>")]
    | Annotated[TokenLength, Tag("<tokens>")]
    | Annotated[Swap, Tag("<swap>")]
    | Annotated[Alone, Tag("<alone>")]
    | Annotated[Prompts, Tag("<prompts>")],
    Discriminator(_tag),
    BeforeValidator(_known_kind),
]
"""What may stand under a name in `axes:`."""
