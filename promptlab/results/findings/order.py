"""Order: what it does to an object to be named first, and how far word order moves the image.

    mention      1 for the object that the prompt names first, 2 for the one that it names second
    order        which of the two orders of the same pair of objects an image was made from
    primacy      P(first is there) - P(second is there), averaged over both orders, [-1, 1]
    by position  the same of colour accuracy, given presence
    area, side   first's share of both areas, and P(first is left), each minus 1/2, averaged over both orders
    x_i          unit vector of image i under one CLIP image encoder
    d(i, j)      1 - x_i . x_j, in [0, 2], for two images of one prompt family and seed that differ in one axis alone
    sensitivity  mean d between the orders at one seed, minus that between paraphrases

With both orders of one pair, what makes an object easy to draw stands once on each side and cancels; a prompt with one
order only is dropped. An encoder that is blind to order must give exactly 0 in the first four. Paraphrases change the
words and not their order: their distance is the noise that any change of words makes, and `sensitivity` takes it off.
The study's axes of kind `order` and `paraphrase` say which is which (table `axis`).

The encoder is that of the study's first probe that compares images (`ENCODERS`), with its options. Without such a probe
it is the miniature's own, for drawn images and the miniature's. Nothing is stored: vectors are made from the images.

References:
    Abbasi et al. 2025, CLIP Under the Microscope (arXiv 2502.19842): order reaches the image. Grimal et al. 2024, TIAM
    (arXiv 2307.05134), detections by position of mention. The indices and the floor are ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import SHIPPED
from promptlab.errors import ModelError, StoreError
from promptlab.results.queries import study_axes
from promptlab.stats.curves import Finding, mean_finding, need
from promptlab.stats.paired import Effect, paired_effect

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = [
    "ENCODERS",
    "Compared",
    "Encoder",
    "area_share",
    "compared",
    "distances",
    "encoder_of",
    "picture_rows",
    "primacy",
    "sensitivity",
    "side",
    "vectors",
]

ENCODERS = ("clip_similarity", "clip_contrast", "clip_phrases", "diversity")
"""Probes whose options name a CLIP model."""
TOGETHER = 64
"""Pictures read at once."""
_PROBES = "SELECT name, options FROM probe WHERE study = ? ORDER BY position"
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


def compared(store: Store, study: str, where: Mapping[str, str]) -> Iterator[Compared]:
    """One item an order axis of `study`, at the levels of `where`; nothing where there is no such axis."""
    import pandas as pd

    rows = picture_rows(store, study, where)
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


def picture_rows(store: Store, study: str, where: Mapping[str, str]) -> pd.DataFrame:
    """Every picture at the levels of `where`.

    Columns: prompt_group, tier, seed, levels (a dict of text), file and pixels (hashes; equal pictures, equal pixels).
    """
    rows = store.query(_PICTURES, [study])
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
    """The image encoder of the study; None where only the miniature's is at hand and a picture is of a real model."""
    chosen = Encoder("miniature")
    for name, options in store.query(_PROBES, [study]).itertuples(index=False):
        if name in ENCODERS:
            given = json.loads(options)
            chosen = Encoder(given.get("model", "miniature"), given.get("checkpoint"))
            break
    return None if chosen.model in SHIPPED and not set(tiers) <= {"T0", "T1"} else chosen


def vectors(store: Store, rows: pd.DataFrame, encoder: Encoder) -> dict[str, NDArray[np.float32]]:
    """Unit vector (d,) of each picture of `rows`, by its pixels' hash; those gone or damaged are left out.

    Raises ModelError where the encoder is not here.
    """
    from promptlab.analyzer.judges.clip import load_clip
    from promptlab.store.pictures import load

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


def primacy(scores: pd.DataFrame, *, rng: np.random.Generator) -> Finding:
    """Value of the first-named minus that of the second, averaged over seeds, then over both orders, then over prompts.

    `scores` has the columns prompt_group, seed, order, mention (1 or 2) and value: presence (1 or 0) for the primacy
    index, colour accuracy for binding by position. A picture counts if both its objects were measured.
    """
    return _by_order(scores, lambda first, second: first - second, rng)


def area_share(scores: pd.DataFrame, *, rng: np.random.Generator) -> Finding:
    """The first-named's share of both areas, minus 1/2: value is an object's area (any unit, at least 0)."""
    if (scores["value"].dropna().astype(float) < 0).any():
        raise ValueError("value holds an area below 0")

    def share(first: pd.Series[float], second: pd.Series[float]) -> pd.Series[float]:
        both = first + second
        return first / both.where(both > 0) - 0.5

    return _by_order(scores, share, rng)


def side(scores: pd.DataFrame, *, rng: np.random.Generator) -> Finding:
    """P(the first-named is left of the second) minus 1/2: value is the x of an object's centre; a tie counts half."""
    return _by_order(scores, lambda first, second: (first < second) + (first == second) / 2 - 0.5, rng)


def _by_order(
    scores: pd.DataFrame,
    compare: Callable[[pd.Series[float], pd.Series[float]], pd.Series[float]],
    rng: np.random.Generator,
) -> Finding:
    need(scores, "prompt_group", "seed", "order", "mention", "value")
    named = set(scores["mention"])
    if not named <= {1, 2}:
        raise ValueError(f"mention holds {sorted(map(str, named - {1, 2}))}: 1 (named first) and 2 are allowed")
    keys = ["prompt_group", "order", "seed"]
    if scores.duplicated([*keys, "mention"]).any():
        raise ValueError("an object of one picture comes twice: give each (prompt_group, order, seed, mention) once")
    if scores.empty:
        return mean_finding(np.array([]), rng=rng, n=0)
    numbers = scores.assign(value=scores["value"].astype(float))
    wide = numbers.pivot(index=keys, columns="mention", values="value").reindex(columns=[1, 2])
    measured = wide.dropna()
    difference = compare(measured[1], measured[2]).dropna()
    # orders of one prompt, each averaged over its seeds; a prompt with one order says nothing free of salience
    means = difference.groupby(level=["prompt_group", "order"]).mean().groupby(level="prompt_group")
    orders = scores.groupby("prompt_group")["order"].nunique()
    if (orders > 2).any():
        raise ValueError(f"a prompt has {int(orders.max())} orders: two of each pair of objects are allowed")
    whole = means.mean()[means.size() == 2]
    return mean_finding(
        np.asarray(whole, dtype=np.float64),
        rng=rng,
        n=len(difference),
        n_dropped=len(wide) - len(difference),
        prompts_without_both_orders=int(len(orders) - len(whole)),
    )


def sensitivity(scores: pd.DataFrame, *, rng: np.random.Generator) -> Effect:
    """Distance between orders minus distance between paraphrases, paired by prompt and seed.

    `scores` has the columns prompt_group, seed, kind ("order" or "paraphrase") and value (a distance of two pictures at
    one seed, such as 1 - cosine of their embeddings); several distances of one kind are averaged.
    """
    need(scores, "prompt_group", "seed", "kind", "value")
    strange = set(scores["kind"]) - {"order", "paraphrase"}
    if strange:
        raise ValueError(f"kind holds {sorted(map(str, strange))}: 'order' and 'paraphrase' are allowed")
    wide = scores.assign(value=scores["value"].astype(float)).pivot_table(
        index=["prompt_group", "seed"], columns="kind", values="value", aggfunc="mean", dropna=False
    )
    wide = wide.reindex(columns=["order", "paraphrase"])
    groups = wide.index.get_level_values("prompt_group").tolist()
    return paired_effect(wide["order"].tolist(), wide["paraphrase"].tolist(), groups, rng=rng)
