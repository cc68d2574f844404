"""A store as large as wanted, without a model: what the dashboard is measured on.

One study with every axis that a page asks for (colours exchanged, word order, details, guidance), 60 cells a prompt
family; 40 measures by names of real probes, two of them of each object: 42 scores a picture. Outcomes, colours and
numbers are drawn from laws of our own in which guidance helps and too much of it burns; no picture was looked at.

Everything is written as a run writes it, journals and published database; only the pictures are few: so many files are
shared by all, since a page asks for a picture by the hash of its file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from promptlab.claims import Claim, settle
from promptlab.miniature.world import COLOURS, NOUNS
from promptlab.records import OUTCOMES, Cell, ContrastEffect, Image, Measure, Passport, Score
from promptlab.results.contrasts import contrast_effects
from promptlab.run.plan import tier_of
from promptlab.store import Run, Store, pictures
from promptlab.store.home import Home
from promptlab.study.grid import expand
from promptlab.study.study import parse_study

__all__ = ["MEASURES", "STUDY", "build_store"]

STUDY = "large"
FILES = 2000
"""Different pictures on the disk."""
AT_ONCE = 512
PROBES = {
    "binding": (*OUTCOMES, "both_present", "accuracy", "noun", "colour"),
    "exposure": ("colourfulness", "mean_chroma", "p95_chroma", "clipped_share", "rms_contrast", "mean_luma"),
    "clip_similarity": ("clip_cosine",),
    "clip_contrast": ("binding_contrast", "winoground_text", "winoground_image", "winoground_group"),
    "diversity": ("seed_distance", "vendi", "scene_entropy"),
    "further": tuple(f"further_{i:02}" for i in range(16)),
}
MEASURES = tuple(name for names in PROBES.values() for name in names)
WORSE = {"swap", "leak", "other", "neglect", "fused", "clipped_share"}
TEXT = """
name: large
question: What does a study of very many pictures show?
model: miniature
prompt:
  template: "a photo of {{first}} and {{second}}{{details}}"
  objects:
    first: {{noun: "{{noun_1}}", colour: "{{colour_1}}"}}
    second: {{noun: "{{noun_2}}", colour: "{{colour_2}}"}}
axes:
  pair:
    zip:
{pairs}
  assignment: {{swap: [first, second]}}
  order: {{order: [first, second]}}
  details: {{ladder: [", on grass", ", at night"], join: ""}}
  guidance_scale: [1, 3, 5, 7.5, 12]
seeds: {seeds}
probes: [binding, exposure]
contrasts:
  - {{name: order, measure: binding.accuracy, axis: order, levels: ["second, first", "first, second"]}}
  - {{name: guidance, measure: binding.correct, axis: guidance_scale, levels: [5, 1], family: confirmatory}}
"""


def build_store(home: Home, wanted: int) -> dict[str, float]:
    """Fill `home` with about `wanted` pictures (240 to 900,000) and publish it: seconds by step, and counts.

    A home that holds the same study already is left as it is; then no step has seconds. Raises DiskError.
    """
    text = _text(wanted)
    store = Store(home)
    if home.database.is_file() and text in set(store.query("SELECT text FROM study")["text"]):
        return _counted(store)
    study = parse_study(text, "bench.yaml")
    cells = list(expand(study, max_cells=2 * wanted))
    rng = np.random.default_rng(0)
    began, seconds = time.perf_counter(), {}
    files = _pictures(home, min(FILES, wanted // 4), rng)
    seconds["pictures_s"] = time.perf_counter() - began
    with store.open_run(STUDY, text=text, device="cpu", facts={"dtype": "float32", "torch": "none"}) as run:
        run.declare(study, [(use.name, _id(use.name)) for use in study.probes])
        run.plan(cells, study.seeds, tier_of)
        run.add(*(_meaning(name) for name in MEASURES))
        run.add(_passport(rng))
        _fill(run, cells, study.seeds, files, rng)
    _claims(store)
    seconds["journal_s"] = time.perf_counter() - began - sum(seconds.values())
    later = Store(home)
    later.publish()
    seconds["publish_s"] = time.perf_counter() - began - sum(seconds.values())
    with later.open_run(STUDY, text=text) as run:
        run.add(*contrast_effects(later, study))
    seconds["contrasts_s"] = time.perf_counter() - began - sum(seconds.values())
    later.publish()
    seconds["publish_again_s"] = time.perf_counter() - began - sum(seconds.values())
    return {**seconds, **_counted(store)}


def _counted(store: Store) -> dict[str, float]:
    found = store.query("SELECT (SELECT count(*) FROM image) AS pictures, (SELECT count(*) FROM score) AS scores")
    return {name: int(found[name].iloc[0]) for name in ("pictures", "scores")}


def _text(wanted: int) -> str:
    seeds = 10 if wanted >= 6000 else 2
    # one picture in two hundred is missing
    families = max(2, math.ceil(wanted / (60 * seeds) / 0.994)) if wanted >= 6000 else max(2, wanted // (60 * seeds))
    colours = list(COLOURS)
    pairs = []
    for i in range(families):
        apart, turn = divmod(i, len(NOUNS) * len(colours))
        first, one = NOUNS[turn % len(NOUNS)], colours[turn % len(colours) - turn // 70]
        second, other = NOUNS[(turn + 1 + apart) % len(NOUNS)], colours[(turn + 3) % len(colours) - turn // 70]
        pairs.append(f"      - {{noun_1: {first}, colour_1: {one}, noun_2: {second}, colour_2: {other}}}")
    return TEXT.format(pairs="\n".join(pairs), seeds=seeds)


def _pictures(home: Home, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Hashes of file and pixels of `count` pictures: eight by eight tiles of colour, so that files stay small."""
    tiles = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [
        pictures.save(np.kron(tile, np.ones((16, 16, 1), np.uint8)), home, {"prompt": f"tiles {i}", "seed": i})
        for i, tile in enumerate(tiles)
    ]


def _meaning(name: str) -> Measure:
    bounded = name in PROBES["binding"] or name.startswith("winoground")
    better = False if name in WORSE else None if name in PROBES["exposure"] else True
    return Measure(name, f"made up: {name}", "1 or 0" if bounded else "", 0, 1 if bounded else None, better)


def _passport(rng: np.random.Generator) -> Passport:
    counts = (np.eye(len(OUTCOMES)) * 90 + rng.integers(0, 4, (len(OUTCOMES),) * 2)).astype(int)
    detail = {"classes": list(OUTCOMES), "confusion": counts.tolist()}
    return Passport(
        "binding", _id("binding"), "binding", int(counts.sum()), 0.95, 0.93, 0.97, 0.96, 0.94, 0.98, 0.91, 0.97, detail
    )


def _id(probe: str) -> str:
    return f"{probe}-1-00000000"


def _fill(
    run: Run, cells: list[Cell], seeds: tuple[int, ...], files: list[tuple[str, str]], rng: np.random.Generator
) -> None:
    """All pictures but one in two hundred, one in a hundred of them blank; and their scores."""
    batch: list[tuple[Cell, Image]] = []
    for cell in cells:
        for seed in seeds:
            if rng.random() < 0.005:
                continue
            file, pixels = files[rng.integers(len(files))]
            whole = Image(
                cell.image_id(seed),
                cell.recipe(seed),
                file=file,
                pixels=pixels,
                width=128,
                height=128,
                seconds=0.3,
                clipped=0.01,
                batch_size=16,
            )
            blank = replace(whole, status="degenerate", reason="flat: one colour")
            image = blank if rng.random() < 0.01 else whole
            batch.append((cell, image))
        if len(batch) >= AT_ONCE:
            _add(run, batch, rng)
    _add(run, batch, rng)


def _add(run: Run, batch: list[tuple[Cell, Image]], rng: np.random.Generator) -> None:
    run.add(*(image for _, image in batch))
    run.add(*(score for cell, image in batch if image.status == "ok" for score in _scores(cell, image.id, rng)))
    batch.clear()


def _scores(cell: Cell, image: str, rng: np.random.Generator) -> Iterator[Score]:
    w = cell.settings.guidance_scale
    right = 0.25 + 0.5 * min(w, 5) / 5 - 0.02 * max(0.0, w - 7.5)
    odds = np.array([right, *((1 - right) * np.array([0.2, 0.25, 0.15, 0.25, 0.15]))])
    said = OUTCOMES[int(np.searchsorted(odds.cumsum(), rng.random() * odds.sum()))]
    there = said not in ("neglect", "fused")
    binding = partial(Score, image, "binding", _id("binding"), prompt=cell.prompt.id)
    for name in OUTCOMES:
        label = said if name == "correct" else None
        yield binding(name, value=float(name == said), label=label)
    yield binding("both_present", value=float(there))
    missing = None if there else "an object is missing"
    yield binding("accuracy", value=float(said == "correct") if there else None, reason=missing)
    asked = [str(claim.attribute) for claim in cell.prompt.bindings]
    shown = {"swap": asked[::-1], "leak": [asked[0]] * 2, "other": [asked[0], "white"]}.get(said, asked)
    for place, claim in enumerate(cell.prompt.bindings):
        yield binding("noun", claim.object, float(there or place == 0))
        seen = there or place == 0
        value = float(shown[place] == asked[place]) if seen else None
        label, reason = (shown[place], None) if seen else (None, "it is not there")
        yield binding("colour", claim.object, value, label, reason)
    numbers = iter(rng.normal(0.3, 0.1, len(MEASURES)) + 0.01 * w)
    for probe, names in PROBES.items():
        for name in names if probe != "binding" else ():
            yield Score(image, probe, _id(probe), name, value=round(float(next(numbers)), 6), prompt=cell.prompt.id)


def _claims(store: Store) -> None:
    given = {"source": "ours", "analysis": "rarity", "margin": 0.1, "design": "d", "size": "s", "comparator": "c"}
    claims = [
        Claim.model_validate({**given, "id": f"C{i + 1}", "claim": f"It helps, said {i + 1}", "expects": "more"})
        for i in range(15)
    ]
    blank = ContrastEffect("s", "c", "p", "p-1-00000000", "m", "", 0.3, 0.2, 0.4, 0.001, n_groups=20, n_pairs=40)
    effects = [ContrastEffect(**asdict(blank)) for _ in claims]
    with store.open_run("claims") as run:
        run.add(*(one.effect for one in settle(claims, effects)))
