"""Blind rating: which of two pictures at one seed fits the prompt better, prompt settings and scores hidden.

Choices go to a journal of their own, `ratings/blind.jsonl` of the home: one line a choice, fsynced, never rewritten. A
person's choice is set against what a measure says of the same two pictures:

    agree = share of choices in which the measure prefers the same picture; pairs that either calls equal are left out

Half is chance. The interval is Wilson's over choices: it speaks of these raters and these pictures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from promptlab.home import Home
from promptlab.stats import wilson

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["Choice", "agreement_with_measures", "choices", "next_pair", "remember"]


@dataclass(frozen=True)
class Choice:
    """One choice between two images of a study, by id: a, b, or tie."""

    study: str
    image_a: str
    image_b: str
    chosen: Literal["a", "b", "tie"]
    rater: str = ""
    at: str = ""


def remember(home: Home, choice: Choice) -> None:
    """Append a choice to the home's journal of ratings, safely on disk when this returns."""
    path = home.path / "ratings" / "blind.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    when = choice.at or datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({**asdict(choice), "at": when}, ensure_ascii=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def choices(home: Home, study: str) -> tuple[Choice, ...]:
    """All choices of a study, oldest first; a line that was cut off by a crash is left out."""
    path = home.path / "ratings" / "blind.jsonl"
    found = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            choice = Choice(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if choice.study == study and choice.chosen in ("a", "b", "tie"):
            found.append(choice)
    return tuple(found)


def next_pair(store: Store, study: str, done: Iterable[Choice]) -> tuple[str, str, str] | None:
    """Two images of one prompt at one seed that nobody rated yet, and their prompt: (image a, image b, prompt).

    They differ in settings alone, so the prompt can be shown. Which is a and which is b follows their ids: no order of
    levels is told. A prompt and seed of which fewest pairs are rated comes first, so that few choices reach over many
    prompts; among those, and among its pairs, by chance that is the same each time. None where every pair is rated.
    """
    rated = {(min(one.image_a, one.image_b), max(one.image_a, one.image_b)) for one in done}
    a, b = (list(side) for side in zip(*sorted(rated), strict=True)) if rated else ([], [])
    rows = store.query(_NEXT, {"study": study, "a": a, "b": b})
    return (str(rows["a"].iloc[0]), str(rows["b"].iloc[0]), str(rows["prompt"].iloc[0])) if len(rows) else None


_NEXT = """
WITH shown AS MATERIALIZED (
    SELECT DISTINCT cell.prompt, cell_image.seed, cell_image.image FROM cell
    JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
    JOIN image ON image.id = cell_image.image AND image.status = 'ok' AND image.file IS NOT NULL
    WHERE cell.study = $study AND cell.current
), rated AS (
    SELECT unnest($a::VARCHAR[]) AS a, unnest($b::VARCHAR[]) AS b
), spot AS (
    SELECT prompt, seed, count(*) * (count(*) - 1) // 2 AS pairs FROM shown GROUP BY ALL
), used AS (
    SELECT one.prompt, one.seed, count(*) AS pairs FROM rated
    JOIN shown one ON one.image = rated.a
    JOIN shown two ON two.image = rated.b AND two.prompt = one.prompt AND two.seed = one.seed GROUP BY ALL
), free AS (
    SELECT spot.prompt, spot.seed FROM spot LEFT JOIN used ON used.prompt = spot.prompt AND used.seed = spot.seed
    WHERE coalesce(used.pairs, 0) < spot.pairs
    ORDER BY coalesce(used.pairs, 0), md5(spot.prompt || spot.seed), spot.seed LIMIT 1
)
SELECT one.image AS a, two.image AS b, free.prompt FROM free
JOIN shown one ON one.prompt = free.prompt AND one.seed = free.seed
JOIN shown two ON two.prompt = free.prompt AND two.seed = free.seed AND one.image < two.image
ANTI JOIN rated ON rated.a = one.image AND rated.b = two.image
ORDER BY md5(one.image || two.image) LIMIT 1
"""


def agreement_with_measures(store: Store, study: str, made: Iterable[Choice]) -> pd.DataFrame:
    """How often each measure prefers the picture that people chose. Columns: measure, agree, low, high, n."""
    import pandas as pd

    said = [(one.image_a, one.image_b, one.chosen) for one in made if one.chosen != "tie"]
    out: list[dict[str, object]] = []
    if not said:
        return pd.DataFrame(out, columns=["measure", "agree", "low", "high", "n"])
    rows = store.query(
        """
        SELECT image, measure, avg(value) AS value, any_value(higher_is_better) AS better FROM scored
        WHERE study = ? AND status = 'ok' AND value IS NOT NULL AND higher_is_better IS NOT NULL
            AND image IN (SELECT unnest(?::VARCHAR[])) GROUP BY image, measure
        """,
        [study, sorted({image for a, b, _ in said for image in (a, b)})],
    )
    for measure, part in rows.groupby("measure"):
        value = dict(zip(part["image"], part["value"], strict=True))
        sign = 1 if bool(part["better"].iloc[0]) else -1
        hits = [
            (sign * (value[a] - value[b]) > 0) == (chosen == "a")
            for a, b, chosen in said
            if a in value and b in value and value[a] != value[b]
        ]
        if hits:
            low, high = wilson(sum(hits), len(hits))
            row = {"measure": measure, "agree": sum(hits) / len(hits), "low": low, "high": high, "n": len(hits)}
            out.append(row)
    return pd.DataFrame(out, columns=["measure", "agree", "low", "high", "n"])
