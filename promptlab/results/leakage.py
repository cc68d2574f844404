"""The leakage matrix: for each attribute asked of an object, where it went in the picture.

    own         its object has it, the other has not            both        both have it
    other       the other object has it, its own has not        nowhere     neither has it

of pictures in which both objects were found. `leaked` is other and both together: the share of pictures in which the
other object took the colour. `expected` is what it would be without any leak: how often things show this colour in
pictures of the same study whose prompt asks for it nowhere. Only a share above that is leakage. What the background
took is not known: no probe here sees it.

People's annotations and the scene parser's findings go through the same view (`leakage` in views.sql).

Ours; that attributes leak to where the other object is, Rassin et al. 2023, Linguistic Binding in Diffusion Models
(arXiv 2306.08877).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from promptlab.results.queries import preferred_probe_ids
from promptlab.stats.paired import interval_of_rates

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["WENT", "leakage", "leakages", "leaked_pictures"]

WENT = ("own", "both", "other", "nowhere")
COLUMNS = (
    *("attribute", "other", "n", "n_prompts", "own", "both", "elsewhere", "nowhere"),
    *("leaked", "low", "high", "expected", "tier"),
)


By = Literal["attribute", "other", "pair"] | None


def leakage(store: Store, study: str, by: By = "attribute", probe: str | None = None, seed: int = 0) -> pd.DataFrame:
    """One row an attribute asked, a noun of the other object, a pair of both, or (None) one row for all.

    Columns: attribute, other (NULL where rows are not told apart by it), n (pictures), n_prompts, shares `own`, `both`,
    `elsewhere` (the other object alone), `nowhere`; `leaked` = both + elsewhere with its 95 % interval over prompts,
    `low` and `high`; `expected` (see module; NULL where no picture could tell); tier. The most leaking first.

    `probe` says whose word counts, such as "binding" or "human": the first of these that has any, if None.
    """
    return leakages(store, study, (by,), probe, seed)[by]


def leakages(
    store: Store,
    study: str,
    by: Sequence[By] = ("attribute", "pair", None),
    probe: str | None = None,
    seed: int = 0,
) -> dict[By, pd.DataFrame]:
    """Several such tables, for which the pictures are read once."""
    probes = preferred_probe_ids(store, study, "colour", probe)
    with store.connect() as connection:
        connection.execute(_SEEN, {"study": study, "probes": probes})
        rows = connection.execute(_WENT).df()
        chance = _chance(connection.execute(_SHOWN).df())
    records: list[dict[str, Any]] = rows.to_dict("records")  # type: ignore[assignment]
    return {one: _table(records, chance, one, seed) for one in by}


_LEAKED = """
WITH asked AS (
    SELECT a.prompt_id, a.object, b.object AS other_object, b.noun AS other FROM binding a
    JOIN binding b ON b.prompt_id = a.prompt_id AND b.object <> a.object AND b.attribute <> a.attribute
    WHERE a.attribute = $attribute AND b.noun = coalesce($other, b.noun)
), here AS (
    SELECT cell.prompt, cell.prompt_id, cell_image.seed, image.id AS image, image.file, asked.*
    FROM asked JOIN cell ON cell.prompt_id = asked.prompt_id AND cell.study = $study AND cell.current
    JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
    JOIN image ON image.id = cell_image.image AND image.status = 'ok'
)
SELECT here.image, here.file, here.prompt, here.seed, here.other, theirs.label AS other_shown,
    CASE WHEN list_contains(string_split(own.label, '|'), $attribute) THEN 'both' ELSE 'other' END AS went
FROM here
JOIN score own ON own.image = here.image AND coalesce(own.prompt_id, here.prompt_id) = here.prompt_id
    AND own.measure = 'colour' AND own.target = here.object AND own.label IS NOT NULL
JOIN score theirs ON theirs.image = here.image AND coalesce(theirs.prompt_id, here.prompt_id) = here.prompt_id
    AND theirs.measure = 'colour' AND theirs.target = here.other_object AND theirs.probe_id = own.probe_id
WHERE list_contains(string_split(theirs.label, '|'), $attribute) AND list_contains($probes::VARCHAR[], own.probe_id)
ORDER BY went DESC, here.prompt, here.seed, here.image LIMIT $most
"""
"""View leakage, begun at the few prompts that ask for this."""


def leaked_pictures(
    store: Store, study: str, attribute: str, other: str | None = None, probe: str | None = None, most: int = 48
) -> pd.DataFrame:
    """Pictures in which the object `other`, or any, has the `attribute` that another was asked to have.

    Columns: image, file, prompt, seed, other, other_shown (its colours, "red|white"), went (other: it alone has it;
    both). Those where the other alone has it come first. `probe` as in `leakage`.
    """
    probes = preferred_probe_ids(store, study, "colour", probe)
    asked = {"study": study, "attribute": attribute, "other": other, "probes": probes, "most": most}
    return store.query(_LEAKED, asked)


# Colours that were seen in the study's pictures, and its cells; places stand for cells, since numbers join fast.
_SEEN = """
CREATE TEMP TABLE seen AS
WITH arm AS (
    SELECT *, row_number() OVER (ORDER BY id) AS place FROM cell WHERE study = $study AND current
)
SELECT arm.place, arm.prompt_id, arm.prompt_group, arm.tier, cell_image.seed, score.probe_id, score.target, score.label
FROM arm
JOIN cell_image ON cell_image.study = $study AND cell_image.cell_id = arm.id
JOIN image ON image.id = cell_image.image AND image.status = 'ok'
JOIN score ON score.image = image.id AND coalesce(score.prompt_id, arm.prompt_id) = arm.prompt_id
WHERE score.measure = 'colour' AND score.label IS NOT NULL AND list_contains($probes::VARCHAR[], score.probe_id)
"""
# View leakage, added up by prompt, in the order of the cells: the same random numbers resample the same prompts. Equal
# labels are counted before they are taken apart.
_WENT = """
WITH asked AS (
    SELECT a.prompt_id, a.object, a.attribute, b.object AS other_object, b.noun AS other
    FROM binding a JOIN binding b ON b.prompt_id = a.prompt_id AND b.object <> a.object AND b.attribute <> a.attribute
), pair AS (
    SELECT own.prompt_id, own.prompt_group, own.target AS object, own.label AS object_shown,
        theirs.target AS other_object, theirs.label AS other_shown,
        min(own.tier) AS tier, min(own.place) AS first, count(*) AS n
    FROM seen own
    JOIN seen theirs ON theirs.place = own.place AND theirs.seed = own.seed AND theirs.probe_id = own.probe_id
        AND theirs.target <> own.target
    GROUP BY ALL
), told AS (
    SELECT pair.*, asked.attribute, asked.other,
        list_contains(string_split(pair.object_shown, '|'), asked.attribute) AS kept,
        list_contains(string_split(pair.other_shown, '|'), asked.attribute) AS leaked
    FROM pair JOIN asked USING (prompt_id, object, other_object)
)
SELECT attribute, other, prompt_group, min(tier) AS tier, sum(n)::BIGINT AS n, min(first) AS first,
    CASE WHEN kept AND leaked THEN 'both' WHEN kept THEN 'own' WHEN leaked THEN 'other' ELSE 'nowhere' END AS went
FROM told GROUP BY ALL ORDER BY first, attribute, other, went
"""
_SHOWN = """
WITH told AS (SELECT label, prompt_id, count(*) AS n FROM seen GROUP BY ALL)
SELECT told.label, coalesce(claims.asked, []) AS asked, sum(told.n)::BIGINT AS n FROM told
LEFT JOIN (
    SELECT prompt_id, list(attribute ORDER BY position) AS asked FROM binding WHERE attribute IS NOT NULL
    GROUP BY prompt_id
) claims USING (prompt_id)
GROUP BY ALL ORDER BY ALL
"""


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
        shares, told, weight = dict.fromkeys(WENT, 0), 0.0, 0
        for one in part:
            n, leaked = int(one["n"]), one["went"] in ("both", "other")
            pair = groups.setdefault(one["prompt_group"], [0, 0])
            pair[0] += n * leaked
            pair[1] += n
            shares[one["went"]] += n
            if one["attribute"] in chance:
                told += n * chance[one["attribute"]]
                weight += n
        hits, counts = zip(*groups.values(), strict=True)
        n = sum(counts)
        interval = interval_of_rates(hits, counts, rng=rng, weigh="images")
        row: dict[str, Any] = {"attribute": None, "other": None, **dict(zip(keys, names, strict=True))}
        row |= {"n": n, "n_prompts": len(groups), "tier": part[0]["tier"]}
        row |= {("elsewhere" if went == "other" else went): shares[went] / n for went in WENT}
        row |= {"leaked": interval.estimate, "low": interval.low, "high": interval.high}
        out.append(row | {"expected": told / weight if weight else None})
    frame = pd.DataFrame(out, columns=list(COLUMNS))
    return frame.sort_values("leaked", ascending=False, kind="stable", ignore_index=True)


def _chance(seen: pd.DataFrame) -> dict[str, float]:
    """By colour: how often a thing shows it where the prompt asks for it nowhere."""
    rows = [
        (set(label.split("|")), set(asked), int(n))
        for label, asked, n in zip(seen["label"], seen["asked"], seen["n"], strict=True)
    ]
    out = {}
    for colour in {colour for shown, asked, _ in rows for colour in shown | asked}:
        free = sum(n for _, asked, n in rows if colour not in asked)
        if free:
            out[colour] = sum(n for shown, asked, n in rows if colour in shown and colour not in asked) / free
    return out
