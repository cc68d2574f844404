"""The report: one file with nothing outside it, what was said shown as typed, the numbers those of the tables."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

import shown_home
from promptlab.errors import PromptlabError
from promptlab.results import tables
from promptlab.results.report import report_html, write_report
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study

KNOWN = {
    *("html", "head", "meta", "title", "style", "body", "p", "h1", "h2"),
    *("small", "span", "br", "div", "strong", "table", "tr", "th", "td"),
    *("figure", "img", "figcaption", "details", "summary", "pre"),
}


class Reader(HTMLParser):
    """Tags, sources and captions."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.outside: list[str] = []
        self.alts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.outside += [str(given[k]) for k in ("src", "href", "action", "data") if k in given]
        self.outside += [k for k in given if k.startswith("on")]
        if tag == "img":
            self.alts.append(given.get("alt") or "")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(shown_home.build(tmp_path_factory.mktemp("shown") / "home"))


def test_the_report_of_a_study(shown: Store, tmp_path: Path) -> None:
    text = write_report(shown, "drawn", tmp_path / "deep" / "report.html").read_text("utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.tags <= KNOWN and all(one.startswith("data:image/webp;base64,") for one in reader.outside)
    assert not re.search(r"https?://", text)
    rows = tables.outcome_shares(shown, "drawn").set_index("outcome")
    assert f"{100 * rows.loc['correct', 'share']:.0f} % [" in text and "What does a drawn world show?" in text
    assert "Right" in text and "Wrong, and how" in text and "Which colours leak" in text and "tier T0" in text
    assert len(reader.alts) == len(reader.outside) > 6


def test_hostile_prompts_are_shown_as_typed(shown: Store) -> None:
    text = report_html(shown, "hostile")
    reader = Reader()
    reader.feed(text)
    assert reader.tags <= KNOWN and all(one.startswith("data:image/webp;base64,") for one in reader.outside)
    captions = [unescape(found) for found in re.findall(r"<figcaption>(.*?)<br>", text, re.DOTALL)]
    assert captions == list(shown_home.CORPUS[: len(captions)]) and len(captions) == 12


def test_an_unknown_study_names_the_nearest(shown: Store) -> None:
    with pytest.raises(PromptlabError, match="did you mean 'drawn'"):
        report_html(shown, "drawm")


def test_one_prompt_has_no_interval_and_the_report_says_why(tmp_path: Path) -> None:
    study = """
name: single
question: What can one prompt say?
backend: renderer
model: swap=0.5
prompt:
  template: "a photo of {first} and {second}"
  objects: {first: {noun: cup, colour: red}, second: {noun: chair, colour: blue}}
axes: {guidance_scale: [1, 5]}
seeds: 8
probes: [binding]
contrasts: [{name: more, measure: binding.correct, axis: guidance_scale, levels: [5, 1]}]
"""
    run_study(parse_study(study), Store(tmp_path), RunOptions(passports_n=0))
    text = report_html(Store(tmp_path), "single")
    shown = re.sub(r"<style>.*?</style>|<details>.*?</details>", "", text, flags=re.DOTALL)
    assert "nan" not in re.sub(r'src="[^"]*"', "", shown)
    (row,) = re.findall(r"<tr><td>more</td>.*?</tr>", text)
    assert re.search(r"<td>[+-]?[\d.]+, no interval</td>", row) and "one prompt: an interval" in row
    assert "of 16 pictures (1 prompt family)" in text
