"""Lists of prompts that others published, read where the user keeps them; nothing of them is copied.

    lines      one prompt a line, as T2I-CompBench's color_val.txt; what the colour grammar matches claims its colours
    geneval    GenEval's evaluation_metadata.jsonl: {tag, include: [{class, count, color, position}], prompt}
    pictures   what `promptlab import` writes: {file, sha256, prompt, seed, settings, model, tag, objects, tile}, one
               picture a line; pictures of one prompt with the same settings, model and tag are repeats

A list is read whole and checked: a line that cannot be used is an error with its number, not a prompt less.

References:
    Ghosh et al. 2023, GenEval (arXiv 2310.11513). Huang et al. 2023, T2I-CompBench (arXiv 2307.06350).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.errors import StudyError, nearest
from promptlab.records import Level, Prompt, Source
from promptlab.study.grammar import Asked, claim, read_claims

__all__ = ["FORMATS", "KNOWN", "Listed", "asked_in", "format_of", "read_list", "twins"]

MAX_BYTES = 64_000_000
MAX_PROMPTS = 10_000
KNOWN = {
    "guidance_scale": (int, float),
    "num_inference_steps": (int,),
    "scheduler": (str,),
    "negative_prompt": (str,),
}
"""Settings that pictures made elsewhere may bring along, in the words of whoever made them."""


@dataclass(frozen=True)
class Listed:
    """One prompt of a list, with columns of its own (a tag, settings, a model) and the pictures made from it."""

    prompt: Prompt
    columns: tuple[tuple[str, Level], ...] = ()
    sources: tuple[Source, ...] = ()


def format_of(path: Path) -> str:
    """The format that a file's name and first line speak for: lines, geneval or pictures. Raises StudyError."""
    if path.suffix.lower() != ".jsonl":
        return "lines"
    first = next(iter(_lines(path)), (1, ""))
    return "pictures" if "sha256" in _object(path, *first) else "geneval"


def read_list(path: Path, form: str, root: Path | None = None) -> tuple[Listed, ...]:
    """All prompts of a list, in order. `root` is the folder in which the files of a picture list lie.

    Raises StudyError: no such file, no such format, a line that cannot be used, a prompt that stands twice, too many.
    """
    if form not in FORMATS:
        raise StudyError(
            f"no format of prompt lists is called {form!r}: choose from {', '.join(FORMATS)}{nearest(form, FORMATS)}"
        )
    items = tuple(FORMATS[form](path, root or path.parent))
    if not items:
        raise StudyError(f"{path} holds no prompt")
    if len(items) > MAX_PROMPTS:
        raise StudyError(f"{path} holds {len(items):,} prompts; allowed: {MAX_PROMPTS:,}")
    seen: set[Any] = set()
    for item in items:
        key = (item.prompt.text, item.columns)
        if key in seen:
            raise StudyError(f"{path}: the prompt {item.prompt.text!r} stands twice")
        seen.add(key)
    return items


def twins(items: Sequence[Listed]) -> int:
    """How many prompts have their swapped twin in the same list: an even number."""
    texts = {item.prompt.text for item in items}
    return len({item.prompt.text for item in items if item.prompt.swapped in texts})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Raises StudyError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StudyError(f"{path} is over {MAX_BYTES / 1e6:.0f} MB, more than a list of prompts may have")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path} is not UTF-8 text") from None
    return ((n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip())


def _object(path: Path, n: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}:{n}: no JSON ({error})") from None
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise StudyError(f'{path}:{n}: a line is an object with a prompt, such as {{"prompt": "a red cup"}}')
    return {**row, "prompt": row["prompt"].strip()}


def _plain_lines(path: Path, root: Path) -> Iterator[Listed]:
    for _, line in _lines(path):
        yield Listed(claim(line, read_claims(line)))


def _geneval(path: Path, root: Path) -> Iterator[Listed]:
    for n, line in _lines(path):
        row = _object(path, n, line)
        yield Listed(claim(row["prompt"], asked_in(row, f"{path}:{n}")), (("tag", str(row.get("tag", "none"))),))


def asked_in(row: Mapping[str, Any], where: str) -> tuple[Asked, ...]:
    """What GenEval's `include` asks for: class and colour; a count other than one and a position as further claims."""
    include = row.get("include", [])
    try:
        names = [str(thing["class"]) for thing in include]
        return tuple(_asked(thing, names) for thing in include)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise StudyError(f"{where}: include must list {{class, count, color, position}}, as GenEval does") from None


def _asked(thing: Mapping[str, Any], names: Sequence[str]) -> Asked:
    others = [("count", str(thing["count"]))] if thing.get("count", 1) != 1 else []
    if thing.get("position"):
        relation, other = thing["position"]
        others.append(("position", f"{relation} {names[other]}"))
    return Asked(str(thing["class"]), thing.get("color"), tuple(others))


def _pictures(path: Path, root: Path) -> Iterator[Listed]:
    groups: dict[Any, list[Source]] = {}
    claims: dict[str, tuple[Asked, ...]] = {}
    for n, line in _lines(path):
        row, where = _object(path, n, line), f"{path}:{n}"
        known = _settings(row.get("settings") or {}, where)
        objects = _objects(row.get("objects"), where)
        if claims.setdefault(row["prompt"], objects) != objects:
            raise StudyError(f"{where}: the prompt {row['prompt']!r} has other objects further up")
        texts = {key: row.get(key) for key in ("file", "sha256")}
        if not all(isinstance(value, str) and value for value in texts.values()) or type(row.get("seed")) is not int:
            raise StudyError(
                f"{where}: file, sha256 (text) and seed (a number) are needed; `promptlab import` writes them"
            )
        columns = (*known, *((key, str(row[key])) for key in ("model", "tag") if row.get(key) is not None))
        source = Source(row["seed"], str(root / row["file"]), row["file"], row["sha256"], _tile(row.get("tile"), where))
        group = groups.setdefault((row["prompt"], columns), [])
        if any(other.seed == source.seed for other in group):
            raise StudyError(f"{where}: seed {source.seed} of the prompt {row['prompt']!r} stands twice")
        group.append(source)
    names = list(dict.fromkeys(name for _, columns in groups for name, _ in columns))
    for (text, columns), sources in groups.items():
        full = tuple((name, dict(columns).get(name)) for name in names)
        yield Listed(claim(text, claims[text]), full, tuple(sources))


def _tile(given: Any, where: str) -> tuple[int, int, int, int] | None:
    if given is None:
        return None
    if isinstance(given, list) and len(given) == 4 and all(type(n) is int for n in given):
        row, column, rows, columns = given
        if 1 <= row <= rows <= 16 and 1 <= column <= columns <= 16:
            return row, column, rows, columns
    raise StudyError(f"{where}: tile is {given!r}: [row, column, rows, columns] is allowed, at most 16, counted from 1")


def _settings(given: Any, where: str) -> tuple[tuple[str, Level], ...]:
    if not isinstance(given, dict):
        raise StudyError(f'{where}: settings are an object, such as {{"guidance_scale": 7.5}}')
    for name, value in given.items():
        if name not in KNOWN:
            raise StudyError(f"{where}: no setting {name!r}: choose from {', '.join(KNOWN)}{nearest(name, KNOWN)}")
        if type(value) not in KNOWN[name] or (isinstance(value, float) and not math.isfinite(value)):
            raise StudyError(f"{where}: {name} is {value!r}: {' or '.join(t.__name__ for t in KNOWN[name])} is allowed")
    return tuple((name, float(v) if name == "guidance_scale" else v) for name, v in sorted(given.items()))


def _objects(given: Any, where: str) -> tuple[Asked, ...]:
    if given is None:
        return ()
    try:
        for thing in given:
            if set(thing) - {"noun", "colour", "others"}:
                raise TypeError
        pairs = [tuple((str(family), str(a)) for family, a in thing.get("others") or ()) for thing in given]
        return tuple(Asked(str(t["noun"]), t.get("colour"), more) for t, more in zip(given, pairs, strict=True))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StudyError(f"{where}: objects are a list of {{noun, colour}}") from None


FORMATS: dict[str, Callable[[Path, Path], Iterator[Listed]]] = {
    "lines": _plain_lines,
    "geneval": _geneval,
    "pictures": _pictures,
}
