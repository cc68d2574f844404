"""Prompts from a specification: exact texts, exact places, exact tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promptlab.errors import ModelError
from promptlab.miniature.tokenizer import write_tokenizer
from promptlab.records import Binding, Prompt
from promptlab.study.prompts import Draft, PromptSpec, article, nouns, render, slots
from promptlab.study.strict_yaml import Mistake
from promptlab.study.tokens import FILLER, Tokens, filler_words, open_tokens, token_spans

CUP = {"noun": "cup", "colour": "red"}
CHAIR = {"noun": "chair", "colour": "blue"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Tokens:
    return open_tokens(folder)


def spec(template: str = "a photo of {first} and {second}", **parts: Any) -> PromptSpec:
    return PromptSpec.model_validate({"template": template, "objects": {"first": CUP, "second": CHAIR}, **parts})


def test_the_red_cup_and_the_blue_chair() -> None:
    prompt = render(spec())
    assert prompt.text == "a photo of a red cup and a blue chair"
    assert [(p.name, p.text, p.start, p.end, p.role) for p in prompt.phrases] == [
        ("first", "a red cup", 11, 20, "object"),
        ("first.colour", "red", 13, 16, "attribute"),
        ("second", "a blue chair", 25, 37, "object"),
        ("second.colour", "blue", 27, 31, "attribute"),
    ]
    assert prompt.bindings == (Binding("first", "cup", "red"), Binding("second", "chair", "blue"))
    assert prompt.swapped == "a photo of a blue cup and a red chair"
    assert prompt.alone == ("a photo of a red cup", "a photo of a blue chair")
    assert [(p.name, p.text, p.start) for p in nouns(prompt)] == [
        ("first.noun", "cup", 17),
        ("second.noun", "chair", 32),
    ]


def test_more_attributes_and_articles_that_follow_them() -> None:
    objects = {
        "first": {"noun": "owl", "size": "large", "colour": "orange", "texture": ""},
        "second": {"noun": "hour glass", "article": "the"},
        "third": {"noun": "umbrellas", "colour": "red", "article": "none"},
    }
    prompt = render(spec("{first}, {second} and {third}", objects=objects))
    assert prompt.text == "a large orange owl, the hour glass and red umbrellas"
    assert prompt.swapped == "an owl, the large orange hour glass and red umbrellas"
    assert prompt.bindings == (
        Binding("first", "owl", "large", "size"),
        Binding("first", "owl", "orange", "colour"),
        Binding("second", "hour glass", None),
        Binding("third", "umbrellas", "red"),
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("red cup", "a"),
        ("orange cup", "an"),
        ("hour glass", "an"),
        ("honest face", "an"),
        ("house", "a"),
        ("uniform", "a"),
        ("unicorn", "a"),
        ("umbrella", "an"),
        ("unimportant cup", "an"),
        ("useful cup", "a"),
        ("ugly cup", "an"),
        ("European car", "a"),
        ("one-eyed dog", "a"),
        ("onerous task", "an"),
        ("8-bit car", "an"),
        ("11 cups", "an"),
        ("110 cups", "a"),
        ("X-ray", "an"),
        ("U-turn", "a"),
        ("HDR photo", "an"),
        ("RED cup", "a"),
        ("élan", "an"),
        ('"icy" road', "an"),
        ("🦄", "a"),
        ("日本", "a"),
        ("", "a"),
    ],
)
def test_articles(words: str, expected: str) -> None:
    assert article(words) == expected


def test_an_article_before_a_slot_follows_its_filling() -> None:
    plain = PromptSpec(template="A {style} of an {mood} cup")
    assert (
        render(plain, Draft(fills={"style": "oil painting", "mood": "happy"})).text == "An oil painting of a happy cup"
    )
    assert render(plain, Draft(fills={"style": "sketch", "mood": "odd"})).text == "A sketch of an odd cup"
    banana = PromptSpec(template="banan{x}")
    assert render(banana, Draft(fills={"x": "a"})).text == "banana"


@pytest.mark.parametrize(
    ("template", "fills", "text"),
    [
        ("a cup, {x}", {"x": ""}, "a cup"),
        ("{x}, a cup", {"x": ""}, "a cup"),
        ("a cup, {x}, {y}", {"x": "", "y": "b"}, "a cup, b"),
        ("a cup, {x}, {y}", {"x": "b", "y": ""}, "a cup, b"),
        ("a {x} cup", {"x": ""}, "a cup"),
        ("{x} {y}", {"x": "", "y": ""}, ""),
        ("{{{x}}}", {"x": "b"}, "{b}"),
        ("{x}", {"x": "{y}"}, "{y}"),
        ("  a {x}  ", {"x": "b"}, "a b"),
    ],
)
def test_empty_fillings_and_braces(template: str, fills: dict[str, str], text: str) -> None:
    prompt = render(PromptSpec(template=template, allow_empty=True), Draft(fills=fills))
    assert prompt.text == text
    for phrase in prompt.phrases:
        assert prompt.text[phrase.start : phrase.end] == phrase.text


def test_word_order_moves_what_stands_in_the_slots() -> None:
    parts = {"phrases": {"light": "at night"}}
    draft = Draft(arrangement={"first": "second", "second": "first"})
    prompt = render(spec("{light}, {first} and {second}", **parts), draft)
    assert prompt.text == "at night, a blue chair and a red cup"
    assert [b.object for b in prompt.bindings] == ["second", "first"]
    assert prompt.swapped == "at night, a red chair and a blue cup"
    assert prompt.alone == ("at night, a red cup", "at night, a blue chair")
    moved = Draft(arrangement={"light": "first", "first": "light"})
    assert render(spec("{light}, {first} and {second}", **parts), moved).text == "a red cup, at night and a blue chair"
    edges = spec("{light}, {first} and {second}, {tail}", phrases={"light": "at night", "tail": "blurry"})
    prompt = render(edges, Draft(arrangement={"light": "tail", "tail": "light"}))
    assert prompt.text == "blurry, a red cup and a blue chair, at night"
    assert prompt.alone == ("blurry, a red cup, at night", "blurry, a blue chair, at night")


def test_the_twin_is_the_foil() -> None:
    prompt, twin = render(spec()), render(spec(), Draft(swap=True))
    assert twin.text == prompt.swapped
    assert twin.swapped == prompt.text
    assert twin.bindings == (Binding("first", "cup", "blue"), Binding("second", "chair", "red"))
    assert twin.alone == ("a photo of a blue cup", "a photo of a red chair")


def test_no_foil_where_there_is_nothing_to_exchange() -> None:
    same = {"first": CUP, "second": {"noun": "chair", "colour": "red"}}
    assert render(spec(objects=same)).swapped is None
    assert render(PromptSpec(template="a cup")).swapped is None


def test_one_object_alone() -> None:
    prompt = render(spec("{first} left of {second}, in snow"), Draft(only="second"))
    assert prompt.text == "a blue chair, in snow"
    assert [p.name for p in prompt.phrases] == ["second", "second.colour"]
    assert prompt.bindings == (Binding("second", "chair", "blue"),)
    assert (prompt.swapped, prompt.alone) == (None, ("a blue chair, in snow",))
    written = spec(alone="just {object}")
    assert render(written).alone == ("just a red cup", "just a blue chair")


@pytest.mark.parametrize("template", ["", "   ", "{x}"])
def test_empty_prompts_must_be_meant(template: str) -> None:
    with pytest.raises(Mistake, match="allow_empty: true"):
        render(PromptSpec(template=template), Draft(fills={"x": " "}))
    assert render(PromptSpec(template=template, allow_empty=True), Draft(fills={"x": " "})).text == ""


@pytest.mark.parametrize("template", ["a {cup", "a cup}", "{}", "{A}", "{a b}", "{a{b}}", "{0}"])
def test_braces_without_meaning(template: str) -> None:
    with pytest.raises(Mistake):
        slots(template)


def test_a_slot_that_nothing_fills() -> None:
    with pytest.raises(Mistake, match=r"nothing fills the slot \{colour\}"):
        render(PromptSpec(template="a {colour} cup"))
    with pytest.raises(Mistake, match="empty noun"):
        render(spec(objects={"first": {"noun": "{x}"}, "second": CHAIR}), Draft(fills={"x": ""}))


@pytest.mark.parametrize("word", ["🦄", "كأس أحمر", "\u202ered", "日本のカップ", "e\u0301lan", "a\u200db", "$x$ <b>"])
def test_unicode_stays_as_it_is(word: str, tokens: Tokens) -> None:
    prompt = render(PromptSpec(template="a photo of {x}, {x}"), Draft(fills={"x": word}))
    assert prompt.text == f"a photo of {word}, {word}"
    assert [prompt.text[p.start : p.end] for p in prompt.phrases] == [word, word]
    spans = tokens.spans(prompt)
    assert spans.phrases[0].stop <= spans.phrases[1].first
    assert all(p.stop > p.first for p in spans.phrases)


def test_tokens_of_every_phrase(folder: Path) -> None:
    spans = token_spans(render(spec()), folder / "tokenizer.json")
    assert (spans.total, spans.limit, spans.cut, spans.cut_text) == (12, 77, 0, "")
    assert [(p.name, p.first, p.stop, p.kept, p.cut) for p in spans.phrases] == [
        ("first", 4, 7, 3, 0),
        ("first.colour", 5, 6, 1, 0),
        ("second", 8, 11, 3, 0),
        ("second.colour", 9, 10, 1, 0),
    ]


def test_what_is_cut(folder: Path) -> None:
    # 10 places: the beginning mark, eight words, the end mark.
    spans = token_spans(render(spec()), folder, limit=10)
    assert (spans.total, spans.cut, spans.cut_text) == (12, 2, "blue chair")
    assert [(p.name, p.kept, p.cut) for p in spans.phrases] == [
        ("first", 3, 0),
        ("first.colour", 1, 0),
        ("second", 1, 2),
        ("second.colour", 0, 1),
    ]
    assert token_spans(render(spec()), folder, limit=12).cut == 0
    assert token_spans(Prompt(""), folder).total == 2


def test_both_forms_of_a_tokenizer_agree(folder: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    old, new = open_tokens(tmp_path), open_tokens(folder)
    for text in ("a Red cup's  42 cups, naïve!", "🦄 日本", FILLER):
        prompt = render(PromptSpec(template="{x} and {x}"), Draft(fills={"x": text}))
        assert old.spans(prompt) == new.spans(prompt)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer in"):
        open_tokens(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        open_tokens(tmp_path)


def test_filler_has_exactly_the_length_asked_for(tokens: Tokens) -> None:
    for count in range(200):
        text = tokens.filler(count)
        assert text is not None
        assert tokens.length(text) == count
        words = filler_words(count)
        assert words is not None
        assert len(words.split()) == count
    assert filler_words(5, "made with care, so nice") == "made with care, so nice"
    assert filler_words(4, "made with care") is None
    assert filler_words(3, " , ") is None
