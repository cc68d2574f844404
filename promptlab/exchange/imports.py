"""From images and prompts of others to a study file that `promptlab run` takes.

    import_pictures   a folder of images  ->  NAME.yaml and NAME.pictures.jsonl (every file with its hash)
    import_prompts    a list of prompts   ->  NAME.yaml, which reads the list where it is

Importing copies and decodes nothing: the run opens the files, and a bad one becomes `invalid_image`. A second import
takes the folder as it is then; a file that has changed is a new image, the others stay what they were.

Layouts say which file shows which prompt:

    manifest       a table of the user, CSV or JSONL; also for the contact sheets that Midjourney exports, with row and
                   col
    geneval        <index>/metadata.jsonl beside <index>/samples/00000.png, as GenEval's scripts write them; the number
                   of the sample becomes its seed, so that ratings of the same images find them
    t2i_compbench  <prompt>_<six digits>.png; the number runs through all prompts, so repeats are counted anew
    notes          PNG files with the notes of A1111, ComfyUI, InvokeAI or promptlab
                   (`promptlab.exchange.image_metadata`)

GenEval's metadata, the manifest, or a published list that holds the prompt declare objects and colours; else the
colour grammar does, where it matches. promptlab leaves out other files of the folder, and counts them. It keeps the
seeds where every image brings one and they fit a study, so that images of one seed pair; else it numbers the images of
each cell.

A manifest has these columns, of which file and prompt are required:

    file      path inside the folder of the images
    prompt    the text that it was made from
    seed, model, guidance_scale, num_inference_steps, scheduler, negative_prompt, tag       as far as they are known
    row, col  place in a contact sheet, from 1; `grid` says of how many rows and columns, 2x2 if it does not
    objects   in JSONL: what the prompt asks for, a list of {noun, colour}

A line that cannot be used is an error with its number, and so is an unknown column.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from promptlab.errors import PromptlabError, StoreError, StudyError, nearest
from promptlab.exchange.image_metadata import read_notes
from promptlab.store.home import write_whole
from promptlab.store.pictures import read_bytes
from promptlab.study.prompt_lists import (
    KNOWN_SETTINGS,
    ListedPrompt,
    RequestedObject,
    format_of,
    read_claims,
    read_list,
    requested_objects,
    twins,
)
from promptlab.study.strict_yaml import Mistake
from promptlab.study.study import Study, check_name, load_study

__all__ = [
    "LAYOUTS",
    "Imported",
    "Shown",
    "Skipped",
    "declared_in",
    "import_pictures",
    "import_prompts",
    "numbered",
    "picture_lines",
    "read_folder",
    "read_manifest",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_SEEDS, MAX_SEED = 1000, 2**32 - 1


@dataclass
class Skipped:
    """Files of the folder that are not imported, and why."""

    files: list[tuple[str, str]] = field(default_factory=list)

    def add(self, file: str, why: str) -> None:
        """One more."""
        self.files.append((file, why))


def _files(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def read_folder(
    folder: Path, layout: str | None = None, manifest: Path | None = None
) -> tuple[str, list[Shown], Skipped]:
    """The layout of a folder, its pictures with their prompts, and the files that are left out.

    Without a `layout`, the first that fits anything is taken: a manifest if there is one, then geneval, t2i_compbench,
    notes. Raises PromptlabError: no such folder or layout, a manifest that cannot be used, no picture at all.
    """
    if not folder.is_dir():
        raise PromptlabError(f"{folder} is no folder of pictures")
    if layout is not None and layout not in LAYOUTS and layout != "manifest":
        names = ("manifest", *LAYOUTS)
        raise PromptlabError(f"no layout is called {layout!r}: choose from {', '.join(names)}{nearest(layout, names)}")
    skipped = Skipped()
    if manifest is not None or layout == "manifest":
        if manifest is None:
            raise PromptlabError(
                "the layout manifest needs one: add --manifest FILE, a CSV or JSONL of file and prompt"
            )
        return "manifest", list(read_manifest(manifest, folder)), skipped
    for name in [layout] if layout else list(LAYOUTS):
        skipped = Skipped()
        found = list(LAYOUTS[name](folder, skipped))
        if found:
            return name, found, skipped
    raise PromptlabError(
        f"no picture in {folder} says its prompt: neither GenEval's folders, nor names such as 'a red cup_000000.png', "
        "nor notes in PNG files; give a table of file and prompt with --manifest"
    )


def _geneval(folder: Path, skipped: Skipped) -> Iterator[Shown]:
    for metadata in sorted(folder.rglob("metadata.jsonl")):
        name = _name(metadata, folder)
        try:
            row = json.loads(metadata.read_text("utf-8"))
            prompt, objects = row["prompt"], requested_objects(row, name)
        except (OSError, ValueError, KeyError, TypeError, PromptlabError) as error:
            skipped.add(name, f"no metadata of GenEval ({error})")
            continue
        for path in _files(metadata.parent / "samples"):
            number = int(path.stem) if re.fullmatch(r"\d{1,9}", path.stem) else None
            yield Shown(_name(path, folder), str(prompt), number, tag=str(row.get("tag", "none")), objects=objects)


_NUMBERED = re.compile(r"(.+)_(\d{6})")


def _t2i_compbench(folder: Path, skipped: Skipped) -> Iterator[Shown]:
    for path in _files(folder):
        match = _NUMBERED.fullmatch(path.stem)
        if match and _is_text(match[1]):
            yield Shown(_name(path, folder), match[1])
        else:
            skipped.add(_name(path, folder), "its name is not <prompt>_<six digits>")


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode("utf-8"))
    except UnicodeEncodeError:  # a name on the disk may be any bytes
        return False


def _notes(folder: Path, skipped: Skipped) -> Iterator[Shown]:
    for path in _files(folder):
        notes = read_notes(path)
        if notes is None:
            skipped.add(_name(path, folder), "no notes about its prompt")
            continue
        yield Shown(
            _name(path, folder), notes.prompt, notes.seed, notes.model, settings=tuple(sorted(notes.settings.items()))
        )


LAYOUTS: dict[str, Callable[[Path, Skipped], Iterator[Shown]]] = {
    "geneval": _geneval,
    "t2i_compbench": _t2i_compbench,
    "notes": _notes,
}


def declared_in(pictures: Sequence[Shown], items: Sequence[ListedPrompt] = ()) -> list[Shown]:
    """The pictures with their objects declared: as they are, else by `items` of a published list, else by the grammar.

    A prompt is recognised in the list whatever its capitals, spaces and final period; it takes the list's spelling.
    """
    by_text = {_normalised(item.prompt.text): item for item in items}
    found = []
    for picture in pictures:
        item = by_text.get(_normalised(picture.prompt))
        if item is not None:
            tag = dict(item.columns).get("tag", picture.tag)
            objects = _requested_objects(item)
            picture = replace(picture, prompt=item.prompt.text, tag=None if tag is None else str(tag), objects=objects)
        elif picture.objects is None:
            picture = replace(picture, objects=read_claims(picture.prompt))
        found.append(picture)
    return found


def _normalised(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(".")


def _requested_objects(item: ListedPrompt) -> tuple[RequestedObject, ...]:
    things: dict[str, RequestedObject] = {}
    for binding in item.prompt.bindings:
        thing = things.setdefault(binding.object, RequestedObject(binding.noun))
        if binding.attribute is not None and binding.kind == "colour":
            thing = replace(thing, colour=binding.attribute)
        elif binding.attribute is not None:
            thing = replace(thing, others=(*thing.others, (binding.kind, binding.attribute)))
        things[binding.object] = thing
    return tuple(things.values())


def numbered(pictures: Sequence[Shown]) -> tuple[list[int], bool]:
    """A seed for every picture, and whether these are the pictures' own; see the head of this page."""
    cells: dict[Any, list[int]] = defaultdict(list)
    for i, picture in enumerate(pictures):
        cells[picture.prompt, picture.settings, picture.model, picture.tag].append(i)
    found = [picture.seed for picture in pictures]
    usable = [seed for seed in found if seed is not None and seed <= MAX_SEED]
    distinct = all(len({found[i] for i in cell}) == len(cell) for cell in cells.values())
    if len(usable) == len(pictures) and distinct and len(set(usable)) <= MAX_SEEDS:
        return usable, True
    seeds = [0] * len(pictures)
    for cell in cells.values():
        if len(cell) > MAX_SEEDS:
            raise PromptlabError(f"{len(cell)} pictures of {pictures[cell[0]].prompt!r}: a study has up to {MAX_SEEDS}")
        for k, i in enumerate(cell):
            seeds[i] = k
    return seeds, False


PROBES = ("exposure", "clip_similarity", "binding")


@dataclass(frozen=True)
class Imported:
    """A study that was written, and what it holds."""

    path: Path
    study: Study
    layout: str
    pictures: int
    prompts: int
    declared: int
    twins: int
    seeds_kept: bool = False
    skipped: tuple[tuple[str, str], ...] = ()


def import_pictures(  # noqa: PLR0913 (each is an option of the command)
    folder: Path,
    name: str,
    into: Path,
    *,
    layout: str | None = None,
    manifest: Path | None = None,
    prompts: Path | None = None,
    model: str | None = None,
    probes: Sequence[str] = PROBES,
    again: bool = False,
) -> Imported:
    """Write the study `name` of the pictures in `folder` to the folder `into`.

    Args:
        layout, manifest: see `read_folder`.
        prompts: a published list; prompts that stand in it take its claims.
        model: who made the pictures, where they do not say or it should not count.
        again: replace the study if it exists.

    Raises:
        StudyError, PromptlabError: a name that cannot be, a study that exists, a folder without usable pictures.
    """
    path = _place(name, into, again)
    found_as, pictures, skipped = read_folder(folder, layout, manifest)
    pictures = declared_in(pictures, read_list(prompts, format_of(prompts)) if prompts else ())
    pictures, made_by = _made_by(pictures, model)
    seeds, seeds_kept = numbered(pictures)
    listing = path.with_name(f"{name}.pictures.jsonl")
    lines = [json.dumps(line) for line in picture_lines(pictures, seeds, folder)]
    axis = f"{{prompts: {_quoted(listing.name)}, format: pictures, root: {_quoted(_relative(folder, into))}}}"
    head = f"What do the pictures in {folder.name or folder} show of what was asked?"
    text = _study_text(name, head, axis, seeds, made_by, "folder", probes)
    write_whole(listing, ("\n".join(lines) + "\n").encode(), "list of pictures")
    write_whole(path, text.encode(), "study")
    return _imported(path, found_as, len(pictures), seeds_kept, skipped)


def import_prompts(  # noqa: PLR0913 (each is an option of the command)
    prompts: Path,
    name: str,
    into: Path,
    *,
    form: str | None = None,
    only: Mapping[str, Sequence[str]] | None = None,
    model: str = "miniature",
    seeds: int = 4,
    probes: Sequence[str] = PROBES,
    again: bool = False,
) -> Imported:
    """Write a study that generates the prompts of a list, or those alone whose columns have the levels in `only`."""
    path = _place(name, into, again)
    form = form or format_of(prompts)
    read_list(prompts, form)  # says what is wrong before anything is written
    parts = [f"prompts: {_quoted(_relative(prompts, into))}", f"format: {form}"]
    if only:
        kept = ", ".join(f"{column}: [{', '.join(map(_quoted, levels))}]" for column, levels in only.items())
        parts.append(f"only: {{{kept}}}")
    head = f"What becomes of the prompts of {prompts.name}?"
    text = _study_text(name, head, f"{{{', '.join(parts)}}}", list(range(seeds)), model, "diffusion", probes)
    write_whole(path, text.encode(), "study")
    try:
        return _imported(path, form, 0)
    except StudyError:
        path.unlink(missing_ok=True)
        raise


def _place(name: str, into: Path, again: bool) -> Path:
    try:
        check_name(name)
    except Mistake as mistake:
        raise StudyError(f"study name: {mistake.message}") from None
    path = into / f"{name}.yaml"
    if path.exists() and not again:
        raise StudyError(f"{path} exists: choose another name, or replace it with --again")
    into.mkdir(parents=True, exist_ok=True)
    return path


def _relative(target: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(target, start)).as_posix()
    except ValueError:  # another drive
        return target.absolute().as_posix()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _made_by(pictures: list[Shown], model: str | None) -> tuple[list[Shown], str | None]:
    """One model for the study, or None where it differs by picture and stands with each."""
    models = {picture.model for picture in pictures}
    if model is not None or len(models) == 1:
        return [replace(picture, model=None) for picture in pictures], model or next(iter(models)) or "unknown"
    return [replace(picture, model=picture.model or "unknown") for picture in pictures], None


def _study_text(
    name: str, question: str, axis: str, seeds: Sequence[int], model: str | None, backend: str, probes: Sequence[str]
) -> str:
    used = sorted(set(seeds))
    plain = used == list(range(len(used)))
    lines = [
        f"name: {_quoted(name)}",
        f"question: {_quoted(question)}",
        *([f"model: {_quoted(model)}"] if model is not None else []),
        *([f"backend: {backend}"] if backend != "diffusion" else []),
        'prompt: {template: "{text}"}',
        "axes:",
        f"  text: {axis}",
        f"seeds: {len(used) if plain else used}",
        f"probes: [{', '.join(probes)}]",
    ]
    return "\n".join(lines) + "\n"


def _imported(
    path: Path, layout: str, pictures: int, seeds_kept: bool = False, skipped: Skipped | None = None
) -> Imported:
    study = load_study(path)
    items = study.axes["text"].listed_prompts
    if not items:
        raise PromptlabError(f"{path} holds no list of prompts")
    prompts = {item.prompt.text: item.prompt for item in items}
    declared = sum(bool(prompt.bindings) for prompt in prompts.values())
    files = tuple(skipped.files) if skipped else ()
    return Imported(path, study, layout, pictures, len(prompts), declared, twins(items), seeds_kept, files)


COLUMNS = ("file", "prompt", "seed", "model", "tag", *KNOWN_SETTINGS, "row", "col", "grid")


@dataclass(frozen=True)
class Shown:
    """A picture and what is known about it; `file` is its path in the folder, `objects` None where nobody declares."""

    file: str
    prompt: str
    seed: int | None = None
    model: str | None = None
    tag: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    objects: tuple[RequestedObject, ...] | None = None
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
    settings = {
        name: _typed(row[name], KNOWN_SETTINGS[name], name, where)
        for name in KNOWN_SETTINGS
        if row.get(name) is not None
    }
    seed = None if row.get("seed") is None else _typed(row["seed"], (int,), "seed", where)
    objects = None
    if row.get("objects") is not None:
        try:
            objects = tuple(RequestedObject(str(thing["noun"]), thing.get("colour")) for thing in row["objects"])
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
    """What the study reads of each picture, in the format `pictures` of `study.prompt_lists`; hashes every file."""
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


def _plain_object(thing: RequestedObject) -> dict[str, Any]:
    plain = {"noun": thing.noun, "colour": thing.colour, "others": [list(pair) for pair in thing.others]}
    return {name: value for name, value in plain.items() if value}


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:  # of any size: whether it is a picture is asked when it is opened
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PromptlabError(f"{path} cannot be read: {error.strerror or error}") from None
