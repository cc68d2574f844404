"""From what is wrong with a value to a sentence a person can act on.

A `Mistake` is a complaint with a route to the guilty value, relative to where it is raised. `Record` is the base of
everything in a study file: frozen, closed, and able to name the key that was meant. `study_error` joins pydantic's
findings with the places that `yaml_strict` kept, first mistake first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from promptlab.errors import StudyError, nearest
from promptlab.yaml_strict import Document, Route, visible

__all__ = ["Mistake", "Record", "allowed", "sentence", "shown", "study_error"]

MOST = 5


class Mistake(ValueError):
    """A complaint about the value at `route`, or about its key."""

    def __init__(self, route: Route, message: str, *, key: bool = False, show: bool = True) -> None:
        super().__init__(message)
        self.route, self.message, self.key, self.show = route, message, key, show


def shown(value: Any) -> str:
    """A value as messages show it: short, quoted, safe to print, true and null as YAML spells them."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    return visible(repr(value), 60)


def allowed(given: str, names: Iterable[str]) -> str:
    """`; allowed: a, b, c; did you mean 'a'?`"""
    known = list(names)
    return f"; allowed: {', '.join(known[:20]) or 'none'}{nearest(given, known)}"


class Record(BaseModel):
    """A closed, frozen mapping of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict) and cls.model_config.get("extra") == "forbid":
            names = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in names:
                    raise Mistake((key,), f"{shown(key)} is not known here{allowed(str(key), names)}", key=True)
        return data


def study_error(document: Document, error: ValidationError) -> StudyError:
    """All mistakes as one StudyError: the first in the file with its line, up to four more in one line each.

    Of two at one place the first is told: a list whose only item is wrong is not also too short.
    """
    found: dict[tuple[int, int], Mistake] = {}
    for item in error.errors(include_url=False):
        mistake = _mistake(document.data, item)
        place = document.place(mistake.route, key=mistake.key)
        found.setdefault((place.line, place.column), mistake)
    first, *others = (found[place] for place in sorted(found))
    lines = [str(document.error(first.route, first.message, key=first.key, show=first.show))]
    lines += [str(document.error(m.route, m.message, key=m.key, show=False)) for m in others[: MOST - 1]]
    more = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
    return StudyError("\n".join(lines + more))


def _mistake(data: Any, item: Any) -> Mistake:
    """One finding of pydantic, with its route in the file: names of union branches are not part of it."""
    route: list[str | int] = []
    at = data
    for step in item["loc"]:
        inside = (isinstance(at, dict) and step in at) or (
            isinstance(at, list) and isinstance(step, int) and step < len(at)
        )
        if inside:
            route.append(step)
            at = at[step]
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, Mistake):
        key = cause.key or (bool(item["loc"]) and item["loc"][-1] == "[key]")
        return Mistake((*route, *cause.route), cause.message, key=key, show=cause.show)
    return Mistake(tuple(route), sentence(item), key=item["loc"][-1:] == ("[key]",))


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list, such as [a, b]",
    "tuple_type": "a list, such as [a, b]",
    "dict_type": "a mapping, such as {key: value}",
    "model_type": "a mapping, such as {key: value}",
    "model_attributes_type": "a mapping, such as {key: value}",
}
_BOUND = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


def sentence(item: Any) -> str:
    """One finding of pydantic in our words: given, allowed, nearest."""
    kind, given, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "missing":
        return f"{item['loc'][-1]!r} is missing"
    if kind == "string_type":
        if given is None:
            return 'given nothing; allowed: text ("" where it may be empty)'
        quotes = "" if isinstance(given, dict | list) else ", so put it in quotes"
        return f"given {shown(given)}; allowed: text{quotes}"
    if kind in _WANTED:
        return f"given {shown(given)}; allowed: {_WANTED[kind]}"
    if kind in _BOUND:
        words, name = _BOUND[kind]
        return f"given {shown(given)}; allowed: {words} {context[name]:g}"
    if kind == "literal_error":
        return f"given {shown(given)}; allowed: {context['expected']}{_near_literal(given, context['expected'])}"
    if kind in ("too_short", "too_long"):
        bound = "at least {min_length}" if kind == "too_short" else "at most {max_length}"
        return f"{context['actual_length']} given; allowed: {bound.format(**context)}"
    if kind in ("string_too_short", "string_too_long"):
        bound = "at least {min_length}" if kind == "string_too_short" else "at most {max_length}"
        return f"given {shown(given)}; allowed: {bound.format(**context)} characters"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        form = "text that is not blank" if pattern == r"\S" else f"text of the form {pattern.strip('^$')}"
        return f"given {shown(given)}; allowed: {form}"
    return f"given {shown(given)}; {item['msg']}"


def _near_literal(given: Any, expected: str) -> str:
    return nearest(str(given), [name.strip("'") for name in expected.replace(" or ", ", ").split(", ")])
