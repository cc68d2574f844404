"""What people saw: the rule from answers to outcomes, agreement against its definition, and ratings in the database."""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pytest

from elsewhere import picture, run, take_in
from places import BENCHMARKS, LISTS
from promptlab.analyzer.judges.outcomes import Seen, majority, outcome_seen, read_annotations
from promptlab.errors import PromptlabError
from promptlab.exchange.ratings import import_ratings
from promptlab.results import tables
from promptlab.stats.calibration import krippendorff_alpha
from promptlab.store import Store
from promptlab.study.prompt_lists import RequestedObject, requested_objects

GENEVAL = BENCHMARKS / "geneval"
ASKED = (RequestedObject("cup", "red"), RequestedObject("chair", "blue"))


def seen(*answers: str | None) -> tuple[Seen, ...]:
    """`red|white` is an object with these colours, `-` one that is not there, None no answer, "" no colour chosen."""
    return tuple(
        Seen(None) if a is None else Seen(0) if a == "-" else Seen(1, frozenset(filter(None, a.split("|"))))
        for a in answers
    )


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("red", "blue"), "correct"),
        (("red|blue", "blue|red"), "correct"),
        (("blue", "red"), "swap"),
        (("blue|white", "red"), "swap"),
        (("red|blue", "red"), "leak"),
        (("blue", "blue"), "leak"),
        (("red|blue", "green"), "leak"),
        (("green", "red"), "leak"),
        (("green", "blue"), "other"),
        (("green", "white"), "other"),
        (("-", "blue"), "neglect"),
        (("-", "-"), "neglect"),
        ((None, "blue"), None),
        (("red", ""), None),
        (("-", ""), "neglect"),
        ((None, "-"), None),
    ],
)
def test_the_rule(answers: tuple[str | None, ...], expected: str | None) -> None:
    assert outcome_seen(ASKED, seen(*answers)) == expected


def test_the_rule_for_objects_without_colours_and_for_one() -> None:
    bare = (RequestedObject("cup"), RequestedObject("chair", "blue"))
    assert outcome_seen(bare, seen("", "blue")) == "correct"
    assert outcome_seen(bare, seen("green", "red")) == "other"
    assert outcome_seen(ASKED[:1], seen("red")) == "correct"
    assert outcome_seen(ASKED[:1], seen("blue")) == "other"
    same = (RequestedObject("cup", "red"), RequestedObject("chair", "red"))
    assert outcome_seen(same, seen("red", "blue")) == "other"  # of one colour nothing can leak


def test_a_majority_is_more_than_half_of_those_who_answered() -> None:
    assert majority(["a", "a", "b", None]) == "a"
    assert majority(["a", "a", "b", "c"]) is None
    assert majority([True, False]) is None
    assert majority([None]) is None and majority([]) is None


def by_definition(units: Sequence[Sequence[Hashable | None]]) -> float:
    """Alpha by counting ordered pairs, as the definition has it."""
    rated = [[v for v in unit if v is not None] for unit in units]
    rated = [unit for unit in rated if len(unit) > 1]
    everything = [v for unit in rated for v in unit]
    n = len(everything)
    observed = sum(sum(a != b for a, b in itertools.permutations(u, 2)) / (len(u) - 1) for u in rated) / n
    expected = sum(a != b for a, b in itertools.permutations(everything, 2)) / (n * (n - 1))
    return 1 - observed / expected


def alpha(units: Sequence[Sequence[Hashable | None]], seed: int = 0) -> float:
    found = krippendorff_alpha(units, rng=np.random.default_rng(seed)).alpha
    assert found is not None
    return found


def test_alpha_of_krippendorffs_own_example() -> None:
    """Krippendorff 2011, section C: nominal data, four observers, twelve units, missing data; alpha = 0.743."""
    observers = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    columns = zip(*(row.split() for row in observers), strict=True)
    assert alpha([[None if v == "." else v for v in unit] for unit in columns]) == pytest.approx(0.743, abs=5e-4)


def test_alpha_and_fleiss_kappa() -> None:
    """Ten subjects, fourteen raters, five categories: the worked example of Fleiss' kappa, 0.210."""
    table = """0 0 0 0 14  0 2 6 4 2  0 0 3 5 6  0 3 9 2 0  2 2 8 1 1
               7 7 0 0 0  3 2 6 3 0  2 5 3 2 2  6 5 2 1 0  0 2 2 3 7"""
    counts = np.array(table.split(), int).reshape(10, 5)
    kappa = 0.20993070442195522
    units = [[c for c in range(5) for _ in range(row[c])] for row in counts]
    assert alpha(units) == pytest.approx(kappa + (1 - kappa) / 140, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = [[None if rng.random() < 0.3 else int(rng.integers(3)) for _ in range(4)] for _ in range(30)]
    assert alpha(units) == pytest.approx(by_definition(units), abs=1e-12)
    found = krippendorff_alpha(units, [i // 3 for i in range(30)], rng=np.random.default_rng(seed))
    assert found.low is not None and found.high is not None and found.low < found.alpha < found.high  # type: ignore[operator]
    sizes = [sum(value is not None for value in unit) for unit in units]
    assert (found.n_groups, found.n_ratings) == (10, sum(size for size in sizes if size > 1))


def test_what_alpha_cannot_say_is_none() -> None:
    rng = np.random.default_rng(0)
    same = krippendorff_alpha([["a", "a"], ["a", "a"]], rng=rng)
    assert (same.alpha, same.observed) == (None, 1.0) and "chance" in str(same.reason)
    assert krippendorff_alpha([["a", None], []], rng=rng).reason == "no unit has two ratings"
    one = krippendorff_alpha([["a", "b"], ["a", "a"]], ["x", "x"], rng=rng)
    assert one.alpha is not None and one.low is None and "one group" in str(one.reason)
    with pytest.raises(ValueError, match="every unit needs its group"):
        krippendorff_alpha([["a", "b"]], [], rng=rng)


ROW = {
    **{"Input.prompt_id": "0", "Input.image_id": "0", "Input.image_url": "https://x.example/00000/samples/00000.png"},
    **{"Input.caption": "a photo of a red cup and a blue chair", "Input.object_0_name": "cup"},
    **{"Input.object_1_name": "chair", "Answer.task-quality": "4"},
    **{"Answer.task-count-0": "1", "Answer.task-count-1": "1.0", "Answer.task-color-0": "red"},
    **{"Answer.task-color-1": "blue", "Answer.task-real-0": "3.0", "Answer.task-real-1": ""},
}
LEAK = {**ROW, "Answer.task-color-1": "red|blue", "Answer.task-color-0": "green"}
GONE = {
    **ROW,
    "Answer.task-count-1": "0.0",
}  # the colour stands in the file though the rater no longer saw the question


def annotations(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(rows)
    return path


METADATA = LISTS / "metadata.jsonl"


def test_ratings_become_scores_beside_those_of_probes(tmp_path: Path) -> None:
    second = {"Input.image_id": "1"}
    rows = [ROW, ROW, GONE, *({**row, **second} for row in (ROW, LEAK, GONE))]
    store = Store(tmp_path / "home")
    done = import_ratings(annotations(tmp_path / "a.csv", *rows), METADATA, store, "people", model="m")
    assert (done.pictures, done.judgements) == (2, 6)
    assert done.outcomes == {"color_attr": Counter(correct=3, neglect=2, leak=1)}
    scores = store.query("SELECT seed, measure, target, value, label, reason FROM scored WHERE study = 'people'")
    told = {(r["seed"], r["measure"], r["target"]): r for r in scores.to_dict("records")}
    assert (told[0, "correct", ""]["value"], told[0, "correct", ""]["label"]) == (1, "correct")
    assert told[0, "noun", "second"]["value"] == 1 and told[0, "colour", "second"]["label"] == "blue"
    divided = told[1, "correct", ""]
    assert divided["value"] is None or np.isnan(divided["value"])
    assert divided["reason"] == "no outcome has more than half of the raters: 1 correct, 1 leak, 1 neglect"
    assert told[0, "fused", ""]["reason"] == "the raters were not asked"
    assert scores[scores["measure"] == "judgement"].groupby("seed")["value"].sum().to_dict() == {0: 2, 1: 1}
    shares = tables.outcome_shares(store, "people").set_index("outcome")
    assert shares.loc["correct", "share"] == 1 and set(shares["n"]) == {1} and shares["tier"].iloc[0] == "T2"
    assert store.query("SELECT count(*) AS n FROM outcomes WHERE outcome IS NOT NULL")["n"].tolist() == [1]
    raters = store.query("SELECT detail ->> 'outcome' AS o FROM score WHERE measure = 'judgement'")["o"]
    assert Counter(raters) == {"correct": 3, "neglect": 2, "leak": 1}
    assert store.query("SELECT count(*) AS n FROM fact WHERE name = 'agreement.color_attr.alpha'")["n"].tolist() == [1]
    assert not [finding for finding in store.doctor() if not finding.harmless]


def test_ratings_go_to_the_pictures_where_they_are_here(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "00000"
    for i in range(2):
        picture(folder / "samples" / f"{i:05}.png", i)
    (folder / "metadata.jsonl").write_text(METADATA.read_text("utf-8").splitlines()[0])
    study = take_in(tmp_path / "made", tmp_path, model="m").study
    run(study, tmp_path)
    store, file = Store(tmp_path / "home"), annotations(tmp_path / "a.csv", ROW, {**LEAK, "Input.image_id": "1"})
    assert import_ratings(file, METADATA, store, "ignored", study=study).study == "taken"
    joined = store.query(
        "SELECT seed, max(value) FILTER (measure = 'correct') AS correct, "
        "count(*) FILTER (measure = 'mean_luma') AS lit FROM scored WHERE study = 'taken' GROUP BY seed ORDER BY seed"
    )
    assert joined.to_numpy().tolist() == [[0, 1, 1], [1, 0, 1]]
    assert tables.outcome_shares(store, "taken", probe="human")["n"].max() == 2
    assert tables.outcome_shares(store, "taken", probe="binding")["n"].sum() == 0
    assert not run(study, tmp_path).made
    with pytest.raises(PromptlabError, match="'taken' is a study with a file of its own"):
        import_ratings(file, METADATA, store, "taken")
    with pytest.raises(PromptlabError, match="has no picture 7"):
        import_ratings(
            annotations(tmp_path / "b.csv", {**ROW, "Input.image_id": "7"}), METADATA, store, "x", study=study
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Answer.task-count-0": "many"}, r"a.csv:2: Answer.task-count-0 is 'many'"),
        ({"Answer.task-quality": "5"}, "a whole number up to 4"),
        ({"Input.caption": "a photo of a dog"}, "is not so in the list"),
        ({"Input.prompt_id": "99"}, "is not so in the list"),
        ({"Input.object_0_name": "mug"}, "was rated for"),
        ({"Input.image_id": ""}, "image_id are needed"),
    ],
)
def test_annotations_that_cannot_be_used(change: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(PromptlabError, match=message):
        import_ratings(annotations(tmp_path / "a.csv", {**ROW, **change}), METADATA, Store(tmp_path / "home"), "x")
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(PromptlabError, match=r"no column Input\.prompt_id"):
        read_annotations(tmp_path / "b.csv")


def test_the_annotations_of_geneval(tmp_path: Path) -> None:
    """260 colour-attribution judgements, counted here a second time with sets alone."""
    path = GENEVAL / "annotations_sdv2.csv"
    if not path.exists():
        pytest.skip(f"no annotations at {GENEVAL}")
    metadata = GENEVAL / "evaluation_metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text("utf-8").splitlines()]
    counted: Counter[str] = Counter()
    both_foreign = clean = 0
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row = rows[int(line["Input.prompt_id"])]
            if row["tag"] != "color_attr":
                continue
            asked = [thing["color"] for thing in row["include"]]
            got = [set(line[f"Answer.task-color-{k}"].split("|")) for k in (0, 1)]
            own, foreign = [asked[k] in got[k] for k in (0, 1)], [asked[1 - k] in got[k] for k in (0, 1)]
            if "0" in (line["Answer.task-count-0"], line["Answer.task-count-1"][:1]):
                counted["neglect"] += 1
            elif own == [True, True]:
                counted["correct"] += 1
                clean += not any(foreign)
            else:
                both_foreign += all(foreign)
                name = "swap" if own == [False, False] and all(foreign) else "leak" if any(foreign) else "other"
                counted[name] += 1
    store = Store(tmp_path / "home")
    done = import_ratings(path, metadata, store, "people", model="sd2")
    assert (done.pictures, done.judgements) == (400, 2000)
    assert done.outcomes["color_attr"] == counted == Counter(neglect=90, correct=79, leak=49, other=41, swap=1)
    assert (both_foreign, clean) == (6, 35)
    agreement = done.agreement["color_attr"]
    assert (agreement.n_units, agreement.n_groups) == (52, 13) and agreement.alpha == pytest.approx(0.4075, abs=1e-4)
    pictures: dict[tuple[int, int], list[str | None]] = {}
    for j in read_annotations(path):
        if rows[j.prompt]["tag"] == "color_attr":
            pictures.setdefault((j.prompt, j.image), []).append(
                outcome_seen(requested_objects(rows[j.prompt], ""), j.seen)
            )
    said = list(pictures.values())
    assert by_definition(said) == pytest.approx(agreement.alpha)
    shares = tables.outcome_shares(store, "people", by="tag")
    coloured = shares[shares["level"] == "color_attr"].set_index("outcome")
    assert coloured.loc["correct", "n"] == 45 and coloured.loc["correct", "n_prompts"] == 13
