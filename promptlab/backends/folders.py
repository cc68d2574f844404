"""Model folders, read with distrust: a pipeline in diffusers' format, safetensors only, no code, nothing missing.

A folder is looked over before anything of it is loaded: pickle files can run code when they are opened, and so can the
Python files that a configuration may name. Once loaded, every tensor of the model must have come from a file, since
libraries fill what is missing with random numbers and only log it.

References:
    CVE-2025-32434: code execution by torch.load, even with weights_only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from promptlab.backends import hub
from promptlab.backends.families import Family, family_of
from promptlab.errors import ModelError, nearest
from promptlab.records import content_id

__all__ = [
    "MINIATURES",
    "check_complete",
    "check_folder",
    "commit",
    "components",
    "fingerprint",
    "pipeline_class",
    "read_json",
    "resolve",
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
        from promptlab.miniature.shipped import shipped_folder

        return shipped_folder() / "pipeline", MINIATURES[model]
    path = Path(model).expanduser()
    if path.is_file():
        raise ModelError(
            f"model {model!r} is a single file: give the folder of a diffusers pipeline (model_index.json)"
        )
    if path.is_dir():
        return path.resolve(), False
    if hub.is_hub_name(model):
        return hub.snapshot(model), False
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
    """Look a pipeline folder over, loading nothing. Raises ModelError for anything partial or unsafe."""
    family = family_of(pipeline_class(folder))
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
            known = hub.blob_of(file) if file.is_symlink() else None
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
