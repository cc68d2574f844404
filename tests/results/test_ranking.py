"""Rankings of wordings: those of one prompt alone, and the best picture of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.results.tables import ranking
from promptlab.store import Store


def test_the_wordings_of_one_prompt_alone(shown: Path) -> None:
    store = Store(shown)
    cells = store.query("SELECT prompt_group, prompt FROM cell WHERE study = 'drawn'")
    group = cells["prompt_group"].iloc[0]
    own = set(cells[cells["prompt_group"] == group]["prompt"])
    found = ranking(store, "drawn", "accuracy", None, group=group)
    assert set(found["level"]) <= own and len(found) > 1
    assert len(ranking(store, "drawn", "accuracy", None)) > len(found)


@pytest.mark.parametrize("measure", ["accuracy", "colour", "clipped_share"])
@pytest.mark.parametrize("axis", ["assignment", "guidance_scale", None])
def test_the_best_picture_of_a_wording_is_that_of_pandas(shown: Path, measure: str, axis: str | None) -> None:
    """By the mean of its targets; of equal ones the first of the plan. Less is better of clipped_share."""
    store = Store(shown)
    rows = store.query(
        """
        SELECT scored.image, scored.prompt, scored.levels, scored.seed, cell.position, scored.value FROM scored
        JOIN cell ON cell.study = scored.study AND cell.id = scored.cell_id
        WHERE scored.study = 'drawn' AND measure = ? AND value IS NOT NULL
        """,
        [measure],
    )
    rows["level"] = rows["prompt"] if axis is None else [levels[axis] for levels in rows["levels"]]
    of_each = rows.groupby(["level", "image", "position", "seed"], as_index=False)["value"].mean()
    best = of_each.sort_values(["value", "position", "seed"], ascending=[measure == "clipped_share", True, True])
    found = ranking(store, "drawn", measure, axis)
    assert len(found) > 1
    assert dict(zip(found["level"], found["best_image"], strict=True)) == dict(
        best.groupby("level")["image"].first().items()
    )
