"""Probes, backends and findings by name: those that ship, and those from outside.

A plugin is a module. One that ships is a file in the folder of its kind, and its name in a study is the file's name. A
plugin from outside needs no change to promptlab. It becomes known in one of two ways:

    installed   its package has an entry point in the group promptlab.probes, promptlab.backends or promptlab.findings:
                [project.entry-points."promptlab.probes"]
                sharp = "mypackage.sharp"
    named       promptlab --plugin mypackage.sharp run study.yaml
                or PROMPTLAB_PLUGINS=mypackage.sharp,mypackage.stripes. The module says its kind at its top level, as in
                kind = "probe", and its name is the last part of its path.

A study file can only choose among these names. Reading a study therefore runs no code that the person at the keyboard
has not installed or named. Listing imports nothing: entry points are read as text, and so is the source of modules.

Started processes inherit PROMPTLAB_PLUGINS, and workers on other machines receive it with their order.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, resources
from types import ModuleType
from typing import Any, NamedTuple

from promptlab.errors import PromptlabError, nearest

__all__ = [
    "KINDS",
    "VARIABLE",
    "Kind",
    "Plugin",
    "check_known",
    "load",
    "module",
    "name_modules",
    "named_modules",
    "names",
    "parameters",
    "registry",
    "unknown_option",
]

VARIABLE = "PROMPTLAB_PLUGINS"
"""The environment variable with the modules that the person at the keyboard named, separated by commas."""


class Kind(NamedTuple):
    """A kind of plugin: the package of those that ship, the function that makes a module one, its entry points."""

    package: str
    function: str
    group: str


KINDS: Mapping[str, Kind] = {
    "backend": Kind("promptlab.generator.backends", "load", "promptlab.backends"),
    "finding": Kind("promptlab.results.findings", "find", "promptlab.findings"),
    "probe": Kind("promptlab.analyzer.probes", "load", "promptlab.probes"),
}


@dataclass(frozen=True)
class Plugin:
    """A plugin that is known here, by its name in studies.

    Attributes:
        module: the dotted path that is imported when the plugin is used.
        source: who brought it: "promptlab", a distribution with its version, or PROMPTLAB_PLUGINS.
    """

    kind: str
    name: str
    module: str
    source: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} ({self.module}, from {self.source})"


def names(kind: str) -> tuple[str, ...]:
    """Names of all plugins of a kind, sorted. Raises PromptlabError as `registry` does."""
    return tuple(registry(kind))


def registry(kind: str) -> Mapping[str, Plugin]:
    """All plugins of a kind by name, sorted. Nothing is imported.

    Raises PromptlabError for an unknown kind, for two plugins of one name, and for a named module that is not found or
    does not say its kind.
    """
    if kind not in KINDS:
        raise PromptlabError(
            f"no kind of plugin is called {kind!r}: choose from {', '.join(KINDS)}{nearest(kind, KINDS)}"
        )
    return _registry(kind, named_modules(), tuple(sys.path))


def named_modules() -> tuple[str, ...]:
    """The modules in PROMPTLAB_PLUGINS."""
    parts = os.environ.get(VARIABLE, "").split(",")
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def name_modules(modules: Iterable[str]) -> None:
    """Add modules to PROMPTLAB_PLUGINS, for this process and those that it starts.

    Raises PromptlabError for a module that is not found or does not say its kind.
    """
    modules = tuple(modules)
    for one in modules:
        _kind_of(one, tuple(sys.path))
    if modules:
        os.environ[VARIABLE] = ",".join(dict.fromkeys((*named_modules(), *modules)))


def load(kind: str, name: str, **options: Any) -> Any:
    """The plugin `name`, made by the function `load` of its module with `options`.

    Raises PromptlabError for an unknown name or option, suggesting the nearest, and whatever the plugin's own `load`
    raises.
    """
    function = _function(kind, name)
    option = unknown_option(kind, name, options)
    if option is not None:
        allowed = parameters(kind, name)
        raise PromptlabError(
            f"{kind} {name!r} has no option {option!r}: "
            f"allowed are {', '.join(allowed) or 'none'}{nearest(option, allowed)}"
        )
    loaded = function(**options)
    calls_itself = getattr(loaded, "name", name)
    if calls_itself != name:  # scores are found again by the name that the probe gives itself
        raise PromptlabError(f"{registry(kind)[name]} calls itself {calls_itself!r}: give both the same name")
    return loaded


def module(kind: str, name: str) -> ModuleType:
    """The module of the plugin `name`, imported. Raises PromptlabError where it is unknown or cannot be imported."""
    check_known(kind, name)
    plugin = registry(kind)[name]
    try:
        return importlib.import_module(plugin.module)
    except Exception as error:  # code from outside may raise anything when it is imported
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise PromptlabError(f"{plugin} cannot be imported ({why})") from error


def parameters(kind: str, name: str) -> tuple[str, ...]:
    """The options of the plugin `name`."""
    accepted = inspect.signature(_function(kind, name)).parameters.values()
    return tuple(one.name for one in accepted if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))


def unknown_option(kind: str, name: str, options: Iterable[str]) -> str | None:
    """The first of `options` that the plugin `name` does not take, or None."""
    accepted = inspect.signature(_function(kind, name)).parameters
    if any(one.kind is one.VAR_KEYWORD for one in accepted.values()):
        return None
    return next((option for option in options if option not in accepted), None)


def check_known(kind: str, name: str) -> None:
    """Raise PromptlabError unless a plugin of this kind and name is known; the message says how to make one known."""
    known = names(kind)
    if name in known:
        return
    message = f"no {kind} is called {name!r}; allowed: {', '.join(known)}{nearest(name, known)}"
    if "." in name:
        message = (
            f"{name!r} is the path of a module, and a study runs no code that it names: write "
            f"{name.rpartition('.')[2]!r}, and install a package with that {kind} (entry points {KINDS[kind].group}) "
            f"or name it on the command line, promptlab --plugin {name}"
        )
    else:
        message += f"; for a {kind} of your own: promptlab --plugin MODULE, or install its package"
    raise PromptlabError(message)


def _function(kind: str, name: str) -> Callable[..., Any]:
    function = getattr(module(kind, name), "load", None)
    if not callable(function):
        raise PromptlabError(f"{registry(kind)[name]} has no function load(...)")
    return function  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _registry(kind: str, named: tuple[str, ...], path: tuple[str, ...]) -> Mapping[str, Plugin]:
    """The registry as of these named modules and this `sys.path`, on which entry points are looked for."""
    found: dict[str, Plugin] = {}
    for plugin in (*_shipped(kind), *_installed(kind, path), *_named(kind, named, path)):
        if not re.fullmatch("[a-z][a-z0-9_]*", plugin.name):
            raise PromptlabError(
                f"{plugin} cannot have this name; allowed: small letters, digits and _, a letter first"
            )
        other = found.setdefault(plugin.name, plugin)
        if other.module != plugin.module:
            raise PromptlabError(f"two plugins have one name, {other} and {plugin}: rename or remove the second")
    return dict(sorted(found.items()))


def _shipped(kind: str) -> Iterator[Plugin]:
    package, function, _ = KINDS[kind]
    folder = resources.files("promptlab").joinpath(*package.split(".")[1:])  # the package itself would be imported
    for file in folder.iterdir():
        stem, dot, ending = file.name.rpartition(".")
        if dot and ending == "py" and not stem.startswith("_") and _defines(file.read_text("utf-8"), function):
            yield Plugin(kind, stem, f"{package}.{stem}", "promptlab")


@lru_cache(maxsize=8)
def _entry_points(path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """Our entry points of the packages on `path`, which is `sys.path`; they are all read at once, in 0.1 s."""
    everything = metadata.entry_points()
    return tuple(point for kind in KINDS.values() for point in everything.select(group=kind.group))


def _installed(kind: str, path: tuple[str, ...]) -> Iterator[Plugin]:
    for point in _entry_points(path):
        if point.group != KINDS[kind].group:
            continue
        source = f"{point.dist.name} {point.dist.version}" if point.dist else "an installed package"
        yield Plugin(kind, point.name, point.value, source)


def _named(kind: str, named: Iterable[str], path: tuple[str, ...]) -> Iterator[Plugin]:
    for one in named:
        if _kind_of(one, path) == kind:
            yield Plugin(kind, one.rpartition(".")[2], one, VARIABLE)


@lru_cache(maxsize=256)
def _kind_of(name: str, path: tuple[str, ...]) -> str:
    """What a module says of its kind, read from its source without importing it. `path` is `sys.path`."""
    allowed = [kind for kind, (_, _, group) in KINDS.items() if group]
    try:
        body = ast.parse(_source(name)).body
    except SyntaxError as error:
        raise PromptlabError(f"--plugin {name}: line {error.lineno} is not Python ({error.msg})") from None
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if any(isinstance(one, ast.Name) and one.id == "kind" for one in targets) and isinstance(value, ast.Constant):
            if value.value in allowed:
                return str(value.value)
            raise PromptlabError(f"--plugin {name}: its kind is {value.value!r}; allowed: {', '.join(allowed)}")
    raise PromptlabError(
        f'--plugin {name}: the module does not say its kind: write kind = "probe" at its top level '
        f"(allowed: {', '.join(allowed)})"
    )


def _source(name: str) -> str:
    """The source of a module. Neither it nor the packages around it are imported."""
    importlib.invalidate_caches()
    folders, spec = None, None
    parts = name.split(".")
    for i in range(len(parts)):
        finders = (finder.find_spec(".".join(parts[: i + 1]), folders) for finder in sys.meta_path)
        spec = next((one for one in finders if one is not None), None)
        if spec is None or (i < len(parts) - 1 and spec.submodule_search_locations is None):
            raise PromptlabError(
                f"--plugin {name}: no such module; install its package, or put its folder on PYTHONPATH"
            )
        folders = spec.submodule_search_locations
    read = getattr(spec.loader if spec else None, "get_source", None)
    text = read(name) if read else None
    if text is None:
        raise PromptlabError(f"--plugin {name}: the source of this module cannot be read")
    return str(text)


def _defines(source: str, function: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in ast.parse(source).body)
