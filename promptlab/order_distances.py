"""How far apart the pictures of one prompt lie at one seed: between its word orders, and between its paraphrases.

    x_i      unit vector of picture i under one CLIP image encoder
    d(i, j)  1 - x_i . x_j, in [0, 2], for two pictures of one prompt family and seed that differ in one axis alone

A study says which axis is which: an `order` axis permutes what stands in its slots (its levels name them, "first,
second"), a `paraphrase` axis has wordings that mean the same. What two paraphrases differ by is the noise that any
change of words makes; `promptlab.order.sensitivity` takes it off.

The encoder is that of the first probe of the study that compares pictures (`clip_similarity`, `clip_contrast`,
`clip_phrases`, `diversity`), with its options; for drawn pictures and the miniature's, without such a probe, the
miniature's own. Nothing is stored: vectors are made anew from the pictures.

Reference:
    Abbasi et al. 2025, CLIP Under the Microscope (arXiv 2502.19842): order reaches the picture. The floor is ours.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promptlab import yaml_strict
from promptlab.clip_files import SHIPPED
from promptlab.errors import ModelError, StoreError

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = [
    "ENCODERS",
    "Compared",
    "Encoder",
    "compared",
    "distances",
    "encoder_of",
    "order_axes",
    "paraphrase_axes",
    "picture_rows",
    "vectors",
]

ENCODERS = ("clip_similarity", "clip_contrast", "clip_phrases", "diversity")
"""Probes whose options name a CLIP model."""
TOGETHER = 64
"""Pictures read at once."""
_PICTURES = """
WITH named AS (
    SELECT study, cell_id, map_from_entries(list({'k': axis, 'v': level} ORDER BY axis)) AS levels
    FROM level GROUP BY study, cell_id
)
SELECT cell.prompt_group, cell.tier, cell_image.seed, named.levels, image.file, image.pixels
FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image
JOIN named ON named.study = cell.study AND named.cell_id = cell.id
WHERE cell.study = ? AND cell.current AND image.status = 'ok' AND image.file IS NOT NULL AND image.pixels IS NOT NULL
ORDER BY cell.position, cell_image.seed
"""


_NO_FLOOR = (
    "no paraphrase axis says how far apart the same in other words lies: add one, as in axes: "
    "{wording: {paraphrase: [a photo of, a picture of]}} with the slot {wording} in the template"
)
_NO_ENCODER = (
    "the encoder that ships knows drawn pictures alone: give the study a probe with another, as in "
    "{name: clip_similarity, model: ViT-B-32-quickgelu, checkpoint: FILE}"
)


class Encoder(NamedTuple):
    """A CLIP model as `promptlab.clip.load_clip` takes it."""

    model: str
    checkpoint: str | None = None


class Compared(NamedTuple):
    """Distances along one order axis and along the paraphrases, as `promptlab.order.sensitivity` takes them.

    `scores` is None where there are none, for `reason`; `measure` names the encoder, `tier` what was drawn.
    """

    axis: str
    measure: str
    tier: str
    scores: pd.DataFrame | None
    reason: str | None = None


def compared(store: Store, study: str, where: Mapping[str, str]) -> Iterator[Compared]:
    """One item an order axis of `study`, at the levels of `where`; nothing where there is no such axis."""
    import pandas as pd

    rows = picture_rows(store, study, where)
    axes, tiers = order_axes(rows), sorted(set(rows["tier"].dropna()))
    if not axes:
        return
    floors = [axis for axis in paraphrase_axes(store, study) if axis not in where]
    encoder, found = encoder_of(store, study, tiers), {}
    problem = _NO_ENCODER if encoder is None else None
    if not floors:
        problem = _NO_FLOOR
    elif encoder is not None:
        try:
            found = vectors(store, rows, encoder)
        except ModelError as error:
            problem = str(error)
    measure = "1 - cosine of pictures" + (f", {encoder.model}" if encoder else "")
    for axis in axes:
        if problem:
            yield Compared(axis, measure, ", ".join(tiers), None, problem)
            continue
        kinds = [("order", axis), *(("paraphrase", floor) for floor in floors)]
        parts = [distances(rows, found, one).assign(kind=kind) for kind, one in kinds]
        yield Compared(axis, measure, ", ".join(tiers), pd.concat([part for part in parts if len(part)] or parts))


def picture_rows(store: Store, study: str, where: Mapping[str, str]) -> pd.DataFrame:
    """Every picture at the levels of `where`.

    Columns: prompt_group, tier, seed, levels (a dict of text), file and pixels (hashes; equal pictures, equal pixels).
    """
    rows = store.query(_PICTURES, [study])
    rows["levels"] = rows["levels"].map(lambda levels: dict(levels or {}))
    keep = [all(levels.get(axis) == level for axis, level in where.items()) for levels in rows["levels"]]
    return rows[np.array(keep, dtype=bool)]


def order_axes(rows: pd.DataFrame) -> tuple[str, ...]:
    """Axes whose levels are permutations of the same names, at least two of them."""
    levels: dict[str, set[str]] = {}
    for given in rows["levels"]:
        for axis, level in given.items():
            levels.setdefault(axis, set()).add(level)
    return tuple(axis for axis, there in sorted(levels.items()) if len(there) > 1 and _permuted(there))


def _permuted(levels: set[str]) -> bool:
    names = {tuple(sorted(level.split(", "))) for level in levels}
    return len(names) == 1 and len(set(names.pop())) > 1


def _file_of(store: Store, study: str) -> dict[str, Any]:
    text = store.query("SELECT text FROM study WHERE name = ?", [study])["text"].tolist()
    data = yaml_strict.parse(text[0], f"{study}.yaml").data if text and text[0] else None
    return data if isinstance(data, dict) else {}


def paraphrase_axes(store: Store, study: str) -> tuple[str, ...]:
    """Axes of the kind `paraphrase`, by the study file of the last run; none where that run had no file."""
    axes = _file_of(store, study).get("axes") or {}
    return tuple(name for name, axis in axes.items() if isinstance(axis, dict) and "paraphrase" in axis)


def encoder_of(store: Store, study: str, tiers: Sequence[str]) -> Encoder | None:
    """The image encoder of the study; None where only the miniature's is at hand and a picture is of a real model."""
    chosen = Encoder("miniature")
    for probe in _file_of(store, study).get("probes") or ():
        use = {"name": probe} if isinstance(probe, str) else probe
        if use.get("name") in ENCODERS:
            chosen = Encoder(use.get("model", "miniature"), use.get("checkpoint"))
            break
    return None if chosen.model in SHIPPED and not set(tiers) <= {"T0", "T1"} else chosen


def vectors(store: Store, rows: pd.DataFrame, encoder: Encoder) -> dict[str, NDArray[np.float32]]:
    """Unit vector (d,) of each picture of `rows`, by its pixels' hash; those gone or damaged are left out.

    Raises ModelError where the encoder is not here.
    """
    from promptlab.clip import load_clip
    from promptlab.pictures import load

    clip = load_clip(*encoder)
    files = dict(zip(rows["file"], rows["pixels"], strict=True))
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(files), TOGETHER):
        there = {}
        for file in list(files)[start : start + TOGETHER]:
            try:
                there[files[file]] = load(store.home, file)
            except StoreError:
                continue
        found |= clip.pictures(there)
    return found


def distances(rows: pd.DataFrame, found: Mapping[str, NDArray[Any]], axis: str) -> pd.DataFrame:
    """prompt_group, seed, value of every two pictures that differ in `axis` alone; None where one has no vector.

    `rows` has the columns prompt_group, seed, levels and pixels; `found` a unit vector by pixels. Equal ones are at 0.
    """
    import pandas as pd

    alike: dict[Hashable, list[tuple[str, str]]] = {}
    for group, seed, levels, pixels in rows[["prompt_group", "seed", "levels", "pixels"]].itertuples(index=False):
        rest = tuple(sorted((name, level) for name, level in levels.items() if name != axis))
        if axis in levels:
            alike.setdefault((group, seed, rest), []).append((levels[axis], pixels))
    pairs = [
        (key[0], key[1], _distance(a[1], b[1], found))  # type: ignore[index]
        for key, pictures in alike.items()
        for a, b in combinations(pictures, 2)
        if a[0] != b[0]
    ]
    return pd.DataFrame(pairs, columns=["prompt_group", "seed", "value"])


def _distance(a: str, b: str, found: Mapping[str, NDArray[Any]]) -> float | None:
    if a not in found or b not in found:
        return None
    return 0.0 if a == b else float(np.clip(1 - np.asarray(found[a], np.float64) @ found[b], 0, 2))
