"""Tables of pictures: what a person writes about pictures made elsewhere, and what a study reads of them.

    file      path inside the folder of the pictures
    prompt    the text that it was made from
    seed, model, guidance_scale, num_inference_steps, scheduler, negative_prompt, tag       as far as they are known
    row, col  place in a contact sheet, from 1; `grid` says of how many rows and columns, 2x2 if it does not
    objects   in JSONL: what the prompt asks for, a list of {noun, colour}

A person's table is CSV or JSONL. What cannot be used is an error with its line, and so is a column that nobody knows.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.decoding import read_bytes
from promptlab.errors import PromptlabError, StoreError, nearest
from promptlab.grammar import Asked
from promptlab.prompt_lists import KNOWN

__all__ = ["Shown", "picture_lines", "read_manifest"]

COLUMNS = ("file", "prompt", "seed", "model", "tag", *KNOWN, "row", "col", "grid")


@dataclass(frozen=True)
class Shown:
    """A picture and what is known about it; `file` is its path in the folder, `objects` None where nobody declares."""

    file: str
    prompt: str
    seed: int | None = None
    model: str | None = None
    tag: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    objects: tuple[Asked, ...] | None = None
    tile: tuple[int, int, int, int] | None = None


def read_manifest(path: Path, folder: Path) -> Iterator[Shown]:
    """The pictures of a table, in its order; they lie in `folder`. Raises PromptlabError."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (StoreError, UnicodeDecodeError) as error:
        raise PromptlabError(f"manifest {path} cannot be read as UTF-8 text: {error}") from None
    jsonl = path.suffix.lower() in (".jsonl", ".ndjson")
    for where, row in _json_rows(path, text) if jsonl else _csv_rows(path, text):
        allowed = (*COLUMNS, "objects") if jsonl else COLUMNS
        for column in row:
            if column not in allowed:
                raise PromptlabError(
                    f"{where}: no column {column!r}: choose from {', '.join(allowed)}{nearest(str(column), allowed)}"
                )
        yield _row(row, where, folder)


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PromptlabError(f"{path}:{n}: no JSON ({error})") from None
        if not isinstance(row, dict):
            raise PromptlabError(f"{path}:{n}: a line is an object with file and prompt")
        yield f"{path}:{n}", row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise PromptlabError(f"{path}:{reader.line_num}: the line has more or fewer fields than the first")
            yield f"{path}:{reader.line_num}", {name: value for name, value in row.items() if value != ""}
    except csv.Error as error:
        raise PromptlabError(f"{path} is no CSV: {error}") from None


def _row(row: Mapping[str, Any], where: str, folder: Path) -> Shown:
    for name in ("file", "prompt"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise PromptlabError(f"{where}: {name} is missing; a line needs file and prompt")
    path = folder / row["file"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise PromptlabError(f"{where}: {row['file']!r} lies outside {folder}")
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise PromptlabError(f"{where}: there is no {row['file']} in {folder}{near}")
    settings = {name: _typed(row[name], KNOWN[name], name, where) for name in KNOWN if row.get(name) is not None}
    seed = None if row.get("seed") is None else _typed(row["seed"], (int,), "seed", where)
    objects = None
    if row.get("objects") is not None:
        try:
            objects = tuple(Asked(str(thing["noun"]), thing.get("colour")) for thing in row["objects"])
        except (KeyError, TypeError, AttributeError):
            raise PromptlabError(f"{where}: objects are a list of {{noun, colour}}") from None
    model, tag = row.get("model"), row.get("tag")
    text = row["prompt"].strip()
    return Shown(row["file"], text, seed, model, tag, tuple(sorted(settings.items())), objects, _tile(row, where))


def _typed(value: Any, kinds: tuple[type, ...], name: str, where: str) -> Any:
    if str in kinds:
        return str(value)
    try:
        number = float(value) if float in kinds else int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number < 2**64 or isinstance(value, bool):
        raise PromptlabError(f"{where}: {name} is {value!r}: a {'' if float in kinds else 'whole '}number is allowed")
    return number


def _tile(row: Mapping[str, Any], where: str) -> tuple[int, int, int, int] | None:
    if row.get("row") is None and row.get("col") is None and row.get("grid") is None:
        return None
    match = re.fullmatch(r"(\d{1,2})x(\d{1,2})", str(row.get("grid", "2x2")))
    places = [row.get("row"), row.get("col")]
    if match and all(re.fullmatch(r"\d{1,2}", str(place)) for place in places):
        tile = (int(str(places[0])), int(str(places[1])), int(match[1]), int(match[2]))
        if 1 <= tile[0] <= tile[2] <= 16 and 1 <= tile[1] <= tile[3] <= 16:
            return tile
    raise PromptlabError(f"{where}: row and col of a contact sheet count from 1, grid is ROWSxCOLUMNS, such as 2x2")


def picture_lines(pictures: Sequence[Shown], seeds: Sequence[int], folder: Path) -> Iterator[dict[str, Any]]:
    """What the study reads of each picture, in the format `pictures` of `promptlab.prompt_lists`; hashes every file."""
    digests: dict[str, str] = {}
    for picture, seed in zip(pictures, seeds, strict=True):
        if picture.file not in digests:
            digests[picture.file] = _digest(folder / picture.file)
        line: dict[str, Any] = {"file": picture.file, "sha256": digests[picture.file], "prompt": picture.prompt}
        line["seed"] = seed
        line |= {"original_seed": picture.seed} if picture.seed not in (None, seed) else {}
        line |= {"model": picture.model} if picture.model else {}
        line |= {"tag": picture.tag} if picture.tag else {}
        line |= {"settings": dict(picture.settings)} if picture.settings else {}
        line |= {"tile": list(picture.tile)} if picture.tile else {}
        if picture.objects:
            line["objects"] = [_plain_object(thing) for thing in picture.objects]
        yield line


def _plain_object(thing: Asked) -> dict[str, Any]:
    plain = {"noun": thing.noun, "colour": thing.colour, "others": [list(pair) for pair in thing.others]}
    return {name: value for name, value in plain.items() if value}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:  # of any size: whether it is a picture is asked when it is opened
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PromptlabError(f"{path} cannot be read: {error.strerror or error}") from None
