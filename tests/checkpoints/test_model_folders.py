"""Model folders that are not what they should be: refused in one line, and nothing of them is run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptlab.checkpoints.files import commit, fingerprint, quiet
from promptlab.errors import ModelError
from promptlab.generator.backends.diffusion import load
from tiny import write_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet():
        return write_tiny(tmp_path_factory.mktemp("tiny"))


def broken(name: str) -> Callable[[Path], None]:
    """A way to break a model folder."""
    unet = "unet/diffusion_pytorch_model.safetensors"
    text = "text_encoder/model.safetensors"

    def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    def lose_a_weight(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / text)
        del tensors[max(tensors)]
        save_file(tensors, folder / text, {"format": "pt"})

    def only_pickle(folder: Path) -> None:
        (folder / unet).unlink()
        (folder / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb(folder)))

    ways: dict[str, Callable[[Path], Any]] = {
        "only partly there": lambda f: (f / unet).write_bytes((f / unet).read_bytes()[:-100]),
        "damaged": lambda f: (f / text).write_bytes(bytes(1000)),
        "lacks 1 weights": lose_a_weight,
        "no model_index.json": lambda f: (f / "model_index.json").unlink(),
        "vae/ is missing": lambda f: shutil.rmtree(f / "vae"),
        "cannot be read": lambda f: (f / "model_index.json").write_text("{"),
        "cannot be loaded": lambda f: (f / "text_encoder/config.json").unlink(),
        "vae/config.json cannot be read": lambda f: (f / "vae/config.json").unlink(),
        "only as pickle": only_pickle,
        "Python code": lambda f: (f / "pipeline.py").write_text("raise SystemExit"),
        "code of its own": lambda f: edit(f / "text_encoder/config.json", lambda v: v.update(auto_map={"A": "b.C"})),
        "no known library": lambda f: edit(f / "model_index.json", lambda v: v.update(vae=["os", "system"])),
        "did you mean 'StableDiffusionPipeline'": lambda f: edit(
            f / "model_index.json", lambda v: v.update(_class_name="StableDifusionPipeline")
        ),
    }
    return ways[name]


class Bomb:
    """A pickle that leaves a file when it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return (open, (str(self.folder / "opened"), "w"))


@pytest.mark.parametrize(
    "message",
    [
        "only partly there",
        "damaged",
        "lacks 1 weights",
        "no model_index.json",
        "vae/ is missing",
        "cannot be read",
        "cannot be loaded",
        "vae/config.json cannot be read",
        "only as pickle",
        "Python code",
        "code of its own",
        "no known library",
        "did you mean 'StableDiffusionPipeline'",
    ],
)
def test_a_folder_that_cannot_be_trusted_ends_in_one_line(folder: Path, tmp_path: Path, message: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    broken(message)(copy)
    with pytest.raises(ModelError, match=message) as caught:
        load(str(copy))
    assert "\n" not in str(caught.value)
    assert not (copy / "opened").exists()


def test_names_that_are_no_model(tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    file.touch()
    for name, message in (
        (str(file), "single file"),
        ("minature", "did you mean 'miniature'"),
        ("org/x", "hf download"),
    ):
        with pytest.raises(ModelError, match=message):
            load(name)


def test_the_weights_of_a_model_are_its_fingerprint(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "snapshots" / ("a" * 40)))
    assert fingerprint(copy) == fingerprint(folder) and commit(copy) == "a" * 40 and commit(folder) is None
    (copy / "scheduler/scheduler_config.json").write_text("{}")
    assert fingerprint(copy) != fingerprint(folder)
