"""Prompts that others wrote: what is claimed for sure, what is not, and the published lists where they are at hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from places import BENCHMARKS, LISTS
from promptlab.errors import StudyError
from promptlab.records import Binding
from promptlab.study.grid import expand
from promptlab.study.prompt_lists import (
    COLOURS,
    RequestedObject,
    claim,
    format_of,
    read_claims,
    read_list,
    swap_partner,
    twins,
)
from promptlab.study.study import load_study, parse_study

STUDY = """\
name: listed
question: Do these prompts keep their colours?
prompt: {template: "{lead}{text}"}
axes:
  text: {prompts: LIST}
  lead: ["", "a sketch of "]
  guidance_scale: [1, 5]
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red cup and a blue chair", [("cup", "red"), ("chair", "blue")]),
        ("a photo of a green banana and an orange truck", [("banana", "green"), ("truck", "orange")]),
        ("A red apple and yellow bananas.", [("apple", "red"), ("bananas", "yellow")]),
        ("a blue bowl and a red orange", [("bowl", "blue"), ("orange", "red")]),
        (
            "a red cup, a blue chair and a gray fire hydrant",
            [("cup", "red"), ("chair", "blue"), ("fire hydrant", "gray")],
        ),
        ("a brown dining table", [("dining table", "brown")]),
        ("a cup and a blue chair", []),
        ("a black and white cat", []),
        ("two toilets, one blue and one orange", []),
        ("a blue bowl on a red table", []),
        ("a brown dog running", []),
        ("a green red apple", []),
        ("a white car and a red boat outside", []),
        ("an image of", []),
        ("", []),
    ],
)
def test_only_what_the_grammar_matches_is_claimed(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(thing.noun, thing.colour) for thing in read_claims(text)] == expected


def test_what_is_claimed_has_its_place_its_twin_and_its_controls() -> None:
    text = "A photo of a red cup and an orange chair, at night"
    prompt = claim(text, (RequestedObject("chair", "orange"), RequestedObject("cup", "red")))  # in the other order
    assert prompt.bindings == (Binding("first", "cup", "red"), Binding("second", "chair", "orange"))
    assert all(text[p.start : p.end] == p.text for p in prompt.phrases)
    assert [(p.name, p.text) for p in prompt.phrases] == [
        ("first", "a red cup"),
        ("first.colour", "red"),
        ("second", "an orange chair"),
        ("second.colour", "orange"),
    ]
    assert prompt.swapped == "A photo of an orange cup and a red chair, at night"
    assert prompt.alone == ("A photo of a red cup, at night", "A photo of an orange chair, at night")
    there_and_back = claim(prompt.swapped, (RequestedObject("cup", "orange"), RequestedObject("chair", "red")))
    assert there_and_back.swapped == text
    capital = claim("Red cup and blue box", read_claims("Red cup and blue box"))
    assert capital.swapped == "Blue cup and red box"


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("a photo of two cups", (RequestedObject("cup", None, (("count", "2"),)),)),
        ("a red cup beside a red cup", (RequestedObject("cup", "red"), RequestedObject("cup", "red"))),
        ("teacups", (RequestedObject("cup"),)),
    ],
)
def test_words_that_are_not_found_once_are_not_guessed(text: str, asked: tuple[RequestedObject, ...]) -> None:
    prompt = claim(text, asked)
    assert (prompt.phrases, prompt.alone, prompt.swapped) == ((), (), None)
    assert [binding.noun for binding in prompt.bindings] == ["cup"] * len(asked)
    assert swap_partner(claim("a red cup and a red box", read_claims("a red cup and a red box"))) is None


def test_a_list_becomes_cells() -> None:
    study = parse_study(STUDY.replace("LIST", str(LISTS / "colours.txt")))
    cells = list(expand(study))
    assert len(cells) == 4 * 2 * 2
    sketch = next(c for c in cells if dict(c.levels)["lead"] and dict(c.levels)["text"] == "a red cup and a blue chair")
    assert sketch.prompt.text == "a sketch of a red cup and a blue chair"
    assert sketch.prompt.swapped == "a sketch of a blue cup and a red chair"
    assert sketch.prompt.alone == ("a sketch of a red cup", "a sketch of a blue chair")
    assert all(sketch.prompt.text[p.start : p.end] == p.text for p in sketch.prompt.phrases)
    assert not next(c for c in cells if "asleep" in c.prompt.text).prompt.bindings
    groups = {(dict(c.levels)["text"], dict(c.levels)["lead"]): c.group for c in cells}
    twin = [groups[text, ""] for text in ("a red cup and a blue chair", "a blue cup and a red chair")]
    assert twin[0] == twin[1] and len(set(groups.values())) == 6  # lead is a slot, so a family of its own
    assert twins(read_list(LISTS / "colours.txt", "lines")) == 2


def test_columns_of_a_list_are_levels(tmp_path: Path) -> None:
    text = STUDY.replace("{lead}", "").replace('  lead: ["", "a sketch of "]\n', "")
    (tmp_path / "x.yaml").write_text(text.replace("LIST", "m.jsonl, only: {tag: [color_attr, counting]}"))
    (tmp_path / "m.jsonl").write_bytes((LISTS / "metadata.jsonl").read_bytes())
    cells = list(expand(load_study(tmp_path / "x.yaml")))  # the path is beside the study, wherever one stands
    assert Counter(dict(c.levels)["tag"] for c in cells) == {"color_attr": 4, "counting": 2}
    counting = next(c for c in cells if dict(c.levels)["tag"] == "counting")
    assert counting.prompt.bindings == (Binding("first", "cup", "2", "count"),)
    (position,) = [i.prompt for i in read_list(LISTS / "metadata.jsonl", "geneval") if "left of" in i.prompt.text]
    assert [(b.noun, b.attribute, b.kind) for b in position.bindings] == [
        ("car", "left of dog", "position"),
        ("dog", None, "colour"),
    ]


def test_prompts_are_data(tmp_path: Path) -> None:
    odd = ["a {red} cup", "a cup, {{and}} a ; chair", "%s \\n <b>cup</b>", "  spaces around  ", "=1+1", "日本 🦄"]
    (tmp_path / "odd.txt").write_text("\n".join(odd), encoding="utf-8")
    text = STUDY.replace("{lead}", "").replace('  lead: ["", "a sketch of "]\n', "")
    (tmp_path / "x.yaml").write_text(text.replace("LIST", "odd.txt"))
    cells = list(expand(load_study(tmp_path / "x.yaml")))
    assert [cell.prompt.text for cell in cells[::2]] == [text.strip() for text in odd]


def test_a_list_is_found_in_the_place_for_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(STUDY.replace("LIST", "colours.txt"))
    with pytest.raises(
        StudyError, match=r"x.yaml:5:\d+: there is no colours.txt beside the study; set PROMPTLAB_BENCH"
    ):
        load_study(tmp_path / "x.yaml")
    monkeypatch.setenv("PROMPTLAB_BENCHMARKS", str(LISTS))
    assert len(list(expand(load_study(tmp_path / "x.yaml")))) == 16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("metadata.jsonl, only: {tag: colours}", "'colours' is no tag of the list; allowed: color_attr"),
        ("metadata.jsonl, only: {tags: x}", "'tags' is no column; allowed: tag; did you mean 'tag'"),
        ("metadata.jsonl, format: genval", "did you mean 'geneval'"),
        ("metadata.json", "did you mean 'metadata.jsonl'"),
        ("bad.jsonl", "bad.jsonl:2: no JSON"),
        ("empty.txt", "holds no prompt"),
        ("twice.txt", "stands twice"),
        ("latin.txt", "is not UTF-8"),
        ("odd.jsonl", "odd.jsonl:1: include must list"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(given: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_bytes((LISTS / "metadata.jsonl").read_bytes())
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{prompt: b}\n')
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "twice.txt").write_text("a cat\na cat\n")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "odd.jsonl").write_text(json.dumps({"prompt": "a", "include": [{"noun": "cup"}]}))
    (tmp_path / "x.yaml").write_text(STUDY.replace("LIST", given))
    with pytest.raises(StudyError, match=message):
        load_study(tmp_path / "x.yaml")


def benchmark(name: str) -> Path:
    path = BENCHMARKS / name
    if not path.exists():
        pytest.skip(f"{name} is not at {BENCHMARKS}")
    return path


def test_the_colour_list_of_t2i_compbench() -> None:
    """Counted again without the grammar: a prompt of two articles, two colours, two nouns, and its partner's line."""
    path = benchmark("t2i_compbench/color_val.txt")
    items = read_list(path, format_of(path))
    claimed = [item for item in items if item.prompt.bindings]
    assert (len(items), len(claimed), twins(items)) == (300, 238, 236)
    lines = {line.strip() for line in path.read_text("utf-8").splitlines()}
    pairs = 0
    for line in lines:
        words = line.split()
        at = [i for i, word in enumerate(words) if word in COLOURS and i + 1 < len(words) and words[i + 1] != "and"]
        if (
            "and" not in words
            or len(at) < 2
            or words[at[0]] == words[at[-1]]
            or any(w in words for w in ("with", "on"))
        ):
            continue
        i, j = at[0], (at[1] if words[at[1] - 1] != words[at[0]] else at[-1])
        words[i], words[j] = words[j], words[i]
        pairs += " ".join(words) in lines and all(len(part.split()) <= 4 for part in line.split(" and "))
    assert pairs == 236
    unpaired = {i.prompt.text for i in claimed if i.prompt.swapped not in lines}
    assert unpaired == {"a red stop sign and a white line", "a blue bird and a yellow canary"}


def test_the_prompts_of_geneval() -> None:
    path = benchmark("geneval/evaluation_metadata.jsonl")
    items = read_list(path, format_of(path))
    assert len(items) == 553
    tags = Counter(dict(item.columns)["tag"] for item in items)
    assert tags == {
        "position": 100,
        "color_attr": 100,
        "two_object": 99,
        "colors": 94,
        "single_object": 80,
        "counting": 80,
    }
    coloured = [item.prompt for item in items if dict(item.columns)["tag"] == "color_attr"]
    assert all(len(p.bindings) == 2 and p.swapped and len(p.alone) == 2 for p in coloured)
    # the grammar and the metadata agree wherever the grammar speaks
    for prompt in (item.prompt for item in items):
        read = claim(prompt.text, read_claims(prompt.text))
        assert read == prompt or not read.bindings
    assert sum(bool(read_claims(item.prompt.text)) for item in items) == 194
