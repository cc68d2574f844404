"""Which scores stand: those of the picture as it is, for the prompt that asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import driver
from promptlab.records import Binding, Score
from promptlab.store import Store
from stores import made


def test_two_prompts_may_ask_about_one_picture(home: Path) -> None:
    """Studies that share a picture and name its objects otherwise each see their own scores."""
    store = Store(home)
    (cell,) = driver.cells("tiny", 1)
    renamed = replace(cell, study="other", prompt=replace(cell.prompt, bindings=(Binding("mug", "cup", "red"),)))
    assert renamed.image_id(0) == cell.image_id(0) and renamed.prompt.id != cell.prompt.id
    with store.open_run("other") as run:
        run.plan([renamed], [0])
        for asked, target in ((cell, "cup"), (renamed, "mug")):
            run.add(Score(cell.image_id(0), "judge", "judge@1", "noun", target, 1.0, prompt=asked.prompt.id))
    store.publish()
    found = store.query("SELECT study, target, prompt_id FROM scored WHERE probe_id = 'judge@1' ORDER BY study")
    assert found.to_numpy().tolist() == [["other", "mug", renamed.prompt.id], ["tiny", "cup", cell.prompt.id]]
    assert store.query("SELECT count(*) AS n FROM prompt WHERE id = ?", [cell.prompt.id])["n"].tolist() == [1]


def test_scores_of_a_picture_made_anew_do_not_stand(home: Path) -> None:
    store = Store(home)
    (cell,) = driver.cells("tiny", 1)
    with store.open_run("tiny") as run:
        run.add(replace(made(store, cell, 0), pixels=store.images()[cell.image_id(0)].pixels))
        key = (driver.PROBE, cell.image_id(0), None)
        assert key in store.scores()
        run.add(made(store, cell, 0, value=1))
        assert key not in store.scores(driver.PROBE)
        run.add(Score(cell.image_id(0), "brightness", driver.PROBE, "brightness", value=1.0))
        assert key in store.scores(driver.PROBE)
    store.publish()
    values = store.query("SELECT value FROM score WHERE image = $id", {"id": cell.image_id(0)})
    assert values["value"].tolist() == [1.0]
