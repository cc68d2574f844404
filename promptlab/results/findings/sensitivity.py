"""Order sensitivity: how far word order moves the image, beyond what any change of words does.

    x_i          unit vector of image i under one CLIP image encoder
    d(i, j)      1 - x_i . x_j, in [0, 2], for two images of one prompt family and seed that differ in one axis alone
    sensitivity  mean d between the orders at one seed, minus that between paraphrases

Paraphrases change the words and not their order. Their distance is the noise that any change of words makes, and
`sensitivity` takes it off. The study's axes of kind `order` and `paraphrase` say which is which (table `axis`).

The encoder is that of the study's first probe that compares images (`ENCODERS`), with its options. Without such a probe
it is the miniature's own, for drawn images and the miniature's. Nothing is stored: vectors are made from the images.

References:
    Abbasi et al. 2025, CLIP Under the Microscope (arXiv 2502.19842): order reaches the image. The floor is ours.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import SHIPPED
from promptlab.errors import ModelError, StoreError
from promptlab.records import AxisColumn
from promptlab.results.findings import FindingRow
from promptlab.results.queries import StudyScores, sql, study_axes
from promptlab.stats.paired import Effect, need, paired_effect

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = [
    "ENCODERS",
    "Compared",
    "Encoder",
    "applies",
    "compared",
    "distances",
    "encoder_of",
    "find",
    "image_rows",
    "sensitivity",
    "vectors",
]

ENCODERS = ("clip_similarity", "clip_contrast", "clip_phrases", "diversity")
"""Probes whose options name a CLIP model."""
TOGETHER = 64
"""Images read at once."""
_PROBES = "SELECT name, options FROM probe WHERE study = ? ORDER BY position"


_NO_FLOOR = (
    "no paraphrase axis says how far apart the same in other words lies: add one, as in axes: "
    "{wording: {paraphrase: [a photo of, a picture of]}} with the slot {wording} in the template"
)
_NO_ENCODER = (
    "the encoder that ships knows drawn pictures alone: give the study a probe with another, as in "
    "{name: clip_similarity, model: ViT-B-32-quickgelu, checkpoint: FILE}"
)


class Encoder(NamedTuple):
    """A CLIP model as `promptlab.analyzer.judges.clip.load_clip` takes it."""

    model: str
    checkpoint: str | None = None


class Compared(NamedTuple):
    """Distances along one order axis and along the paraphrases, as `sensitivity` takes them.

    `scores` is None where there are none, for `reason`; `measure` names the encoder, `tier` what was drawn.
    """

    axis: str
    measure: str
    tier: str
    scores: pd.DataFrame | None
    reason: str | None = None


def applies(axes: Sequence[AxisColumn]) -> bool:
    """Whether an axis names the parts of a prompt in several orders."""
    return any(column.kind == "order" for column in axes)


def find(data: StudyScores, rng: np.random.Generator) -> Iterator[FindingRow]:
    """The order sensitivity along each order axis."""
    for one in compared(data.store, data.study, data.where):
        result = {"reason": one.reason} if one.scores is None else partial(sensitivity, one.scores, rng=rng)
        yield FindingRow("order sensitivity", one.axis, one.measure, result, module="order", tier=one.tier)


def compared(store: Store, study: str, where: Mapping[str, str]) -> Iterator[Compared]:
    """One item for each order axis of `study`, at the levels of `where`; nothing where there is no such axis."""
    import pandas as pd

    rows = image_rows(store, study, where)
    columns, tiers = study_axes(store, study), sorted(set(rows["tier"].dropna()))
    varied = {axis for axis, levels in _levels(rows).items() if len(levels) > 1}
    axes = sorted(column.name for column in columns if column.kind == "order" and column.name in varied)
    if not axes:
        return
    floors = [column.name for column in columns if column.kind == "paraphrase" and column.name not in where]
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


def image_rows(store: Store, study: str, where: Mapping[str, str]) -> pd.DataFrame:
    """Every image at the levels of `where`.

    Columns: prompt_group, tier, seed, levels (a dict of text), file and pixels (hashes; equal images, equal pixels).
    """
    rows = store.query(sql("order_images"), [study])
    rows["levels"] = rows["levels"].map(lambda levels: dict(levels or {}))
    keep = [all(levels.get(axis) == level for axis, level in where.items()) for levels in rows["levels"]]
    return rows[np.array(keep, dtype=bool)]


def _levels(rows: pd.DataFrame) -> dict[str, set[str]]:
    """The levels of each axis that images of `rows` have."""
    found: dict[str, set[str]] = {}
    for levels in rows["levels"]:
        for axis, level in levels.items():
            found.setdefault(axis, set()).add(level)
    return found


def encoder_of(store: Store, study: str, tiers: Sequence[str]) -> Encoder | None:
    """The image encoder of the study; None where only the miniature's is at hand and an image is of a real model."""
    chosen = Encoder("miniature")
    for name, options in store.query(_PROBES, [study]).itertuples(index=False):
        if name in ENCODERS:
            values = json.loads(options)
            chosen = Encoder(values.get("model", "miniature"), values.get("checkpoint"))
            break
    return None if chosen.model in SHIPPED and not set(tiers) <= {"T0", "T1"} else chosen


def vectors(store: Store, rows: pd.DataFrame, encoder: Encoder) -> dict[str, NDArray[np.float32]]:
    """Unit vector (d,) of each image of `rows`, by its pixels' hash; those gone or damaged are left out.

    Raises ModelError where the encoder is not here.
    """
    from promptlab.analyzer.judges.clip import load_clip
    from promptlab.store.pictures import load

    clip = load_clip(*encoder)
    files = dict(zip(rows["file"], rows["pixels"], strict=True))
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(files), TOGETHER):
        pixels = {}
        for file in list(files)[start : start + TOGETHER]:
            try:
                pixels[files[file]] = load(store.home, file)
            except StoreError:
                continue
        found |= clip.pictures(pixels)
    return found


def distances(rows: pd.DataFrame, found: Mapping[str, NDArray[Any]], axis: str) -> pd.DataFrame:
    """prompt_group, seed, value of every two images that differ in `axis` alone; None where one has no vector.

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
        for key, images in alike.items()
        for a, b in combinations(images, 2)
        if a[0] != b[0]
    ]
    return pd.DataFrame(pairs, columns=["prompt_group", "seed", "value"])


def _distance(a: str, b: str, found: Mapping[str, NDArray[Any]]) -> float | None:
    if a not in found or b not in found:
        return None
    return 0.0 if a == b else float(np.clip(1 - np.asarray(found[a], np.float64) @ found[b], 0, 2))


def sensitivity(scores: pd.DataFrame, *, rng: np.random.Generator) -> Effect:
    """Distance between orders minus distance between paraphrases, paired by prompt and seed.

    `scores` has the columns prompt_group, seed, kind ("order" or "paraphrase") and value (a distance of two images at
    one seed, such as 1 - cosine of their embeddings); several distances of one kind are averaged.
    """
    need(scores, "prompt_group", "seed", "kind", "value")
    unknown = set(scores["kind"]) - {"order", "paraphrase"}
    if unknown:
        raise ValueError(f"kind holds {sorted(map(str, unknown))}: 'order' and 'paraphrase' are allowed")
    wide = scores.assign(value=scores["value"].astype(float)).pivot_table(
        index=["prompt_group", "seed"], columns="kind", values="value", aggfunc="mean", dropna=False
    )
    wide = wide.reindex(columns=["order", "paraphrase"])
    groups = wide.index.get_level_values("prompt_group").tolist()
    return paired_effect(wide["order"].tolist(), wide["paraphrase"].tolist(), groups, rng=rng)
