"""How far apart the pictures of one prompt lie at one seed: between its word orders, and between its paraphrases.

    x_i      unit vector of picture i under one CLIP image encoder
    d(i, j)  1 - x_i . x_j, in [0, 2], for two pictures of one prompt family and seed that differ in one axis alone

A study says which axis is which: an `order` axis permutes what stands in its slots (its levels name them, "first,
second"), a `paraphrase` axis has wordings that mean the same. What two paraphrases differ by is the noise that any
change of words makes; `promptlab.results.findings.order.sensitivity` takes it off.

The encoder is that of the first probe of the study that compares pictures (`clip_similarity`, `clip_contrast`,
`clip_phrases`, `diversity`), with its options; for drawn pictures and the miniature's, without such a probe, the
miniature's own. Nothing is stored: vectors are made anew from the pictures.

Reference:
    Abbasi et al. 2025, CLIP Under the Microscope (arXiv 2502.19842): order reaches the picture. The floor is ours.

Order: what it does to a thing to be named first.

    mention      1 for the object that the prompt names first, 2 for the one that it names second
    order        which of the two orders of the same pair of objects a picture was made from
    primacy      P(first is there) - P(second is there), averaged over both orders, [-1, 1]
    by position  the same of colour accuracy, given presence
    area, side   first's share of both areas, and P(first is left), each minus 1/2, averaged over both orders
    sensitivity  distance between the pictures of the two orders at one seed, minus that between paraphrases

With both orders of one pair, what makes an object easy to draw stands once on each side and cancels; a prompt with one
order only is dropped. Paraphrases change words and not order: their distance is the floor of noise. An encoder blind to
order must come out at exactly 0 in the first four.

References:
    Abbasi et al. 2025, CLIP Under the Microscope (arXiv 2502.19842). Grimal et al. 2024, TIAM (arXiv 2307.05134),
    detections by position of mention. The indices are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import SHIPPED
from promptlab.errors import ModelError, StoreError
from promptlab.stats.curves import Finding, mean_finding, need
from promptlab.stats.paired import Effect, paired_effect
from promptlab.study import strict_yaml

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
    "order_axes",
    "paraphrase_axes",
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
    """Distances along one order axis and along the paraphrases, as `promptlab.results.findings.order.sensitivity`
    takes them.

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
    data = strict_yaml.parse(text[0], f"{study}.yaml").data if text and text[0] else None
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
