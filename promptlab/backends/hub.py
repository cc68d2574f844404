"""The Hugging Face cache of this machine, read where it lies: nothing here ever asks the network.

    <cache>/models--OWNER--NAME/refs/<revision>         holds the commit that a branch or tag stood for
                               /snapshots/<commit>/...  the files, as links to
                               /blobs/<hash>            SHA-256 of large files, git's SHA-1 of small ones

A model is named `OWNER/NAME`, or `OWNER/NAME@REVISION` to pin a branch, a tag or a commit. Files come by the command
that `pull` writes, and by nothing else.

References:
    huggingface_hub, "Understand caching": the layout of the cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from promptlab.errors import ModelError, nearest

__all__ = ["PIPELINE_FILES", "blob_of", "cache_folder", "cached", "is_hub_name", "pinned", "pull", "snapshot"]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
PIPELINE_FILES = ("model_index.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model", "*/*.jinja")
"""What a pipeline needs: weights as safetensors, configurations, vocabularies. No pickle, no single-file copies."""


def is_hub_name(model: str) -> bool:
    """Whether `model` is written as a repository of the hub: OWNER/NAME or OWNER/NAME@REVISION."""
    return _NAME.fullmatch(model) is not None


def cache_folder() -> Path:
    """Where the cache lies: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub."""
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given).expanduser()
    above = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{above}/huggingface")).expanduser() / "hub"


def snapshot(model: str, files: Iterable[str] = PIPELINE_FILES) -> Path:
    """The folder of a cached repository, `.../snapshots/<commit>`. Raises ModelError with the command that gets it."""
    name, _, revision = model.partition("@")
    folder = cache_folder() / ("models--" + name.replace("/", "--"))
    wanted = revision or "main"
    reference = folder / "refs" / wanted
    try:
        commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else wanted
    except OSError as error:
        raise ModelError(f"{reference} cannot be read ({error}); get the model again: {pull(model, files)}") from error
    found = folder / "snapshots" / commit
    if re.fullmatch("[0-9a-f]{40}", commit) and found.is_dir():
        return found
    if folder.is_dir():
        here = ", ".join(f"{name}@{path.name}" for path in sorted((folder / "snapshots").glob("*")))
        others = f"; here are {here}" if here else ""
        raise ModelError(f"{name} is in the cache, but not its revision {wanted!r}: {pull(model, files)}{others}")
    hint = nearest(name, (other for other, _ in cached()))
    raise ModelError(f"{name} is not on this disk ({cache_folder()}): {pull(model, files)}{hint}")


def pinned(model: str) -> str:
    """A model's name with the commit that it stands for now; names that are not of the hub stay. Raises ModelError."""
    if not is_hub_name(model) or Path(model).expanduser().is_dir():
        return model
    return f"{model.partition('@')[0]}@{snapshot(model).name}"


def cached() -> Iterator[tuple[str, Path]]:
    """(name, snapshot) of every pipeline in the cache, by name; at `main`, or pinned where there is no main."""
    for folder in sorted(cache_folder().glob("models--*--*")):
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        commits = {path.name: path for path in sorted((folder / "snapshots").glob("*")) if path.is_dir()}
        reference = folder / "refs" / "main"
        main = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
        chosen = [(name, commits[main])] if main in commits else [(f"{name}@{c}", path) for c, path in commits.items()]
        for shown, path in chosen:
            if (path / "model_index.json").is_file():
                yield shown, path


def pull(model: str, files: Iterable[str] = PIPELINE_FILES, folder: Path | None = None) -> str:
    """The command that gets `files` of a repository: into the cache, or into `folder`."""
    name, _, revision = model.partition("@")
    words = ["hf", "download", name]
    if revision:
        words += ["--revision", revision]
    for file in files:
        words += ["--include", f'"{file}"']
    if folder is not None:
        words += ["--local-dir", str(folder)]
    return "`" + " ".join(words) + "`"


def blob_of(file: Path) -> str | None:
    """The hash that the cache knows a file by: the name of the blob it links to, or the record of `--local-dir`.

    64 digits are a SHA-256, 40 are git's SHA-1 of the blob; None where nothing is known.
    """
    if file.is_symlink():
        name = Path(os.readlink(file)).name
        return name if re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", name) else None
    for above in file.parents:
        record = above / ".cache" / "huggingface" / "download" / f"{file.relative_to(above)}.metadata"
        if record.is_file():
            lines = record.read_text(encoding="utf-8").split()
            known = lines[1] if len(lines) > 1 else ""
            return known if re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", known) else None
        if (above / "model_index.json").is_file():
            break
    return None
