"""From pictures and prompts of others to a study file that `promptlab run` takes.

    import_pictures   a folder of pictures  ->  NAME.yaml and NAME.pictures.jsonl (every file with its hash)
    import_prompts    a list of prompts     ->  NAME.yaml, which reads the list where it lies

Nothing is copied and nothing is decoded here: the run opens the files, and a bad one becomes `invalid_image`. Importing
again takes the folder as it is then; a file that has changed is a new picture, the others stay what they were.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from promptlab.durable import write_whole
from promptlab.errors import PromptlabError, StudyError
from promptlab.manifests import Shown, picture_lines
from promptlab.mistakes import Mistake
from promptlab.picture_folders import Skipped, declared_in, look_through, numbered
from promptlab.prompt_lists import format_of, read_list, twins
from promptlab.study import Study, check_name, load_study

__all__ = ["Imported", "import_pictures", "import_prompts"]

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
    own_seeds: bool = False
    skipped: tuple[tuple[str, str], ...] = ()


def import_pictures(
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
        layout, manifest: see `picture_folders.look_through`.
        prompts: a published list; prompts that stand in it take its claims.
        model: who made the pictures, where they do not say or it should not count.
        again: replace the study if it exists.

    Raises:
        StudyError, PromptlabError: a name that cannot be, a study that exists, a folder without usable pictures.
    """
    path = _place(name, into, again)
    found_as, pictures, skipped = look_through(folder, layout, manifest)
    pictures = declared_in(pictures, read_list(prompts, format_of(prompts)) if prompts else ())
    pictures, made_by = _made_by(pictures, model)
    seeds, own = numbered(pictures)
    listing = path.with_name(f"{name}.pictures.jsonl")
    lines = [json.dumps(line) for line in picture_lines(pictures, seeds, folder)]
    axis = f"{{prompts: {_quoted(listing.name)}, format: pictures, root: {_quoted(_relative(folder, into))}}}"
    head = f"What do the pictures in {folder.name or folder} show of what was asked?"
    text = _study_text(name, head, axis, seeds, made_by, "folder", probes)
    write_whole(listing, ("\n".join(lines) + "\n").encode(), "list of pictures")
    write_whole(path, text.encode(), "study")
    return _imported(path, found_as, len(pictures), own, skipped)


def import_prompts(
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


def _made_by(pictures: list[Shown], given: str | None) -> tuple[list[Shown], str | None]:
    """One model for the study, or None where it differs by picture and stands with each."""
    models = {picture.model for picture in pictures}
    if given is not None or len(models) == 1:
        return [replace(picture, model=None) for picture in pictures], given or next(iter(models)) or "unknown"
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


def _imported(path: Path, layout: str, pictures: int, own: bool = False, skipped: Skipped | None = None) -> Imported:
    from promptlab.listed import Prompts

    study = load_study(path)
    axis = study.axes["text"]
    if not isinstance(axis, Prompts):
        raise PromptlabError(f"{path} holds no list of prompts")
    prompts = {item.prompt.text: item.prompt for item in axis.listed}
    declared = sum(bool(prompt.bindings) for prompt in prompts.values())
    files = tuple(skipped.files) if skipped else ()
    return Imported(path, study, layout, pictures, len(prompts), declared, twins(axis.listed), own, files)
