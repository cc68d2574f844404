"""Blind choices: kept, never asked twice, and set against measures by a count that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

from promptlab.exchange.ratings import Choice, agreement_with_measures, choices, next_pair, remember
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study

STUDY = """
name: rated
question: Which is better?
backend: renderer
prompt: {template: "{thing}", objects: {thing: {noun: cup, colour: "{colour}"}}}
axes: {colour: [red, blue], guidance_scale: [1, 5, 9]}
seeds: 2
probes: [exposure]
"""


def test_choices_are_kept_and_counted(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    run_study(parse_study(STUDY), store, RunOptions(passports_n=0))
    asked: set[tuple[str, str]] = set()
    spots: dict[tuple[str, int], int] = {}
    seed = store.query("SELECT id, seed FROM image").set_index("id")["seed"]
    while (pair := next_pair(store, "rated", choices(store.home, "rated"))) is not None:
        a, b, prompt = pair
        assert a < b and prompt in ("a red cup", "a blue cup") and (a, b) not in asked
        asked.add((a, b))
        spots[prompt, seed[a]] = spots.get((prompt, seed[a]), 0) + 1
        assert seed[a] == seed[b] and max(spots.values()) == (len(asked) + 3) // 4  # all four before one of them again
        remember(store.home, Choice("rated", a, b, ("a", "b", "tie")[len(asked) % 3]))  # type: ignore[arg-type]
    assert len(asked) == 2 * 2 * 3  # prompts x seeds x pairs of three guidances
    with (store.home.path / "ratings" / "blind.jsonl").open("a") as file:
        file.write('{"study": "rated", "ima')  # a crash
    made = choices(store.home, "rated")
    assert len(made) == 12 and choices(store.home, "other") == ()
    found = agreement_with_measures(store, "rated", made).set_index("measure")
    value = store.query("SELECT image, value FROM score WHERE measure = 'clipped_share'").set_index("image")["value"]
    hits = [
        (value[one.image_a] < value[one.image_b]) == (one.chosen == "a")  # less clipping is better
        for one in made
        if one.chosen != "tie" and value[one.image_a] != value[one.image_b]
    ]
    if hits:
        assert found.loc["clipped_share", "n"] == len(hits)
        assert found.loc["clipped_share", "agree"] == sum(hits) / len(hits)
    assert "mean_luma" not in found.index  # of which neither way is better
