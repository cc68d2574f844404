"""Every page of the dashboard by Streamlit's own test driver: with results, with none, and with hostile prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parent.parent / "dashboards" / "app_pages"
NAMES = sorted(path.stem for path in PAGES.glob("*.py"))


def page(name: str, home: Path, monkeypatch: pytest.MonkeyPatch, **query: str):
    """The page after its first run."""
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv("PROMPTLAB_HOME", str(home))
    test = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=60)
    for key, value in query.items():
        test.query_params[key] = value
    return test.run()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_a_finished_study(name: str, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(name, finished, monkeypatch)
    assert not test.exception and not test.error
    assert test.title[0].value.endswith("?")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_without_results_says_what_to_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(name, tmp_path, monkeypatch)
    assert not test.exception and not test.error
    assert test.title[0].value.endswith("?")
    if name not in ("doctor",):
        assert test.info and "promptlab run" in test.code[0].value
