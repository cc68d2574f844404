"""Axes: exact levels in exact order, counts without enumeration, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import TypeAdapter, ValidationError
from typing_extensions import override

from places import LISTS
from promptlab.errors import StudyError
from promptlab.miniature.tokenizer import write_tokenizer
from promptlab.records import Level
from promptlab.study import axes
from promptlab.study.axes import AnyAxis
from promptlab.study.axes.axis import KINDS, Axis, Column, Levels, Point, Reference, register
from promptlab.study.grid import axis_columns, expand
from promptlab.study.prompts import Draft, PromptSpec, render
from promptlab.study.strict_yaml import Mistake, Record
from promptlab.study.study import parse_study
from promptlab.study.tokens import Tokens, open_tokens

READ: TypeAdapter[Any] = TypeAdapter(AnyAxis)
SPEC = PromptSpec.model_validate(
    {
        "template": "{lead}, {first} and {second}, {tail}",
        "objects": {"first": {"noun": "cup", "colour": "red"}, "second": {"noun": "chair", "colour": "blue"}},
        "phrases": {"lead": "at night", "tail": "glossy"},
    }
)
EXAMPLES: dict[str, Any] = {
    "values": ["red", "green"],
    "range": {"range": {"start": 0, "stop": 2, "step": 1}},
    "zip": {"zip": [{"noun": "cup", "colour": "red"}, {"noun": "car", "colour": "blue"}]},
    "order": {"order": ["first", "second"]},
    "position": {"position": {"of": "tail", "among": ["lead", "first", "second", "tail"]}},
    "paraphrase": {"paraphrase": ["a photo of", "a picture of"]},
    "ladder": {"ladder": ["shiny", "on a table"], "control": True},
    "tokens": {"tokens": {"to": [40, 100], "needle": "second", "at": [20, 30]}},
    "swap": {"swap": ["first", "second"]},
    "alone": {"alone": ["first", "second"]},
    "prompts": {"prompts": str(LISTS / "colours.txt")},
}


def axis(given: Any) -> Axis:
    read = READ.validate_python(given)
    assert isinstance(read, Axis)
    return read


def levels(given: Any, name: str = "x") -> list[Level]:
    return [point[0][1] for point in axis(given).levels(name)]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(Path(path))
    return open_tokens(path)


def test_every_kind_has_an_example() -> None:
    assert set(EXAMPLES) == set(KINDS)
    folder = Path(axes.__file__).parent
    assert set(KINDS) == {file.stem for file in folder.glob("*.py")} - {"__init__", "axis"}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_laws(kind: str) -> None:
    it = axis(EXAMPLES[kind])
    levels = it.levels("x")
    points = list(levels)
    assert it.kind == kind
    assert levels.count == len(points) == len(set(points))
    assert levels.column_names[0] == "x" and levels.columns[0].part == "level"
    assert all(tuple(column for column, _ in point) == levels.column_names for point in points)
    assert set(levels.slots) <= set(levels.column_names)
    assert all(isinstance(it.route(i), tuple) for i in range(levels.count))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_levels_are_pure(kind: str, tokens: Tokens) -> None:
    """They are the same however often they are made, on another axis of the same text, and after they are applied."""
    it, other = axis(EXAMPLES[kind]), axis(EXAMPLES[kind])
    levels, before = it.levels("x"), dict(it.__dict__)
    points = list(levels)
    assert points == list(levels) == list(other.levels("x"))
    for point in points:
        it.references(SPEC)
        it.apply(point, Draft(fills={"x": ""}), SPEC, tokens)
    again = it.levels("x")
    assert (points, levels.columns, levels.count, levels.names) == (
        list(again),
        again.columns,
        again.count,
        again.names,
    )
    assert {name: it.__dict__[name] for name in before} == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"start": 0, "stop": 1, "step": 0.1}, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ({"start": 1, "stop": 8, "step": 3}, [1, 4, 7]),
        ({"start": 8, "stop": 1, "step": -3.5}, [8, 4.5, 1]),
        ({"start": 0, "stop": 1, "num": 5}, [0, 0.25, 0.5, 0.75, 1]),
        ({"start": 10, "stop": 30, "num": 3}, [10, 20, 30]),
        ({"start": 5, "stop": 5, "step": 1}, [5]),
    ],
)
def test_ranges_are_exact(given: dict[str, float], expected: list[float]) -> None:
    assert levels({"range": given}) == expected


def test_whole_numbers_stay_whole_and_guidance_is_one_number() -> None:
    assert [type(v) for v in levels({"range": {"start": 10, "stop": 30, "num": 3}}, "num_inference_steps")] == [int] * 3
    assert [repr(v) for v in levels([1, 5.0, 7.5], "guidance_scale")] == ["1.0", "5.0", "7.5"]


def test_counting_never_enumerates() -> None:
    assert axis({"range": {"start": 0, "stop": 10**9, "step": 0.001}}).levels("x").count == 10**12 + 1
    assert axis({"range": {"start": 0, "stop": 1, "num": 10**9}}).levels("x").count == 10**9
    assert axis({"order": [f"p{i}" for i in range(12)]}).levels("x").count == 479001600


def test_zip_by_rows_and_by_columns() -> None:
    by_rows = axis({"zip": [{"noun": "cup", "colour": "red"}, {"colour": "blue", "noun": "car"}]})
    by_columns = axis({"zip": {"noun": ["cup", "car"], "colour": ["red", "blue"]}})
    expected = [
        (("pair", "cup, red"), ("noun", "cup"), ("colour", "red")),
        (("pair", "car, blue"), ("noun", "car"), ("colour", "blue")),
    ]
    assert list(by_rows.levels("pair")) == list(by_columns.levels("pair")) == expected


def texts(given: Any, tokens: Tokens | None = None, spec: PromptSpec = SPEC, name: str = "x") -> list[str]:
    it, found = axis(given), []
    for point in it.levels(name):
        draft = Draft()
        it.apply(point, draft, spec, tokens)
        found.append(render(spec, draft).text)
    return found


def test_word_order() -> None:
    assert levels(EXAMPLES["order"]) == ["first, second", "second, first"]
    assert levels({"order": ["a", "b", "c"]}) == ["a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a"]
    assert texts(EXAMPLES["order"]) == [
        "at night, a red cup and a blue chair, glossy",
        "at night, a blue chair and a red cup, glossy",
    ]
    # The level says who is mentioned first, whatever the order in which the axis lists them.
    assert texts({"order": ["second", "first"]})[0] == "at night, a blue chair and a red cup, glossy"


def test_position() -> None:
    assert levels(EXAMPLES["position"]) == [1, 2, 3, 4]
    assert texts(EXAMPLES["position"]) == [
        "glossy, at night and a red cup, a blue chair",
        "at night, glossy and a red cup, a blue chair",
        "at night, a red cup and glossy, a blue chair",
        "at night, a red cup and a blue chair, glossy",
    ]
    assert levels({"position": {"of": "a", "among": ["a", "b", "c"], "at": [3, 1]}}) == [3, 1]


def test_ladder_beside_filler_of_the_same_length(tokens: Tokens) -> None:
    spec = PromptSpec(template="a cup, {x}")
    it = axis({"ladder": ["shiny", "on a table"]})
    assert levels({"ladder": ["shiny", "on a table"]}) == [0, 1, 2]
    assert texts({"ladder": ["shiny", "on a table"]}, spec=spec) == [
        "a cup",
        "a cup, shiny",
        "a cup, shiny, on a table",
    ]
    assert not it.counts_tokens
    words = texts(EXAMPLES["ladder"], spec=spec)
    assert words[:3] == ["a cup", "a cup", "a cup, shiny"]
    assert [len(text.split()) for text in words] == [2, 2, 3, 3, 6, 6]
    exact = {**EXAMPLES["ladder"], "match": "tokens"}
    assert axis(exact).counts_tokens
    lengths = [tokens.length(text) for text in texts(exact, tokens, spec)]
    assert lengths[::2] == lengths[1::2]
    with pytest.raises(Mistake, match="tokenizer is not at hand"):
        texts(exact, None, spec)
    with pytest.raises(Mistake, match="these phrases cannot make 1 word"):
        texts({**EXAMPLES["ladder"], "filler": "two words"}, None, spec)


def test_token_length_and_needle_are_exact(tokens: Tokens) -> None:
    it = axis(EXAMPLES["tokens"])
    assert it.last
    assert it.levels("length").column_names == ("length", "length_at")
    assert [tuple(level for _, level in p) for p in it.levels("x")] == [(40, 20), (40, 30), (100, 20), (100, 30)]
    for point in it.levels("x"):
        draft = Draft()
        it.apply(point, draft, SPEC, tokens)
        prompt = render(SPEC, draft)
        spans = tokens.spans(prompt)
        assert spans.total == point[0][1]
        assert next(p.first for p in spans.phrases if p.name == "second") == point[1][1]
        assert {p.role for p in prompt.phrases if p.name.startswith("x.")} == {"filler"}
        assert prompt.swapped is not None


@pytest.mark.parametrize("to", range(3, 40))
def test_every_length_can_be_made(to: int, tokens: Tokens) -> None:
    (text,) = texts({"tokens": {"to": to}}, tokens, PromptSpec(template="cup"))
    assert tokens.length(text) + 2 == to


def test_the_text_of_padding(tokens: Tokens) -> None:
    spec = PromptSpec.model_validate({"template": "{thing}", "objects": {"thing": {"noun": "cup", "colour": "red"}}})
    assert texts({"tokens": {"to": [5, 6, 16]}}, tokens, spec) == [
        "a red cup",
        "a red cup lovely",
        "a red cup, made with great care, part of a long series",
    ]
    given = {"tokens": {"to": 13, "needle": "thing", "at": 6, "filler": "made with great care, nice, so nice"}}
    assert texts(given, tokens, spec) == ["made with great care, a red cup, so nice"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"to": 5}, "allowed: at least 14, which this prompt needs"),
        ({"to": 40, "needle": "second", "at": 3}, "allowed: at least 8, where it stands without filler"),
        ({"to": 40, "needle": "second", "at": 39}, "given 40 tokens; allowed: at least"),
        ({"to": 40, "filler": "only of four words"}, "these phrases cannot make"),
    ],
)
def test_lengths_that_cannot_be(given: dict[str, Any], message: str, tokens: Tokens) -> None:
    with pytest.raises(Mistake, match=message):
        texts({"tokens": given}, tokens)


def test_paraphrases_fill_their_slot_and_stay_in_the_family() -> None:
    spec = PromptSpec.model_validate({**SPEC.model_dump(mode="json"), "template": "{x} {first} and {second}"})
    said = texts(EXAMPLES["paraphrase"], spec=spec)
    assert said == [f"{lead} a red cup and a blue chair" for lead in ("a photo of", "a picture of")]
    assert axis(EXAMPLES["paraphrase"]).manipulates


def test_swap_and_alone() -> None:
    assert levels(EXAMPLES["swap"]) == ["as_written", "swapped"]
    assert texts(EXAMPLES["swap"])[1] == "at night, a blue cup and a red chair, glossy"
    assert levels(EXAMPLES["alone"]) == ["together", "first", "second"]
    assert texts(EXAMPLES["alone"])[1:] == ["at night, a red cup, glossy", "at night, a blue chair, glossy"]


@pytest.mark.parametrize(
    "given",
    [
        5,
        "red",
        None,
        [],
        {},
        {"rnage": {}},
        {"order": ["a", "b"], "swap": ["a", "b"]},
        {"order": ["a"]},
        {"order": ["a"] * 13},
        {"range": {"start": 0, "stop": 1}},
        {"range": {"start": 0, "stop": 1, "step": 1, "num": 2}},
        {"range": {"start": 0, "stop": 1, "step": 0}},
        {"range": {"start": 0, "stop": 1, "step": -1}},
        {"range": {"start": 0, "stop": "1", "step": 1}},
        {"range": {"start": 0, "stop": 1, "num": 1}},
        {"range": {"start": 1, "stop": 1, "num": 5}},
        {"range": {"start": True, "stop": 1, "num": 5}},
        {"zip": []},
        {"zip": {}},
        {"zip": {"a": [1], "b": [1, 2]}},
        {"zip": [{"a": 1}, {"b": 1}]},
        {"zip": [{"a": 1, "b": 1}, {"b": 1}]},
        {"zip": 5},
        {"position": {"of": "a"}},
        {"position": {"of": "a", "among": ["a", "b"], "at": [0]}},
        {"position": {"of": "a", "among": ["a", "b"], "at": [3]}},
        {"paraphrase": ["a photo of"]},
        {"paraphrase": ["a photo of", " "]},
        {"ladder": []},
        {"ladder": [""]},
        {"ladder": ["a"], "control": "yes"},
        {"ladder": ["a"], "match": "letters"},
        {"tokens": {"to": 0}},
        {"tokens": {"to": 77.5}},
        {"tokens": {"to": []}},
        {"swap": ["a", "b", "c"]},
        {"alone": []},
        [["a"]],
        [{"a": 1}],
    ],
)
def test_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        axis(given)


class Echo(Record, Axis):
    """A kind from outside: what stands in a slot, said once or twice."""

    kind: ClassVar[str] = "echo"
    last: ClassVar[bool] = True
    echo: str

    @override
    def levels(self, name: str) -> Levels:
        return Levels((Column(name, unit="times"),), 2, lambda: ((1,), (2,)), (self.echo,))

    @override
    def references(self, prompt: PromptSpec) -> list[Reference]:
        return [Reference(("echo",), self.echo, tuple(prompt.phrases), moves=True)]

    @override
    def apply(self, point: Point, draft: Draft, prompt: PromptSpec, tokens: Tokens | None) -> None:
        draft.after = f", {draft.fills['mood']} {self.echo}" if point[0][1] == 2 else ""


ECHO = """\
name: echo
question: Does saying it twice help?
prompt: {template: "a cup, {mood}, {style}", phrases: {style: glossy}}
axes:
  twice: {echo: style}
  mood: [calm, bright]
contrasts: []
"""


def test_a_kind_from_outside_works_in_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudyError, match="'echo' is no kind of axis; allowed: a list, or one of alone, ladder"):
        parse_study(ECHO)
    monkeypatch.setitem(KINDS, "echo", Echo)
    study = parse_study(ECHO)
    cells = list(expand(study))
    assert [cell.prompt.text for cell in cells] == [
        "a cup, calm, glossy",
        "a cup, bright, glossy",
        "a cup, calm, glossy, calm style",
        "a cup, bright, glossy, bright style",
    ]
    assert len({cell.group for cell in cells}) == 2
    twice, mood = axis_columns(study)
    assert (twice.kind, twice.role, twice.unit, twice.names) == ("echo", "manipulation", "times", ("style",))
    assert (mood.kind, mood.role) == ("values", "unit")
    assert "echo" in str(TypeAdapter(AnyAxis).json_schema())
    for wrong, message in (
        ("{echo: stile}", "x.yaml:5:17: .*did you mean 'style'"),
        ("{echo: 5}", "x.yaml:5:17: given 5; allowed: text"),
        ("{ehco: style}", "x.yaml:5:11: 'ehco' is no kind of axis; .*did you mean 'echo'"),
        ("{echo: style, order: [style, mood]}", "x.yaml:5:24: one axis is of one kind; given: echo, order"),
    ):
        with pytest.raises(StudyError, match=message):
            parse_study(ECHO.replace("{echo: style}", wrong), "x.yaml")


def test_kinds_have_names_of_their_own() -> None:
    assert register(KINDS["swap"]) is KINDS["swap"]
    with pytest.raises(ValueError, match="two kinds of axis are called 'swap'"):
        register(type("Other", (Axis,), {"kind": "swap"}))


def test_no_other_part_asks_for_the_kind_of_an_axis() -> None:
    """Neither by class nor by name: what others want to know of an axis, its kind answers."""
    package = Path(axes.__file__).parent.parent.parent
    classes = "|".join(kind.__name__ for kind in KINDS.values())
    ladder = re.compile(rf"isinstance\([^)]*\b({classes})\b")
    files = [*package.rglob("*.py"), *(package.parent / "dashboards").rglob("*.py")]
    asking = [file for file in files if "axes" not in file.parts and ladder.search(file.read_text(encoding="utf-8"))]
    assert not asking
