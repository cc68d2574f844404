"""Every page by axe-core, in light and dark: nothing serious that is ours."""

from __future__ import annotations

from typing import Any

import pytest

from browsing import NAMES, Visit

STREAMLIT = {
    # The sidebar's list of pages holds <header> and <div> between its items.
    "list": ["[data-testid=stSidebarNavItems]"],
    "listitem": ["[data-testid=stSidebarNavItems] li", "[data-testid=stSidebarNav] li"],
}
"""Rules that Streamlit's own markup breaks, each for what breaks it; no page can mend these."""
SEVERE = ("serious", "critical")
SCHEMES = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}
ELEMENT = "() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"


def broken(page: Any) -> list[str]:
    """What axe finds, as "rule: element", less what Streamlit alone can mend."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    out = []
    for rule in found:
        ours = [node for node in rule["nodes"] if not excused(page, rule["id"], node)]
        headings = rule["id"] == "heading-order"  # axe calls it moderate; it is ours
        if rule["impact"] in SEVERE or headings:
            out += [f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:200]}" for node in ours]
    return out


def excused(page: Any, rule: str, node: Any) -> bool:
    """Whether an element is one of those that Streamlit writes."""
    selector = ", ".join(STREAMLIT.get(rule, ()))
    where = node["target"][0]
    return bool(selector) and page.evaluate("([at, own]) => document.querySelector(at).matches(own)", [where, selector])


@pytest.fixture(scope="module")
def visit(browser: Any, address: str) -> Any:
    one = Visit(browser, address)
    yield one
    one.page.close()


def check(visit: Any, path: str) -> None:
    """Open a page and hold it against axe in both schemes."""
    visit.page.emulate_media(color_scheme="light")
    visit.open(path)
    for scheme, colour in SCHEMES.items():
        visit.page.emulate_media(color_scheme=scheme)
        visit.page.wait_for_function(f"() => ({ELEMENT})() === {colour!r}")
        assert not (found := broken(visit.page)), (path, scheme, found)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_accessible(name: str, visit: Any) -> None:
    check(visit, f"{'' if name == 'studies' else name}?study=drawn")


def test_a_picture_and_a_ladder_are_accessible(visit: Any, shown: Any) -> None:
    """Views that the parameters alone open: one picture with all that is known of it, and curves of details."""
    from promptlab.store import Store

    image = Store(shown).query("SELECT image FROM cell_image WHERE study = 'drawn' ORDER BY ALL LIMIT 1")["image"][0]
    check(visit, f"detail?study=drawn&image={image}")
    check(visit, "length?study=longer")
    check(visit, "length?study=needle")


def test_axe_bites(visit: Any) -> None:
    visit.open("passports")
    visit.page.evaluate(
        "document.querySelector('h1').innerHTML += '<img src=\"data:,\"><span style=\"color: #ccc\">x</span>'"
    )
    rules = {one.split(":")[0] for one in broken(visit.page)}
    assert "image-alt" in rules
