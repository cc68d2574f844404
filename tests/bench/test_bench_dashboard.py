"""The bench of the dashboard on a small store: every figure is there. What a figure says is not asserted."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dashboard import dashboard_figures
from large_store import MEASURES, STUDY, build_store
from places import DASHBOARDS
from promptlab.bench import Measured, bench
from promptlab.errors import PromptlabError
from promptlab.stats.paired import interval_of_rates, interval_of_totals, mean_interval
from promptlab.store import Store
from promptlab.store.home import Home

PAGES = DASHBOARDS / "app_pages"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench") / "home"


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Measured]:
    import streamlit as st

    st.cache_data.clear()
    return {one.name: one for one in dashboard_figures(1, folder, 240, clicks=24, browser=False)}


def test_every_figure_is_there(figures: dict[str, Measured]) -> None:
    names = ["its store", "first paint, p95", "filter, p95", "memory after 24 clicks"]
    assert list(figures) == [f"dashboard: {name}" for name in names]
    assert all(one.value > 0 for one in figures.values())
    assert [one.goal for one in figures.values()] == [None, 2.0, 0.5, 600.0]
    paint = figures["dashboard: first paint, p95"].detail
    assert paint["by"] == "AppTest" and {page.stem for page in PAGES.glob("*.py")} <= paint.keys()
    changed = figures["dashboard: filter, p95"].detail
    assert {"compare", "grid"} <= changed.keys() and changed["n"] > 5  # type: ignore[operator]


def test_the_command_says_where_it_is() -> None:
    with pytest.raises(PromptlabError, match=r"tests/bench/dashboard\.py"):
        bench("dashboard", 1)


def test_it_starts_from_the_command_line() -> None:
    script = [sys.executable, str(Path(__file__).with_name("dashboard.py")), "--help"]
    said = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    assert "--folder" in said and "--no-browser" in said


def test_the_store_is_a_real_one_and_is_used_again(folder: Path, figures: dict[str, Measured]) -> None:
    store = Store(folder)
    assert set(store.query("SELECT name FROM measure")["name"]) == set(MEASURES) and len(MEASURES) == 40
    n = store.query("SELECT count(*) AS n FROM image WHERE status = 'ok'")["n"].iloc[0]
    scores = store.query("SELECT count(*) AS n FROM score")["n"].iloc[0]
    assert scores == 42 * n and 200 < n <= 240
    assert not [one for one in store.doctor(deep=False) if not one.harmless]
    before = store.home.database.stat().st_ino
    again = build_store(Home(folder), 240)
    assert set(again) == {"pictures", "scores"} and store.home.database.stat().st_ino == before


def test_what_was_measured_is_counted_when_it_is_published(folder: Path, figures: dict[str, Measured]) -> None:
    store = Store(folder)
    slow = store.query(
        """
        SELECT probe, probe_id, measure, count(*) AS scores, count(value) AS with_value, count(label) AS with_label
        FROM scored WHERE study = ? GROUP BY ALL ORDER BY ALL
        """,
        [STUDY],
    )
    quick = store.query("SELECT * EXCLUDE (study) FROM measured WHERE study = ? ORDER BY ALL", [STUDY])
    assert quick.to_dict("list") == slow.to_dict("list") and len(quick) == 40


def test_scores_are_added_up_by_cell_when_it_is_published(folder: Path, figures: dict[str, Measured]) -> None:
    store = Store(folder)
    seen = store.query(
        """
        SELECT probe, probe_id, measure, target, cell_id, coalesce(label, 'none') AS label, value FROM scored
        WHERE study = ? AND status = 'ok'
        """,
        [STUDY],
    )
    whose = ["probe", "probe_id", "measure", "target", "cell_id", "label"]
    quick = store.query("SELECT * REPLACE (coalesce(label, 'none') AS label) FROM cell_score WHERE study = ?", [STUDY])
    quick = quick.set_index(whose).sort_index()
    groups = seen.groupby(whose)["value"]
    assert quick["scores"].equals(groups.size().rename("scores")) and quick["scores"].sum() == len(seen)
    assert quick["with_value"].equals(groups.count().rename("with_value"))
    exact = groups.agg(lambda some: math.fsum(some.dropna()) if some.notna().any() else np.nan)
    np.testing.assert_allclose(quick["total"], exact, rtol=1e-12)
    rate = groups.agg(lambda some: some.dropna().isin([0, 1]).all())
    assert (quick["rate"].astype(object).where(quick["with_value"] > 0, True) == rate).all()


def pictures(kind: str, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(prompts), rng.integers(1, 9, prompts))
    values = rng.normal(size=len(groups)) if kind == "numbers" else (rng.random(len(groups)) < 0.4).astype(float)
    return (np.ones(len(groups)) if kind == "all" else values), groups


@pytest.mark.parametrize("kind", ["numbers", "rates", "all"])
@pytest.mark.parametrize("prompts", [1, 2, 12])
def test_sums_give_the_intervals_of_their_pictures(kind: str, prompts: int) -> None:
    values, groups = pictures(kind, prompts)
    sums, counts = np.bincount(groups, weights=values), np.bincount(groups)
    rates = [bool(np.isin(values[groups == i], (0, 1)).all()) for i in range(prompts)]
    slow = mean_interval(values, groups, rng=np.random.default_rng(0), resamples=500)
    quick = interval_of_totals(sums, counts.tolist(), rates, rng=np.random.default_rng(0), resamples=500)
    assert (quick.n_groups, quick.low is None) == (slow.n_groups, slow.low is None)
    bounds = [[b for b in (one.estimate, one.low, one.high) if b is not None] for one in (quick, slow)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)
    if kind != "numbers":
        slow = mean_interval(values, groups, rng=np.random.default_rng(0), resamples=500, weigh="images")
        by_picture = interval_of_rates(
            sums, counts.tolist(), rng=np.random.default_rng(0), resamples=500, weigh="images"
        )
        assert by_picture == slow


def test_a_prompt_without_pictures() -> None:
    with pytest.raises(ValueError, match="leave it out"):
        interval_of_totals([0.0], [0], [True], rng=np.random.default_rng(0))
    with_empty = interval_of_rates([1, 0, 2], [2, 0, 4], rng=np.random.default_rng(0))
    assert with_empty == interval_of_rates([1, 2], [2, 4], rng=np.random.default_rng(0))


def test_a_blank_picture_beside_others_has_no_outcome(
    folder: Path, figures: dict[str, Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    mixed = Store(folder).query(
        """
        SELECT cell_id FROM cell_image JOIN image ON image.id = cell_image.image
        GROUP BY cell_id HAVING count(DISTINCT status) = 2 ORDER BY cell_id
        """
    )["cell_id"]
    assert len(mixed), "the made-up store holds blank pictures"
    st.cache_data.clear()
    monkeypatch.setenv("PROMPTLAB_HOME", str(folder))
    test = AppTest.from_file(str(PAGES / "compare.py"), default_timeout=120)
    test.query_params["study"] = STUDY
    test.run().selectbox(key="a").set_value(mixed.iloc[0]).run()
    assert not test.exception
