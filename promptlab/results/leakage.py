"""The leakage matrix: where the image shows each attribute that a prompt gives to an object.

    own         its object has it, the other has not            both        both have it
    other       the other object has it, its own has not        nowhere     neither has it

of images in which both objects were found. `leaked` is other and both together: the share of images in which the
other object took the colour. `expected` is what it would be without any leak: how often things show this colour in
images of the same study whose prompt asks for it nowhere. Only a share above that is leakage. What the background
took is not known: no probe here sees it.

People's annotations and the scene parser's findings go through the same view (`leakage` in views.sql).

Ours; that attributes leak to where the other object is, Rassin et al. 2023, Linguistic Binding in Diffusion Models
(arXiv 2306.08877).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from promptlab.results.queries import preferred_probe_ids, sql
from promptlab.stats.paired import interval_of_rates

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["PLACES", "leakage", "leakages", "leaked_pictures"]

PLACES = ("own", "both", "other", "nowhere")
COLUMNS = (
    *("attribute", "other", "n", "n_prompts", "own", "both", "elsewhere", "nowhere"),
    *("leaked", "low", "high", "expected", "tier"),
)


By = Literal["attribute", "other", "pair"] | None


def leakage(store: Store, study: str, by: By = "attribute", probe: str | None = None, seed: int = 0) -> pd.DataFrame:
    """One row for each attribute, noun of the other object, or pair of both; or (None) one row for all.

    Columns: attribute, other (NULL where rows do not differ by it), n (images), n_prompts, shares `own`, `both`,
    `elsewhere` (the other object alone), `nowhere`; `leaked` = both + elsewhere with its 95 % interval over prompts,
    `low` and `high`; `expected` (see module; NULL where no image could tell); tier. The most leaking first.

    `probe` is the preferred probe, such as "binding" or "human"; by default the first of these that has any.
    """
    return leakages(store, study, (by,), probe, seed)[by]


def leakages(
    store: Store,
    study: str,
    by: Sequence[By] = ("attribute", "pair", None),
    probe: str | None = None,
    seed: int = 0,
) -> dict[By, pd.DataFrame]:
    """Several such tables, for which the images are read once."""
    probes = preferred_probe_ids(store, study, "colour", probe)
    with store.connect() as connection:
        connection.execute(sql("seen_colours"), {"study": study, "probes": probes})
        rows = connection.execute(sql("leakage")).df()
        chance = _chance(connection.execute(sql("shown_colours")).df())
    records: list[dict[str, Any]] = rows.to_dict("records")  # type: ignore[assignment]
    return {one: _table(records, chance, one, seed) for one in by}


def leaked_pictures(
    store: Store, study: str, attribute: str, other: str | None = None, probe: str | None = None, most: int = 48
) -> pd.DataFrame:
    """Images in which the object `other`, or any, has the `attribute` that the prompt gives to another.

    Columns: image, file, prompt, seed, other, other_shown (its colours, "red|white"), went (other: it alone has it;
    both). Those where the other alone has it come first. `probe` as in `leakage`.
    """
    probes = preferred_probe_ids(store, study, "colour", probe)
    parameters = {"study": study, "attribute": attribute, "other": other, "probes": probes, "most": most}
    return store.query(sql("leaked_images"), parameters)


def _table(records: list[dict[str, Any]], chance: dict[str, float], by: By, seed: int) -> pd.DataFrame:
    import pandas as pd

    keys = {"attribute": ["attribute"], "other": ["other"], "pair": ["attribute", "other"], None: []}[by]
    parts: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in records:
        parts.setdefault(tuple(str(one[key]) for key in keys), []).append(one)
    rng = np.random.default_rng(seed)
    out: list[dict[str, Any]] = []
    for names, part in sorted(parts.items()):
        groups: dict[str, list[int]] = {}
        shares, expected, weight = dict.fromkeys(PLACES, 0), 0.0, 0
        for one in part:
            n, leaked = int(one["n"]), one["went"] in ("both", "other")
            pair = groups.setdefault(one["prompt_group"], [0, 0])
            pair[0] += n * leaked
            pair[1] += n
            shares[one["went"]] += n
            if one["attribute"] in chance:
                expected += n * chance[one["attribute"]]
                weight += n
        hits, counts = zip(*groups.values(), strict=True)
        n = sum(counts)
        interval = interval_of_rates(hits, counts, rng=rng, weigh="images")
        row: dict[str, Any] = {"attribute": None, "other": None, **dict(zip(keys, names, strict=True))}
        row |= {"n": n, "n_prompts": len(groups), "tier": part[0]["tier"]}
        row |= {("elsewhere" if place == "other" else place): shares[place] / n for place in PLACES}
        row |= {"leaked": interval.estimate, "low": interval.low, "high": interval.high}
        out.append(row | {"expected": expected / weight if weight else None})
    frame = pd.DataFrame(out, columns=list(COLUMNS))
    return frame.sort_values("leaked", ascending=False, kind="stable", ignore_index=True)


def _chance(seen: pd.DataFrame) -> dict[str, float]:
    """By colour: how often a thing shows it where the prompt asks for it nowhere."""
    rows = [
        (set(label.split("|")), set(requested), int(n))
        for label, requested, n in zip(seen["label"], seen["requested"], seen["n"], strict=True)
    ]
    out = {}
    for colour in {colour for shown, requested, _ in rows for colour in shown | requested}:
        free = sum(n for _, requested, n in rows if colour not in requested)
        if free:
            out[colour] = sum(n for shown, requested, n in rows if colour in shown and colour not in requested) / free
    return out
