"""The grid: exact cells in exact order, families, exclusions, and sizes that are refused unexpanded."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from promptlab.errors import StudyError
from promptlab.miniature.tokenizer import write_tokenizer
from promptlab.study.axes.axis import Levels
from promptlab.study.grid import count, count_images, expand, needs_tokenizer
from promptlab.study.study import Study, parse_study
from promptlab.study.tokens import Tokens, open_tokens

HEAD = "name: a\nquestion: b\n"
CUP = HEAD + 'prompt: {template: "a {colour} cup"}\naxes:\n  colour: [red, blue]\n'


def study(text: str) -> Study:
    return parse_study(text, "x.yaml")


def texts(text: str, **options: Any) -> list[str]:
    return [cell.prompt.text for cell in expand(study(text), **options)]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(Path(path))
    return open_tokens(path)


def test_the_last_axis_varies_fastest() -> None:
    cells = list(expand(study(CUP + "  guidance_scale: [1, 5]\n  num_inference_steps: [10]\nsettings: {height: 64}\n")))
    assert [cell.levels for cell in cells] == [
        (("colour", colour), ("guidance_scale", w), ("num_inference_steps", 10))
        for colour, w in itertools.product(("red", "blue"), (1.0, 5.0))
    ]
    assert [cell.prompt.text for cell in cells] == ["a red cup"] * 2 + ["a blue cup"] * 2
    assert {(cell.settings.height, cell.settings.width, cell.settings.num_inference_steps) for cell in cells} == {
        (64, 128, 10)
    }
    assert [cell.settings.guidance_scale for cell in cells] == [1.0, 5.0, 1.0, 5.0]


def test_a_study_without_axes_is_one_cell() -> None:
    (cell,) = expand(study(HEAD + "prompt: {template: a cup}\n"))
    assert (cell.levels, cell.prompt.text, cell.model, cell.backend) == ((), "a cup", "miniature", "diffusion")


def test_ids_do_not_depend_on_how_a_number_is_written() -> None:
    one = next(iter(expand(study(CUP + "  guidance_scale: [5]\n"))))
    other = next(iter(expand(study(CUP + "  guidance_scale: [5.0]\n"))))
    assert (one.id, one.image_id(3)) == (other.id, other.image_id(3))
    assert one.image_id(3) == next(iter(expand(study(CUP + "settings: {guidance_scale: 5}\n")))).image_id(3)


def test_ids_are_distinct_and_stable() -> None:
    text = CUP + "  guidance_scale: [1, 5]\n"
    cells, again = list(expand(study(text))), list(expand(study(text)))
    assert cells == again
    assert len({cell.id for cell in cells}) == 4
    more = list(expand(study(text.replace("[1, 5]", "[1, 3, 5]"))))
    assert {cell.id for cell in cells} < {cell.id for cell in more}
    assert {cell.group for cell in cells} == {cell.group for cell in more}


FAMILIES = """
prompt:
  template: "{first} and {second}, {details}"
  objects: {first: {noun: cup, colour: "{colour}"}, second: {noun: chair, colour: blue}}
axes:
  colour: [red, green]
  mood: [happy, sad]
  details: {ladder: ["{x}"], control: true}
  order: {order: [first, second]}
  assignment: {swap: [first, second]}
  objects: {alone: [first, second]}
  guidance_scale: [1, 5]
  model: [miniature, other]
"""


def test_families_are_made_of_content_alone() -> None:
    text = HEAD + FAMILIES.replace("{second}, {details}", "{second}, {details}, {mood}")
    cells = list(expand(study(text)))
    assert len(cells) == 2 * 2 * 4 * 2 * 2 * 3 * 2 * 2
    families = {(dict(c.levels)["colour"], dict(c.levels)["mood"]): c.group for c in cells}
    assert len(set(families.values())) == 4
    assert all(families[dict(c.levels)["colour"], dict(c.levels)["mood"]] == c.group for c in cells)
    declared = list(expand(study(text + "units: [colour]\n")))
    assert len({cell.group for cell in declared}) == 2
    assert len({cell.group for cell in expand(study(text + "units: []\n"))}) == 1
    assert {cell.model for cell in cells} == {"miniature", "other"}


def test_exclusions() -> None:
    text = CUP + "  guidance_scale: [1, 3, 5]\n  num_inference_steps: [10, 20]\nexclude:\n"
    rules = "  - {colour: red, guidance_scale: [1, 5.0]}\n  - {guidance_scale: 3, num_inference_steps: 20}\n"
    s = study(text + rules)
    cells = [tuple(level for _, level in cell.levels) for cell in expand(s)]
    assert cells == [
        ("red", 3.0, 10),
        ("blue", 1.0, 10),
        ("blue", 1.0, 20),
        ("blue", 3.0, 10),
        ("blue", 5.0, 10),
        ("blue", 5.0, 20),
    ]
    assert count(s) == 6
    assert count_images(s) == 6
    with pytest.raises(StudyError, match=r"x\.yaml:8:1: these rules exclude every cell"):
        count(study(text + "  - {colour: [red, blue]}\n"))


def test_rules_over_two_columns_of_one_axis() -> None:
    text = HEAD + 'prompt: {template: "a cup, {d}"}\naxes:\n  d: {ladder: [shiny], control: true}\n'
    assert texts(text + "exclude: [{d: 0, d_arm: filler}]\n") == ["a cup", "a cup, shiny", "a cup, lovely"]


def test_zip_of_settings_and_words() -> None:
    text = HEAD + 'prompt: {template: "a {c} cup"}\naxes:\n  pair: {zip: {c: [red, blue], height: [64, 128]}}\n'
    assert [(c.prompt.text, c.settings.height) for c in expand(study(text))] == [("a red cup", 64), ("a blue cup", 128)]


def forbid(*_: Any) -> Any:
    raise AssertionError("a level was enumerated")


def test_a_billion_cells_are_refused_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    big = study(
        HEAD + "prompt: {template: a cup}\naxes:\n  guidance_scale: {range: {start: 0, stop: 999.999, step: 0.001}}\n"
    )
    thousand = "{range: {start: 1, stop: 1000, step: 1}}"
    models = ", ".join(f"m{i}" for i in range(500))
    wide = study(CUP + f"  guidance_scale: {thousand}\n  num_inference_steps: {thousand}\n  model: [{models}]\n")
    monkeypatch.setattr(Levels, "__iter__", forbid)
    with pytest.raises(StudyError, match=r"x\.yaml:4:1: the axes make 1,000,000 cells"):
        expand(big)
    with pytest.raises(StudyError) as caught:
        expand(wide)
    assert "make 1,000,000,000 cells (colour 2 x guidance_scale 1,000 x" in str(caught.value)
    assert "allowed: 10,000" in str(caught.value)


def test_a_billion_cells_under_rules_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    thousand = "{range: {start: 1, stop: 1000, step: 1}}"
    axes = f"  guidance_scale: {thousand}\n  num_inference_steps: {thousand}\n"
    s = study(CUP + axes + "exclude: [{guidance_scale: 5, num_inference_steps: 5, colour: red}]\n")
    monkeypatch.setattr(Levels, "__iter__", forbid)
    with pytest.raises(StudyError, match="2,000,000 cells"):
        count(s)


def test_permutations_are_counted_not_made() -> None:
    names = [f"p{i}" for i in range(12)]
    phrases = "{" + ", ".join(f"{n}: word" for n in names) + "}"
    template = " ".join("{" + n + "}" for n in names)
    text = (
        HEAD + f'prompt: {{template: "{template}", phrases: {phrases}}}\naxes: {{o: {{order: [{", ".join(names)}]}}}}\n'
    )
    with pytest.raises(StudyError, match="479,001,600 cells"):
        count(study(text))


def test_more_cells_on_request() -> None:
    s = study(HEAD + "prompt: {template: a cup}\naxes:\n  guidance_scale: {range: {start: 0, stop: 15, num: 15000}}\n")
    with pytest.raises(StudyError, match="15,000 cells"):
        count(s)
    assert count(s, max_cells=20_000) == 15_000


def test_a_hundred_thousand_cells_are_planned() -> None:
    colours = ", ".join(f"c{i}" for i in range(1000))
    words = f'prompt: {{template: "a {{colour}} cup"}}\naxes:\n  colour: [{colours}]\n'
    scale = "  guidance_scale: {range: {start: 1, stop: 10, step: 1}}\n"
    s = study(HEAD + words + scale + "  num_inference_steps: {range: {start: 11, stop: 20, step: 1}}\n")
    assert sum(1 for _ in expand(s, max_cells=100_000)) == 100_000


def test_token_axes_need_the_tokenizer(tokens: Tokens) -> None:
    text = HEAD + "prompt: {template: a cup}\naxes:\n  guidance_scale: [1, 5]\n  length: {tokens: {to: [10, 90]}}\n"
    s = study(text)
    assert needs_tokenizer(s)
    assert not needs_tokenizer(study(CUP))
    with pytest.raises(StudyError, match=r"x\.yaml:6:20: this axis counts tokens"):
        list(expand(s))
    cells = list(expand(s, tokenizer=tokens))
    assert [tokens.spans(cell.prompt).total for cell in cells] == [10, 90, 10, 90]
    assert [tokens.spans(cell.prompt).cut for cell in cells] == [0, 13, 0, 13]
    short = study(text.replace("[10, 90]", "[10, 3]"))
    with pytest.raises(StudyError, match=r"x\.yaml:6:30: given 3 tokens; allowed: at least 4.*in the cell"):
        list(expand(short, tokenizer=tokens))


def test_empty_prompts_are_found_in_their_cell() -> None:
    text = HEAD + 'prompt: {template: "{x}"}\naxes:\n  x: [a, ""]\n'
    with pytest.raises(StudyError, match=r"x\.yaml:3:20: the prompt is empty.*in the cell x: "):
        list(expand(study(text)))
    assert texts(text.replace('"{x}"', '"{x}", allow_empty: true')) == ["a", ""]
