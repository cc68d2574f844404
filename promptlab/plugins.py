"""Backends and probes by name: the folder is the registry, the file name is the name in YAML.

A plugin is a module with a function `load(**options)` at its top level; other modules of the folder are its parts. A
name with a dot is a module elsewhere, anything Python can import: `mypackage.my_backend`. Listing imports nothing.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from functools import cache
from importlib import resources
from typing import Any

from promptlab.errors import PromptlabError, nearest

__all__ = ["KINDS", "load", "names", "parameters", "part"]

KINDS = {
    "backend": "promptlab.generator.backends",
    "probe": "promptlab.analyzer.probes",
}
"""Package in which each kind lives."""


@cache
def names(kind: str) -> tuple[str, ...]:
    """Names of all plugins of a kind ("backend" or "probe") that ship, sorted."""
    try:
        folder = resources.files(_package(kind))
    except ModuleNotFoundError:
        return ()
    found = [file for file in folder.iterdir() if file.name.endswith(".py") and not file.name.startswith("_")]
    return tuple(sorted(file.name[:-3] for file in found if _loads(file.read_text(encoding="utf-8"))))


def _package(kind: str) -> str:
    if kind not in KINDS:
        raise PromptlabError(
            f"no kind of plugin is called {kind!r}: choose from {', '.join(KINDS)}{nearest(kind, KINDS)}"
        )
    return KINDS[kind]


def _loads(source: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "load" for node in ast.parse(source).body)


def load(kind: str, name: str, **options: Any) -> Any:
    """The plugin `name`, loaded with `options`.

    Raises PromptlabError for an unknown name or option, naming the nearest, and whatever the plugin's own load raises.
    """
    function = part(kind, name, "load")
    if not callable(function):
        raise PromptlabError(f"{name} is no {kind}: it has no function load(**options)")
    _check_options(f"{kind} {name!r}", function, options)
    return function(**options)


def parameters(kind: str, name: str) -> tuple[str, ...]:
    """The options of the plugin `name`."""
    return tuple(inspect.signature(part(kind, name, "load")).parameters)


def part(kind: str, name: str, what: str) -> Any:
    """What the module of the plugin `name` calls `what`, or None. Raises PromptlabError for an unknown plugin."""
    package, known = _package(kind), names(kind)
    if "." not in name and name not in known:
        raise PromptlabError(
            f"no {kind} is called {name!r}: choose from {', '.join(known)}, "
            f"or give a module by its dotted path{nearest(name, known)}"
        )
    path = name if "." in name else f"{package}.{name}"
    try:
        return getattr(importlib.import_module(path), what, None)
    except (ImportError, TypeError, ValueError) as error:
        raise PromptlabError(f"{kind} {name!r} cannot be imported ({error}); is it installed here?") from error


def _check_options(what: str, function: Any, options: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            allowed = ", ".join(parameters) or "none"
            raise PromptlabError(f"{what} has no option {option!r}: allowed are {allowed}{nearest(option, parameters)}")
