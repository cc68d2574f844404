"""Every page of the dashboard, by Streamlit's driver and in a real browser: with results, none, and hostile prompts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import shown_home
from browsing import NAMES, PAGES, Visit
from drawn_study import DRAWN


def page(name: str, home: Path, monkeypatch: pytest.MonkeyPatch, **query: str) -> Any:
    """The page after its first run."""
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    st.cache_data.clear()
    monkeypatch.setenv("PROMPTLAB_HOME", str(home))
    test = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=120)
    for key, value in query.items():
        test.query_params[key] = value
    return test.run()


@pytest.mark.parametrize("study", ["drawn", "longer", "hostile"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_a_study(name: str, study: str, shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("passports", "claims", "prompt_doctor") and study != "drawn":
        pytest.skip("this page shows no study")
    test = page(name, shown, monkeypatch, study=study)
    assert not test.exception and not test.error
    assert test.title[0].value.endswith("?")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_without_results_says_what_to_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(name, tmp_path, monkeypatch)
    assert not test.exception and not test.error
    assert test.title[0].value.endswith("?")
    if name != "prompt_doctor":
        assert test.info and "promptlab run" in test.code[0].value


@pytest.mark.parametrize(("tab", "mark"), {"A1111": "Steps: ", "ComfyUI": '"class_type"', "YAML": "settings: "}.items())
def test_the_winner_is_written_for_the_tab_that_is_open(
    tab: str, mark: str, shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = page("ranking", shown, monkeypatch, study="drawn", **{"as": tab})
    assert not test.exception
    there = [one for one in ("Steps: ", '"class_type"') if any(one in code.value for code in test.code)]
    assert there == [mark] * (tab != "YAML") and any(mark in code.value for code in test.code)


def test_a_chart_is_held_against_its_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PAGES.parent))
    import altair as alt
    import pandas as pd
    from altair.utils.schemapi import SchemaValidationError

    from charts import vega_lite  # type: ignore[import-not-found]

    def spoiled(data: pd.DataFrame) -> alt.Chart:
        return alt.Chart(data).mark_point(size="large").encode(x="a:Q")

    with pytest.raises(SchemaValidationError):
        vega_lite(spoiled)(pd.DataFrame({"a": [1.0]}))


def test_prompts_stand_in_no_markdown(shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a study says reaches a page as text, as a cell, or escaped: never where Markdown or HTML is read."""
    for name in NAMES:
        test = page(name, shown, monkeypatch, study="hostile")
        spoken = [
            e.value for kind in ("markdown", "caption", "title", "header", "subheader") for e in getattr(test, kind)
        ]
        spoken += [f"{e.label} {e.value}" for e in test.metric]
        assert not [text for text in spoken for typed in (*shown_home.CORPUS, "<b>mean</b>") if typed in text], name


def test_the_doctor_reads_what_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page("prompt_doctor", tmp_path, monkeypatch)
    test.text_area[0].set_value("a zebra, " + "made with care, " * 30 + "and a red cup").run()
    assert not test.exception
    said = " ".join(e.value for e in test.text)
    assert "zebra" in said and "and a red cup" in said


def test_pictures_go_out_by_hash_alone(shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    monkeypatch.setenv("PROMPTLAB_HOME", str(shown))
    sys.path.insert(0, str(PAGES.parent))
    from app import app, picture  # type: ignore[import-not-found]

    route = app._user_routes[0]
    assert route.path == "/pictures/{side}/{file}" and route.endpoint is picture
    client = TestClient(Starlette(routes=[route]))
    name = next(shown.glob("images/*/*.png")).stem
    for side, kind in (("small", "image/webp"), ("medium", "image/webp"), ("whole", "image/png")):
        answer = client.get(f"/pictures/{side}/{name}")
        assert answer.status_code == 200 and answer.headers["content-type"] == kind
    for path in ("small/" + "0" * 64, "huge/" + name, "whole/..%2F..%2Fpromptlab.duckdb", "small/x", "whole/%00"):
        assert client.get(f"/pictures/{path}").status_code == 404, path


def test_a_former_address_leads_to_the_page_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    monkeypatch.syspath_prepend(str(PAGES.parent))
    from app import FORMER_ADDRESSES, app  # type: ignore[import-not-found]

    client = TestClient(Starlette(routes=app._user_routes), follow_redirects=False)
    for former, page_name in FORMER_ADDRESSES.items():
        answer = client.get(f"/{former}?study=drawn&measure=colour")
        assert page_name in NAMES and former not in NAMES
        assert answer.headers["location"].endswith(f"/{page_name}?study=drawn&measure=colour")


def test_every_page_in_a_browser(browser: Any, address: str) -> None:
    visit = Visit(browser, address)
    for name in NAMES:
        for study in ("drawn", "hostile"):
            visit.open(f"{'' if name == 'studies' else name}?study={study}")
            visit.check()
    visit.page.close()


def test_hostile_prompts_are_shown_as_typed(browser: Any, address: str) -> None:
    visit = Visit(browser, address)
    visit.open("detail?study=hostile")
    visit.page.wait_for_selector(".pl-gallery figcaption")
    captions = visit.page.locator(".pl-gallery figcaption").evaluate_all("all => all.map(one => one.textContent)")
    assert len(captions) == 48 and captions == list(shown_home.CORPUS[:48])
    assert visit.page.locator(".pl-gallery script, .pl-gallery svg, .pl-gallery iframe, .pl-gallery h1").count() == 0
    visit.check()
    visit.page.close()


def test_from_the_grid_to_a_picture_and_on(browser: Any, address: str) -> None:
    """What a person would click: a picture of the grid, its page, another page of the same study."""
    visit = Visit(browser, address)
    visit.open("grid?study=drawn")
    visit.page.locator(".pl-grid img").first.wait_for()
    assert visit.page.locator(".pl-grid img").count() >= 3
    loaded = "all => all.every(one => one.complete && one.naturalWidth > 0)"
    visit.page.wait_for_function(f"() => ({loaded})([...document.querySelectorAll('.pl-grid img')])")
    visit.page.locator(".pl-grid a").first.click()
    visit.page.wait_for_url("**/detail?*")
    visit.settle()
    visit.page.get_by_text("What the probes said").wait_for()
    visit.page.get_by_role("link", name="Bleeding map").click()
    visit.page.get_by_text("Which colour leaks").wait_for()
    visit.settle()
    assert "study=drawn" in visit.page.url
    visit.check()
    visit.page.close()


def test_parts_of_pages_answer_to_clicks(browser: Any, address: str) -> None:
    """A cell of the map, one more measure, a table, the winner for another program."""
    visit = Visit(browser, address)
    page, charts = visit.page, "[data-testid=stVegaLiteChart]"
    visit.open("bleeding?study=drawn")
    page.locator(charts).nth(1).locator(".mark-rect path").nth(3).click(force=True)
    page.wait_for_url("**colour=black&other=fish**")
    page.get_by_text("Asked black of one object, and the fish beside it has it").wait_for()
    visit.open("guidance?study=drawn")
    page.wait_for_function(f"() => document.querySelectorAll('{charts}').length === 5")
    page.get_by_role("button", name="accuracy").click()
    page.wait_for_function(f"() => document.querySelectorAll('{charts}').length === 6")
    page.wait_for_url("**measures=accuracy**")
    visit.open("order?study=drawn")
    page.locator(charts).first.wait_for()
    assert not page.locator("[data-testid=stMain] [data-testid=stExpander] [data-testid=stDataFrame]").count()
    page.get_by_text("The same as a table").first.click()
    table = page.locator("[data-testid=stMain] [data-testid=stExpander] [data-testid=stDataFrame]")
    table.first.wait_for()
    page.get_by_label("Measure").click()
    page.get_by_role("option", name="correct", exact=True).click()
    page.wait_for_url("**measure=correct**")
    table.first.wait_for()
    visit.open("ranking?study=drawn")
    page.get_by_role("tab", name="ComfyUI").click()
    page.get_by_text("class_type").first.wait_for()
    page.wait_for_url("**as=ComfyUI**")
    visit.check()
    page.close()


def test_it_listens_on_this_machine_alone(address: str) -> None:
    import psutil

    port = int(address.rsplit(":", 1)[1])
    listening = [c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port]
    assert listening == ["127.0.0.1"]


def test_compare_finds_every_cell_by_its_family(shown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from promptlab.store import Store

    cells = Store(shown).query("SELECT id, prompt_group FROM cell WHERE study = 'drawn' AND current")
    test = page("compare", shown, monkeypatch, study="drawn")
    assert len(test.selectbox(key="a").options) == len(cells)
    for family, own in cells.groupby("prompt_group")["id"]:
        test.selectbox(key="family").set_value(family).run()
        assert not test.exception
        assert [len(test.selectbox(key=side).options) for side in ("a", "b")] == [len(own)] * 2 and len(own) < len(
            cells
        )
        assert {test.session_state["a"], test.session_state["b"]} <= set(own)


def test_compare_shows_a_picture_without_an_outcome(
    shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    home = Path(shutil.copytree(shown, tmp_path / "home"))
    with duckdb.connect(str(home / "promptlab.duckdb")) as database:
        database.execute(
            """
            UPDATE score SET label = NULL, value = NULL
            WHERE measure = 'correct' AND image IN (SELECT image FROM cell_image WHERE seed = 0)
            """
        )
    test = page("compare", home, monkeypatch, study="drawn")
    assert not test.exception and not test.error


def test_the_grid_takes_a_family_of_many_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from promptlab.run import run_study
    from promptlab.run.options import RunOptions
    from promptlab.store import Store
    from promptlab.study.study import parse_study

    study = DRAWN.format(model="miniature", scales="[1, 5]", seeds=40, probes="exposure")
    study = study.replace(", {a: car, x: green, b: hat, y: pink}", "")
    run_study(parse_study(study), Store(tmp_path), RunOptions(passports_n=0))
    test = page("grid", tmp_path, monkeypatch, study="drawn")
    assert not test.exception and not test.error
    assert any("pictures" in caption.value for caption in test.caption)
