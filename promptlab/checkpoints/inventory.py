"""What models are on this disk, whether they are whole and safe, and the command that gets what is missing.

A pipeline is whole if every component that its model_index.json names has its configuration and all its weight files,
as safetensors of full length. `verify` reads everything: the cache of the hub names files by their hash, SHA-256 for
large ones and git's SHA-1 (of "blob <size>\\0" and the content) for small ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from promptlab.checkpoints import files
from promptlab.checkpoints.architectures import ARCHITECTURES
from promptlab.checkpoints.files import MINIATURES, check_whole, components, pipeline_class, resolve, shards
from promptlab.errors import ModelError

__all__ = ["LocalModel", "Verified", "inspect_model", "models_here", "verify"]

_CONFIGS = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")


@dataclass(frozen=True)
class LocalModel:
    """One model on this disk. `missing` are files or patterns of files, `problems` what else keeps it from running.

    `pickles` are weight files that are never opened; they do no harm where safetensors lie beside them.
    """

    name: str
    folder: Path
    architecture: str
    commit: str | None
    bytes: int
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    pickles: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether it can be run offline."""
        return not self.missing and not self.problems

    @property
    def pull(self) -> str | None:
        """The command that gets what is missing, or None."""
        if not self.missing:
            return None
        if files.is_hub_name(self.name) and not Path(self.name).is_dir():
            return files.pull(self.name if self.commit is None else _pinned(self.name, self.commit), self.missing)
        return files.pull("OWNER/NAME", self.missing, self.folder)


def _pinned(name: str, commit: str) -> str:
    return name if "@" in name else f"{name}@{commit}"


@dataclass(frozen=True)
class Verified:
    """What became of a check of all files: how many agree with a known hash, and which do not, or have none."""

    agree: int
    differ: tuple[str, ...]
    unknown: tuple[str, ...]


def models_here() -> Iterator[LocalModel]:
    """The miniatures, and every pipeline in the cache of the hub."""
    for name in MINIATURES:
        yield inspect_model(name)
    for name, _ in files.cached():
        yield inspect_model(name)


def inspect_model(model: str) -> LocalModel:
    """One model by folder or name, nothing of it loaded. Raises ModelError where there is nothing at all."""
    folder = resolve(model)[0]
    missing: list[str] = []
    problems: list[str] = []
    pipeline = ""
    try:
        pipeline = pipeline_class(folder)
    except ModelError as error:
        problems.append(str(error))
    if pipeline and pipeline not in ARCHITECTURES:
        problems.append(f"models of class {pipeline!r} cannot be run yet")
    whole = (folder / "model_index.json").is_file()
    parts = components(folder) if whole else {}
    missing += () if whole else files.PIPELINE_FILES
    for name in parts:
        missing += _lacking(folder, name)
        try:
            check_whole(folder / name)
        except ModelError as error:
            if not any(part.startswith(f"{name}/") for part in missing):
                problems.append(str(error))
    weights = [file for name in parts for file in (folder / name).rglob("*") if file.is_file()]
    return LocalModel(
        model,
        folder,
        ARCHITECTURES[pipeline].title if pipeline in ARCHITECTURES else pipeline or "no pipeline",
        folder.name if folder.parent.name == "snapshots" else None,
        sum(file.stat().st_size for file in weights),
        tuple(missing),
        tuple(problems),
        tuple(str(file.relative_to(folder)) for file in weights if file.suffix in _PICKLES),
    )


def _lacking(folder: Path, name: str) -> list[str]:
    """Files that a component needs and that are not there, or patterns of them."""
    part = folder / name
    kind = name.rstrip("_0123456789")
    if kind in ("feature_extractor", "image_processor"):
        return [] if any(part.glob("*.json")) else [f"{name}/*.json"]
    config = _CONFIGS.get(kind, "config.json")
    lacking = [] if (part / config).is_file() else [f"{name}/{config}"]
    if kind == "scheduler":
        return lacking
    if kind == "tokenizer":
        pair = (part / "vocab.json").is_file() and (part / "merges.txt").is_file()
        return lacking if pair or (part / "tokenizer.json").is_file() else [*lacking, f"{name}/*"]
    try:
        weights = shards(part)
    except ModelError:
        return [*lacking, f"{name}/*.safetensors.index.json"]
    if not weights:
        return [*lacking, f"{name}/*.safetensors", *([f"{name}/*.json"] if not lacking else [])]
    return lacking + [f"{name}/{file.name}" for file in weights if not file.is_file()]


def verify(folder: Path) -> Verified:
    """Hash every file of a pipeline and hold it against what the cache of the hub knows it by."""
    agree, differ, unknown = 0, [], []
    for file in sorted(file for file in folder.rglob("*") if file.is_file() or file.is_symlink()):
        where = file.relative_to(folder)
        if where.parts[0].startswith("."):
            continue
        known = files.blob_of(file)
        if known is None:
            unknown.append(str(where))
        elif file.is_file() and _digest(file, len(known)) == known:
            agree += 1
        else:
            differ.append(str(where))
    return Verified(agree, tuple(differ), tuple(unknown))


def _digest(file: Path, digits: int) -> str:
    """SHA-256 for 64 digits, git's SHA-1 of the blob for 40."""
    with file.open("rb") as stream:
        if digits == 64:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        found = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
        while block := stream.read(1 << 20):
            found.update(block)
        return found.hexdigest()
