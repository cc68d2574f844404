"""A run to be killed: a fake generator and a fake probe around the real store.

    python tests/support/driver.py HOME STUDY [--cells N] [--pause SECONDS] [--every N] [--gate FILE]

It draws, saves, journals, scores and publishes as the real run does, resumes like it, and ends with its exit codes. The
tests look at it through its home only (journals, images, database), so the real command can take its place.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from promptlab.errors import PromptlabError
from promptlab.records import Binding, Cell, Image, Measure, Phrase, Prompt, Score, Settings
from promptlab.store import Store, pictures

SEEDS = (0, 1)
PROBE = "brightness@1"


def cells(study: str, n: int) -> Iterator[Cell]:
    """`n` cells of a study about red cups 🏆."""
    for i in range(n):
        text = f"a red cup 🏆 and {i} blue chairs"
        prompt = Prompt(
            text,
            (Phrase("cup", "red cup", 2, 9, "object"),),
            (Binding("cup", "cup", "red"), Binding("chair", "chair", "blue")),
            swapped=text.replace("red", "x").replace("blue", "red").replace("x", "blue"),
            alone=("a red cup", "a blue chair"),
        )
        settings = Settings(guidance_scale=float(i % 3), height=24, width=32)
        levels = (("count", i), ("guidance_scale", float(i % 3)))
        yield Cell(study, levels, prompt, settings, group=f"group {i // 3}", backend="fake", model="fake")


def draw(cell: Cell, seed: int) -> pictures.Picture:
    """The picture of a cell at a seed: noise that depends on nothing else. uint8 (24, 32, 3)."""
    rng = np.random.default_rng([seed, *cell.image_id(seed).encode()])
    return rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)


def run(home: Path, study: str, n: int, pause: float, every: int, gate: Path | None) -> None:
    """Fill in what is missing, four pictures a batch, publishing every so many batches."""
    store = Store(home)
    design = list(cells(study, n))
    with store.open_run(study, text=f"study: {study}", device="cpu", facts={"numpy": np.__version__}) as session:
        while gate is not None and not gate.exists():
            time.sleep(0.01)
        session.plan(design, SEEDS, lambda cell: "T0")
        known = store.images()
        missing = [(cell, seed) for cell in design for seed in SEEDS if cell.image_id(seed) not in known]
        for i in range(0, len(missing), 4):
            time.sleep(pause)
            batch = []
            for cell, seed in missing[i : i + 4]:
                image = draw(cell, seed)
                file, pixels = pictures.save(image, store.home, cell.recipe(seed))
                recipe = cell.recipe(seed)
                batch.append(Image(cell.image_id(seed), recipe, "ok", None, file, pixels, 32, 24, batch_size=4))
            session.add(*batch)
            print(*("ack " + image.id for image in batch), sep="\n", flush=True)
            if every and i // 4 % every == every - 1:
                store.publish()
        session.add(Measure("brightness", "mean of all channels", "0 to 255", 0, 255))
        done = store.scores(PROBE)
        wanted = {cell.image_id(seed) for cell in design for seed in SEEDS}
        for key, image in sorted(store.images().items()):
            if key in wanted and (PROBE, key, None) not in done and image.file:
                pixels_ = pictures.load(store.home, image.file)
                whole = Score(key, "brightness", PROBE, "brightness", value=float(pixels_.mean()))
                red = Score(
                    key, "brightness", PROBE, "brightness", "red", float(pixels_[..., 0].mean()), detail={"channel": 0}
                )
                session.add(whole, red)
    store.publish()


def main(argv: Sequence[str], env: Mapping[str, str] | None = None, out: str | None = None) -> int:
    """The command: 0 done, 130 interrupted, else the error's own code and one line on stderr."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(env or {})
    if out is not None:
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("study")
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--gate", type=Path, help="go on when this file exists")
    given = parser.parse_args(argv)
    try:
        run(given.home, given.study, given.cells, given.pause, given.every, given.gate)
    except PromptlabError as error:
        print(f"promptlab: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError as error:
        print(f"promptlab: out of memory: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def child(argv: Sequence[str], env: Mapping[str, str] | None = None, out: str | None = None) -> None:
    """`main` for a process of multiprocessing."""
    sys.exit(main(argv, env, out))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
