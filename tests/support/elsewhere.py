"""Pictures as other tools leave them, taken in and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import PngImagePlugin

from promptlab.exchange.imports import Imported, import_pictures
from promptlab.run import Summary, run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.grid import expand
from promptlab.study.study import Study


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (48, 32), **notes: str) -> np.ndarray:
    """A file of noise with text chunks; its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    chunks = PngImagePlugin.PngInfo()
    for name, text in notes.items():
        chunks.add_text(name.replace("__", "-"), text)
    Pillow.fromarray(pixels).save(path, pnginfo=chunks)
    return pixels


def take_in(folder: Path, tmp_path: Path, probes: tuple[str, ...] = ("exposure",), **more: Any) -> Imported:
    return import_pictures(folder, "taken", tmp_path / "studies", probes=probes, **more)


def run(study: Study, tmp_path: Path) -> Summary:
    return run_study(study, Store(tmp_path / "home"), RunOptions(passports_n=0))


def levels(done: Imported) -> list[dict[str, Any]]:
    return [dict(cell.levels) for cell in expand(done.study)]
