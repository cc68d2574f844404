"""What a new user wants, with the clicks that it takes; keys; and links that show the same again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from browsing import Visit


class Person(Visit):
    """A visit that counts clicks."""

    clicks = 0

    def click(self, what: Any) -> None:
        self.clicks += 1
        what.click()
        self.page.wait_for_timeout(300)  # the script begins to run again a moment after the click
        self.settle()

    def choose(self, label: str, option: str) -> None:
        """Take an option of a select box: one click to open it, one to choose."""
        self.click(self.page.locator("[data-testid=stSelectbox]", has_text=label).locator("input"))
        self.click(self.page.get_by_role("option", name=option, exact=True))

    def go(self, title: str, heading: str) -> None:
        """To another page by the sidebar."""
        self.click(self.page.get_by_role("link", name=title, exact=True))
        self.page.get_by_role("heading", name=heading).wait_for()
        self.settle()

    def press(self, key: str, button: str) -> None:
        """The key of a button that is there by now; once more if the page did not hear it while it was drawn."""
        self.page.get_by_role("button", name=f"{button} Shortcut").wait_for()
        before = self.page.url
        for _ in range(5):
            self.settle()
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(1000)
            self.settle()
            if self.page.url != before:
                return


@pytest.fixture
def person(browser: Any, address: str) -> Iterator[Person]:
    one = Person(browser, address)
    one.open("?study=drawn")
    yield one
    one.check()
    one.page.close()


def test_the_best_wording_of_a_prompt_with_two_objects(person: Person) -> None:
    person.go("Winning prompts", "Which wording should I use?")
    person.choose("Prompt family", "a photo of a red cup and a blue chair")
    person.page.get_by_role("heading", name="In the lead").wait_for()
    leader = person.page.locator("[data-testid=stCode]").first
    leader.get_by_text("cup").wait_for()
    assert "chair" in leader.inner_text(), "a wording of this prompt, to be copied"
    assert person.clicks <= 3


def test_which_colour_leaks_most_and_the_worst_case(person: Person) -> None:
    person.go("Bleeding map", "Which colour leaks, and to what?")
    person.page.get_by_role("heading", name="Where it went wrong, the worst first").wait_for()
    assert "First those where it is on the other alone" in person.page.inner_text("[data-testid=stMain]")
    person.click(person.page.locator(".pl-gallery a").first)
    person.page.get_by_text("What the probes said").wait_for()
    assert person.clicks <= 2


def test_a_link_and_a_report_for_a_colleague(person: Person, browser: Any) -> None:
    person.go("Winning prompts", "Which wording should I use?")
    person.choose("Rank by", "colour")
    theirs = Visit(browser, person.base)
    theirs.page.goto(person.page.url)
    theirs.settle()
    rank = "[data-testid=stSelectbox]:has-text('Rank by') input"
    assert theirs.page.locator(rank).input_value() == person.page.locator(rank).input_value() == "colour"
    theirs.page.close()
    person.clicks = 0
    person.go("Export", "How do I hand this on?")
    with person.page.expect_download() as download:
        person.click(person.page.get_by_role("button", name="Download the report"))
    text = download.value.path().read_text("utf-8")
    assert download.value.suggested_filename == "drawn.html" and "What does a drawn world show?" in text
    assert person.clicks <= 2


def test_arrows_go_from_picture_to_picture(person: Person) -> None:
    person.open("detail?study=drawn")
    person.click(person.page.locator(".pl-gallery a").first)
    person.page.get_by_text("picture 1 of 72").wait_for()
    first = person.page.url
    person.press("ArrowRight", "Next")
    person.page.get_by_text("picture 2 of 72").wait_for()
    assert person.page.url != first
    person.press("ArrowLeft", "Previous")
    person.page.get_by_text("picture 1 of 72").wait_for()
    assert person.page.url == first
    person.press("b", "Compare")
    person.page.get_by_role("heading", name="Which of these two is better, and why?").wait_for()
    before = person.page.url
    person.press("ArrowRight", "Next B")
    assert person.page.url != before, "another cell stands at the right"


def test_keys_rate(person: Person) -> None:
    """The only test that adds to the shared home: choices, which no other looks at."""
    person.open("blind_rating?study=drawn")
    person.page.get_by_role("button", name="Left is better").wait_for()
    person.page.get_by_text("0 choices").wait_for()
    for key, said in (("1", "1 choice, 0 of them"), ("0", "2 choices, 1 of them"), ("2", "3 choices, 1 of them")):
        person.settle()
        person.page.keyboard.press(key)
        person.page.get_by_text(said).wait_for()


def test_arrows_turn_the_pages_of_a_gallery(person: Person) -> None:
    person.open("detail?study=drawn")
    person.page.locator(".pl-gallery a").first.wait_for()
    first = person.page.locator(".pl-gallery a").first.get_attribute("href")
    person.press("ArrowRight", "Next")
    person.page.wait_for_function(
        "old => document.querySelector('.pl-gallery a').getAttribute('href') !== old", arg=first
    )
    assert "choose=2" in person.page.url


LINKS = {
    "grid?study=drawn&x=order&y=assignment&measure=colour": ("order", "assignment", "colour"),
    "ranking?study=drawn&measure=colour&axis=order": ("colour", "order"),
    "bleeding?study=drawn&colour=green": ("green",),
    "order?study=drawn&measure=colour": ("colour",),
}


@pytest.mark.parametrize("link", LINKS)
def test_a_link_shows_the_same_view(link: str, person: Person) -> None:
    person.open(link)
    person.page.wait_for_function(
        """wanted => {
            const boxes = [...document.querySelectorAll('[data-testid=stMain] [data-testid=stSelectbox] input')]
            return wanted.every(one => boxes.some(box => box.value === one))
        }""",
        arg=list(LINKS[link]),
    )
