"""The leakage matrix: planted faults come out where they were put, and people's annotations pass the same way."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

import promptlab
from places import BENCHMARKS
from promptlab.analyzer.judges.outcomes import Judgement, read_annotations
from promptlab.exchange.ratings import import_ratings
from promptlab.records import Binding, Cell, Image, Prompt, Score, Settings
from promptlab.results import tables
from promptlab.store import Store
from promptlab.study.prompt_lists import read_list

GENEVAL = BENCHMARKS / "geneval"

SEEN = {  # colours seen on cup and chair, of "a red cup and a blue chair"
    0: ("red", "blue"),  # own, own
    1: ("blue", "red"),  # other, other
    2: ("red", "red"),  # both, nowhere
    3: ("green", "blue"),  # nowhere, own
    4: ("red|blue", "blue"),  # own, both
    5: (None, "blue"),  # no cup: not counted
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("leakage"))
    bindings = (Binding("first", "cup", "red", "colour"), Binding("second", "chair", "blue", "colour"))
    cell = Cell("planted", (("text", "a"),), Prompt("a red cup and a blue chair", (), bindings), Settings(), "family")
    free = (Binding("only", "cup", "green", "colour"),)
    alone = Cell("planted", (("text", "b"),), Prompt("a green cup", (), free), Settings(), "other family")
    with store.open_run("planted") as run:
        run.plan([cell, alone], list(SEEN), lambda _: "T0")
        for seed, shown in SEEN.items():
            run.add(Image(cell.image_id(seed), cell.recipe(seed)), Image(alone.image_id(seed), alone.recipe(seed)))
            run.add(
                *(
                    Score(cell.image_id(seed), "binding", "binding-1-x", "colour", target, 1.0, label)
                    if label
                    else Score(
                        cell.image_id(seed), "binding", "binding-1-x", "colour", target, reason="no cup was found"
                    )
                    for target, label in zip(("first", "second"), shown, strict=True)
                )
            )
            # a thing that nobody asked to be red or blue is red in 2 of 6 pictures, blue in none
            run.add(
                Score(
                    alone.image_id(seed),
                    "binding",
                    "binding-1-x",
                    "colour",
                    "only",
                    1.0,
                    "red" if seed < 2 else "green",
                )
            )
    store.publish()
    return store


def test_where_planted_colours_went(planted: Store) -> None:
    found = promptlab.load("planted", planted.home.path).leakage("pair").set_index("attribute")
    red, blue = found.loc["red"], found.loc["blue"]
    assert [red[k] for k in ("n", "own", "elsewhere", "both", "nowhere")] == pytest.approx([5, 0.4, 0.2, 0.2, 0.2])
    assert [blue[k] for k in ("n", "own", "elsewhere", "both", "nowhere")] == pytest.approx([5, 0.4, 0.2, 0.2, 0.2])
    assert red["leaked"] == pytest.approx(0.4) and red["low"] < 0.4 < red["high"]
    assert red["expected"] == pytest.approx(2 / 6) and blue["expected"] == 0
    assert red["other"] == "chair" and red["tier"] == "T0" and red["n_prompts"] == 1


def test_shares_of_a_row_are_all_there_is(planted: Store) -> None:
    for by in ("attribute", "other", "pair", None):
        found = promptlab.load("planted", planted.home.path).leakage(by)  # type: ignore[arg-type]
        assert found[["own", "both", "elsewhere", "nowhere"]].sum(axis=1).tolist() == pytest.approx([1.0] * len(found))
        assert found["n"].sum() == 10
    assert not len(promptlab.load("planted", planted.home.path).leakage(probe="human"))


def by_hand(pictures: dict[tuple[int, int], list[Judgement]], asked: dict[int, dict[str, str]]) -> Counter[str]:
    """Where the colours of GenEval's attribute prompts went, straight from the raters' answers."""
    went: Counter[str] = Counter()
    for (prompt, _), judgements in pictures.items():
        colours = asked.get(prompt, {})
        if len(colours) != 2 or len(set(colours.values())) != 2:
            continue
        shown = {}
        for k, noun in enumerate(judgements[0].nouns):
            there = [one.seen[k].count != 0 for one in judgements if one.seen[k].count is not None]
            votes = Counter(c for one in judgements for c in one.seen[k].colours)
            if 2 * sum(there) > len(there) and votes:
                shown[noun] = {c for c, n in votes.items() if n == max(votes.values())}
                # only a picture on which a majority agrees whether the colour is right carries a label
                said = [colours[noun] in one.seen[k].colours for one in judgements if one.seen[k].colours]
                if sum(said) * 2 == len(said):
                    del shown[noun]
        if len(shown) < 2:
            continue
        for noun, colour in colours.items():
            other = next(name for name in colours if name != noun)
            own, elsewhere = colour in shown[noun], colour in shown[other]
            went["both" if own and elsewhere else "own" if own else "other" if elsewhere else "nowhere"] += 1
    return went


@pytest.mark.skipif(not (GENEVAL / "annotations_sdv2.csv").is_file(), reason="GenEval's annotations are not here")
def test_the_human_table_of_geneval(tmp_path: Path) -> None:
    store = Store(tmp_path)
    files = GENEVAL / "annotations_sdv2.csv", GENEVAL / "evaluation_metadata.jsonl"
    import_ratings(*files, store, "humans")
    found = promptlab.load("humans", tmp_path)
    whole = found.leakage(None).iloc[0]
    pictures: dict[tuple[int, int], list[Judgement]] = defaultdict(list)
    for judgement in read_annotations(files[0]):
        pictures[judgement.prompt, judgement.image].append(judgement)
    asked = {
        i: {b.noun: b.attribute for b in item.prompt.bindings if b.kind == "colour" and b.attribute}
        for i, item in enumerate(read_list(files[1], "geneval"))
    }
    expected = by_hand(pictures, asked)
    n = sum(expected.values())
    assert whole["n"] == n > 40
    shares = [whole[k] for k in ("own", "both", "elsewhere", "nowhere")]
    assert shares == pytest.approx([expected[k] / n for k in ("own", "both", "other", "nowhere")])
    assert whole["low"] < whole["leaked"] < whole["high"] and 0 < whole["expected"] < 1
    rows = found.leakage("attribute")
    assert len(rows) > 5 and rows["n"].sum() == n and set(rows["tier"]) == {"T2"}
    outcomes = found.outcomes().set_index("outcome")
    assert outcomes.loc["neglect", "low"] < outcomes.loc["neglect", "share"] < outcomes.loc["neglect", "high"]


def test_pictures_of_a_leak(planted: Store) -> None:
    """Those that the view shows, the other alone first; any other object is as good as the one there is."""
    red = tables.leaked_pictures(planted, "planted", "red", "chair")
    assert red[["seed", "went", "other", "other_shown"]].to_numpy().tolist() == [
        [1, "other", "chair", "red"],
        [2, "both", "chair", "red"],
    ]
    assert red.equals(tables.leaked_pictures(planted, "planted", "red"))
    assert len(tables.leaked_pictures(planted, "planted", "red", most=1)) == 1
    assert not len(tables.leaked_pictures(planted, "planted", "red", "cup"))
    assert not len(tables.leaked_pictures(planted, "planted", "red", probe="human"))
