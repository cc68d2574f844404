"""Model folders and files, read with distrust: diffusers' format, safetensors only, no code, nothing missing.

A folder is looked over before anything of it is loaded: pickle files can run code when they are opened, and so can the
Python files that a configuration may name. Once loaded, every tensor of the model must have come from a file, since
libraries fill what is missing with random numbers and only log it.

A model on the hub is named `OWNER/NAME`, or `OWNER/NAME@REVISION` to pin a branch, a tag or a commit. It is looked up
in the Hugging Face cache of this machine. Nothing here ever asks the network; files come by the command that `pull`
writes, and by nothing else.

    <cache>/models--OWNER--NAME/refs/<revision>         holds the commit that a branch or tag stood for
                               /snapshots/<commit>/...  the files, as links to
                               /blobs/<hash>            SHA-256 of large files, git's SHA-1 of small ones

Safetensors files are read by their headers, which tell parameters, precision and whether the file is all there:

    file = 8 bytes, the length n (little-endian) | n bytes of JSON | tensors, at `data_offsets` from there

References:
    CVE-2025-32434: code execution by torch.load, even with weights_only.
    huggingface_hub, "Understand caching": the layout of the cache. Hugging Face, safetensors format specification.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptlab.checkpoints.families import Family, architecture_of
from promptlab.errors import ModelError, nearest
from promptlab.records import content_id

__all__ = [
    "MINIATURES",
    "PIPELINE_FILES",
    "blob_of",
    "cache_folder",
    "cached",
    "check_complete",
    "check_folder",
    "check_whole",
    "commit",
    "components",
    "fingerprint",
    "header",
    "is_hub_name",
    "parameters",
    "pinned",
    "pipeline_class",
    "pull",
    "quiet",
    "read_json",
    "resolve",
    "shards",
    "snapshot",
    "tokenizer_of",
]

MINIATURES = {"miniature": False, "miniature-bag": True}
"""Names of the models that ship, and whether the bag of words stands in for the pipeline's own text encoder."""

_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
_LIBRARIES = (None, "diffusers", "transformers", "stable_diffusion")


def resolve(model: str) -> tuple[Path, bool]:
    """The pipeline's folder, and whether its text encoder becomes a bag of words. Raises ModelError.

    `model` is a name in MINIATURES, a folder, or OWNER/NAME[@REVISION] in the cache of the hub.
    """
    if model in MINIATURES:
        from promptlab.resources import shipped_folder

        return shipped_folder() / "pipeline", MINIATURES[model]
    path = Path(model).expanduser()
    if path.is_file():
        raise ModelError(
            f"model {model!r} is a single file: give the folder of a diffusers pipeline (model_index.json)"
        )
    if path.is_dir():
        return path.resolve(), False
    if is_hub_name(model):
        return snapshot(model), False
    raise ModelError(
        f"no model {model!r}: give {' or '.join(MINIATURES)}, the folder of a diffusers pipeline, or OWNER/NAME of the "
        f"hub (`hf download OWNER/NAME` gets one){nearest(model, MINIATURES)}"
    )


def pipeline_class(folder: Path) -> str:
    """Name of the pipeline's class in diffusers. Raises ModelError for a folder that is none, or that brings code."""
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"{folder} is no pipeline: it has no model_index.json; give the folder that has one")
    name = read_json(folder / "model_index.json").get("_class_name")
    # A list names a Python file in the folder.
    if not isinstance(name, str) or any(folder.rglob("*.py")):
        raise ModelError(f"{folder} carries Python code, which is never run: use the plain model that it builds on")
    return name


def components(folder: Path) -> dict[str, list[Any]]:
    """[library, class] of every component that the pipeline has, by name."""
    index = read_json(folder / "model_index.json")
    return {name: entry for name, entry in index.items() if isinstance(entry, list) and entry != [None, None]}


def check_folder(folder: Path) -> Family:
    """Sample a pipeline folder over, loading nothing. Raises ModelError for anything partial or unsafe."""
    family = architecture_of(pipeline_class(folder))
    for component, entry in components(folder).items():
        if len(entry) != 2 or entry[0] not in _LIBRARIES:
            raise ModelError(f"{folder}: component {component!r} is {entry}, of no known library; nothing was loaded")
        part = folder / component
        if not part.is_dir():
            raise ModelError(f"{folder} is incomplete: {component}/ is missing; get the model again")
        files = sorted(file for file in part.rglob("*") if file.is_file())
        for file in files:
            if file.suffix == ".json" and "auto_map" in read_json(file):
                raise ModelError(f"{file} asks for code of its own, which is never run; use a plain model")
        pickles = [file.name for file in files if file.suffix in _PICKLES]
        if pickles and not any(file.suffix == ".safetensors" for file in files):
            raise ModelError(
                f"{part} holds weights only as pickle ({pickles[0]}), which can run code: "
                "use a model in safetensors, or convert it where it is trusted"
            )
        _shapes(part)  # raises for a damaged file
    return family


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty for anything else. Raises ModelError where it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}); get the model again") from error
    return value if isinstance(value, dict) else {}


def _shapes(folder: Path) -> Counter[tuple[int, ...]]:
    """How many tensors of each shape the safetensors files of a folder hold."""
    from safetensors import SafetensorError, safe_open

    shapes: Counter[tuple[int, ...]] = Counter()
    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as tensors:
                shapes.update(tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is damaged or only partly there ({error}); get the model again") from error
    return shapes


def check_complete(folder: Path, module: Any) -> None:
    """Raises ModelError if `module` has parameters that no file of its `folder` can have given.

    Shapes are compared, not names, since libraries rename tensors as they load them.
    """
    wanted = Counter(tuple(parameter.shape) for parameter in module.parameters())
    missing = wanted - _shapes(folder)
    if missing:
        shape = "x".join(map(str, next(iter(missing))))
        raise ModelError(f"{folder} lacks {missing.total()} weights (one of {shape}); get the model again")


def fingerprint(*folders: Path) -> str:
    """Hash of every file that decides what a model does: weights, configurations, vocabularies, chat templates."""
    kinds = (".safetensors", ".json", ".txt", ".model", ".jinja")
    found: list[list[str | int]] = []
    for i, folder in enumerate(folders):
        for file in sorted(file for file in folder.rglob("*") if file.suffix in kinds and file.is_file()):
            known = blob_of(file) if file.is_symlink() else None
            if known is not None and len(known) == 64:
                digest = known  # the cache names large files by their SHA-256; `promptlab models --verify` checks it
            else:
                with file.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found.append([i, file.relative_to(folder).as_posix(), digest])
    return content_id(found)


def commit(folder: Path) -> str | None:
    """The commit of a folder in the Hugging Face cache (`.../snapshots/<commit>`), else None."""
    known = folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", folder.name)
    return folder.name if known else None


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


MOST_HEADER = 100_000_000
"""Bytes of a header at most, as in the reference implementation."""


def header(file: Path) -> dict[str, dict[str, Any]]:
    """Entries (dtype, shape, data_offsets) of a file by tensor name. Raises ModelError for a damaged file."""
    if not file.is_file():
        raise ModelError(f"{file} is missing; `promptlab models` with the model's name says how to get it")
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= MOST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            entries = json.loads(stream.read(length))
            last = max(
                (entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0
            )
            held = file.stat().st_size - 8 - length
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is damaged ({error}); get the model again") from error
    if held != last:
        raise ModelError(f"{file} is damaged or only partly there ({held:,} of {last:,} bytes); get the model again")
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}


def shards(folder: Path) -> list[Path]:
    """The weight files that a component would be loaded from: those of its index, or the unsharded one; sorted.

    Full precision wins over variants such as `.fp16`. Files that an index names need not exist.
    """
    for kind in ("", ".fp16"):
        for index in sorted(folder.glob(f"*.safetensors.index{kind}.json")):
            names = set(read_json(index).get("weight_map", {}).values())
            return sorted(folder / name for name in names)
        plain = [f for f in sorted(folder.glob("*.safetensors")) if (".fp16" in f.name) == bool(kind)]
        if plain:
            return plain[:1]
    return []


def parameters(folder: Path) -> int:
    """How many numbers the weight files of a component hold."""
    return sum(math.prod(entry["shape"]) for file in shards(folder) for entry in header(file).values())


def check_whole(folder: Path) -> None:
    """Raises ModelError unless every shard of a component is there, whole, and holds what the index says."""
    held = {file: set(header(file)) for file in shards(folder)}
    for index in folder.glob("*.safetensors.index*.json"):
        for tensor, name in read_json(index).get("weight_map", {}).items():
            file = folder / name
            if file in held and tensor not in held[file]:
                raise ModelError(f"{file} lacks the tensor {tensor} that {index.name} promises; get the model again")


def tokenizer_of(model: str) -> Path | None:
    """The first tokenizer of a model on this disk, for counting tokens without loading it; None where there is none."""
    try:
        path = resolve(model)[0] / "tokenizer"
    except ModelError:
        return None
    return path if path.is_dir() else None


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, both libraries log errors only, draw no bars and warn of nothing."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    kept = [
        (lib, lib.get_verbosity(), lib.is_progress_bar_enabled()) for lib in (diffusers_logging, transformers_logging)
    ]
    try:
        for lib, _, _ in kept:
            lib.set_verbosity_error()
            lib.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for lib, verbosity, bars in kept:
            lib.set_verbosity(verbosity)
            if bars:
                lib.enable_progress_bar()
