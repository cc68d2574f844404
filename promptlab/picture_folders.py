"""A folder of pictures that were made elsewhere: which file shows which prompt.

    manifest       a table of the user, CSV or JSONL (`promptlab.manifests`); for the contact sheets that Midjourney
                   exports with row and col
    geneval        <index>/metadata.jsonl beside <index>/samples/00000.png, as GenEval's scripts write them; the number
                   of the sample is taken for its seed, so that ratings of the same pictures find them
    t2i_compbench  <prompt>_<six digits>.png; the number runs through all prompts, so repeats are counted anew
    notes          PNG files with the notes of A1111, ComfyUI, InvokeAI or promptlab (`promptlab.picture_notes`)

Objects and colours are declared: by GenEval's metadata, the manifest, or a published list in which the prompt stands;
else by the colour grammar where it matches. Other files of the folder are left out, and counted.

Seeds: where every picture brings its seed, and the seeds fit a study, they are kept, so that pictures of one seed
pair; else the pictures of a cell are numbered.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from promptlab.errors import PromptlabError, nearest
from promptlab.grammar import Asked, read_claims
from promptlab.manifests import Shown, read_manifest
from promptlab.picture_notes import read_notes
from promptlab.prompt_lists import Listed, asked_in

__all__ = ["LAYOUTS", "Skipped", "declared_in", "look_through", "numbered"]

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


def look_through(
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
            prompt, objects = row["prompt"], asked_in(row, name)
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


def declared_in(pictures: Sequence[Shown], items: Sequence[Listed] = ()) -> list[Shown]:
    """The pictures with their objects declared: as they are, else by `items` of a published list, else by the grammar.

    A prompt is recognised in the list whatever its capitals, spaces and final period; it takes the list's spelling.
    """
    listed = {_plain(item.prompt.text): item for item in items}
    found = []
    for picture in pictures:
        item = listed.get(_plain(picture.prompt))
        if item is not None:
            tag = dict(item.columns).get("tag", picture.tag)
            objects = _asked_of(item)
            picture = replace(picture, prompt=item.prompt.text, tag=None if tag is None else str(tag), objects=objects)
        elif picture.objects is None:
            picture = replace(picture, objects=read_claims(picture.prompt))
        found.append(picture)
    return found


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(".")


def _asked_of(item: Listed) -> tuple[Asked, ...]:
    things: dict[str, Asked] = {}
    for binding in item.prompt.bindings:
        thing = things.setdefault(binding.object, Asked(binding.noun))
        if binding.attribute is not None and binding.family == "colour":
            thing = replace(thing, colour=binding.attribute)
        elif binding.attribute is not None:
            thing = replace(thing, others=(*thing.others, (binding.family, binding.attribute)))
        things[binding.object] = thing
    return tuple(things.values())


def numbered(pictures: Sequence[Shown]) -> tuple[list[int], bool]:
    """A seed for every picture, and whether these are the pictures' own; see the head of this page."""
    cells: dict[Any, list[int]] = defaultdict(list)
    for i, picture in enumerate(pictures):
        cells[picture.prompt, picture.settings, picture.model, picture.tag].append(i)
    own = [picture.seed for picture in pictures]
    whole = [seed for seed in own if seed is not None and seed <= MAX_SEED]
    distinct = all(len({own[i] for i in cell}) == len(cell) for cell in cells.values())
    if len(whole) == len(pictures) and distinct and len(set(whole)) <= MAX_SEEDS:
        return whole, True
    seeds = [0] * len(pictures)
    for cell in cells.values():
        if len(cell) > MAX_SEEDS:
            raise PromptlabError(f"{len(cell)} pictures of {pictures[cell[0]].prompt!r}: a study has up to {MAX_SEEDS}")
        for k, i in enumerate(cell):
            seeds[i] = k
    return seeds, False
