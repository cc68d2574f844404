"""Hidden rates recovered by correction, intervals of J and AUC, and judges side by side."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from judges import Oracle, truth
from promptlab.analyzer import passports
from promptlab.analyzer.passports import FAULTS, hidden_rates, recover
from promptlab.records import OUTCOMES, Binding, Cell, Image, Passport, Prompt, Score, Settings
from promptlab.results.tables import agreements, judges
from promptlab.stats.calibration import auc, auc_interval, youden_interval
from promptlab.stats.paired import wilson
from promptlab.store import Store


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hidden pictures are one pixel that carries the outcome: how faults look is not what is tested here."""
    from promptlab.miniature.faults import inject

    def render_with_faults(scene: Any, rates: Any, rng: np.random.Generator) -> Any:
        _, outcome, _ = inject(scene, rates, rng)
        return SimpleNamespace(image=np.full((1, 1, 3), OUTCOMES.index(outcome), np.uint8)), outcome, ()

    monkeypatch.setattr(passports, "render_with_faults", render_with_faults)


def oracle(errs: float) -> Oracle:
    """Reads the outcome off a picture, and says another one at the rate `errs`, by the picture's own chance."""
    chance = random.Random(3)

    def say(sample: Any) -> tuple[float, str]:
        hidden = sample.image_id.startswith("hidden")
        said = OUTCOMES[int(sample.pixels[0, 0, 0])] if hidden else truth(sample)
        if chance.random() < errs:
            said = chance.choice([outcome for outcome in OUTCOMES if outcome != said])
        return float(said == "correct"), said

    return Oracle(say)


def test_hidden_rates_are_recovered_where_what_is_said_is_wrong(drawn: None) -> None:
    rows = list(recover(oracle(0.3), trials=20, pictures=100, calibration=40, resamples=400))
    assert len(rows) == 60 and {row.fault for row in rows} == set(FAULTS)
    for fault in FAULTS:
        own = [row for row in rows if row.fault == fault]
        assert sum(bool(row.covers) for row in own) >= 18
    assert sum(row.said_covers for row in rows) < 45
    off = [np.mean([abs(getattr(row, what) - row.rate) for row in rows]) for what in ("said", "corrected")]
    assert off[1] < off[0]


def test_a_weak_probe_recovers_nothing_and_says_so(drawn: None) -> None:
    rows = list(recover(oracle(0.7), trials=1, pictures=30, calibration=20))
    assert all(row.corrected is None and row.covers is None and "too little" in str(row.reason) for row in rows)


def test_hidden_rates_leave_room_for_right_pictures() -> None:
    rng = np.random.default_rng(0)
    sums = [sum(hidden_rates(rng).values()) for _ in range(200)]
    assert min(sums) > 0 and max(sums) <= passports.MOST
    with pytest.raises(ValueError, match="at least 1 of 20"):
        list(recover(oracle(0), pictures=5))
    with pytest.raises(ValueError, match="tells no outcome"):
        list(recover(Oracle(lambda sample: 1.0, "noun")))


# Intervals.


def test_auc_intervals_equal_the_slow_way() -> None:
    rng = np.random.default_rng(1)
    x, so = np.round(rng.normal(size=60), 1), rng.random(60) < 0.4
    x[so] += 0.8
    yes, no = x[so], x[~so]
    v = np.array([np.mean([(a > b) + (a == b) / 2 for b in no]) for a in yes])
    w = np.array([np.mean([(a > b) + (a == b) / 2 for a in yes]) for b in no])
    area = auc(x, so)
    assert area == pytest.approx(v.mean()) == pytest.approx(w.mean())
    error = np.sqrt(v.var(ddof=1) / len(yes) + w.var(ddof=1) / len(no))
    half = 1.959964 * error / (area * (1 - area))
    logit = np.log(area / (1 - area))
    assert auc_interval(x, so) == pytest.approx([1 / (1 + np.exp(-(logit - half))), 1 / (1 + np.exp(-(logit + half)))])


def test_auc_intervals_cover() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        x, so = rng.normal(size=80), np.arange(80) < 40
        x[so] += 1.0
        low, high = auc_interval(x, so)
        held += low <= 0.7602 <= high  # normal distribution function at 1 / sqrt(2)
    assert held >= 275


def test_perfect_probes_are_not_certain() -> None:
    low, high = auc_interval([0, 0, 1, 1, 1], [0, 0, 1, 1, 1])
    assert (low, high) == wilson(2, 2)
    assert youden_interval(1, 1, (0.9, 1), (0.8, 1)) == pytest.approx((1 - np.hypot(0.1, 0.2), 1))
    with pytest.raises(ValueError, match="0 yes"):
        auc_interval([1.0], [0])


# Side by side.


def store_of(home: Path, say: dict[str, list[str | None]], yes: list[float | None]) -> Store:
    """A study of 12 prompts, one picture each, of which judges say outcomes and one gives a probability."""
    store = Store(home)
    cells = [
        Cell("s", (("p", i),), Prompt(f"p{i}", (), (Binding("a", "cup", "red"),)), Settings(), f"g{i}", "folder", "m")
        for i in range(12)
    ]
    pictures = [cell.image_id(0) for cell in cells]
    with store.open_run("s") as run:
        run.plan(cells, [0], lambda cell: "T2")
        run.add(*(Image(cell.image_id(0), cell.recipe(0), width=8, height=8) for cell in cells))
        for judge, told in say.items():
            for image, label in zip(pictures, told, strict=True):
                value, why = (None, "it could not tell") if label is None else (float(label == "correct"), None)
                run.add(Score(image, judge, f"{judge}-1-aaaa", "correct", "", value, label, why))
        for image, value in zip(pictures, yes, strict=True):
            why = None if value is not None else "why"
            run.add(Score(image, "vqascore", "vqascore-1-bbbb", "vqascore", "", value, None, why))
        run.add(Passport("detector", "detector-1-aaaa", "binding", 40, 0.9, 0.8, 0.95, 0.85, 0.7, 0.9, 0.75))
    store.publish()
    return store


@pytest.fixture
def told(tmp_path: Path) -> Store:
    detector: list[str | None] = ["correct"] * 6 + ["swap"] * 3 + ["neglect"] * 2 + [None]
    people: list[str | None] = ["correct"] * 5 + ["leak"] + ["swap"] * 3 + ["neglect"] * 3
    yes: list[float | None] = [0.9] * 6 + [0.8] * 3 + [0.1] * 2 + [None]
    return store_of(tmp_path, {"detector": detector, "human": people}, yes)


def test_judges_stand_side_by_side(told: Store) -> None:
    table = judges(told, "s").set_index("judge")
    assert list(table.index) == ["detector", "human", "vqascore"]
    assert table.loc["detector", "share"] == pytest.approx(6 / 11) and table.loc["detector", "not_measured"] == 1
    assert table.loc["human", "share"] == pytest.approx(5 / 12) and table.loc["vqascore", "share"] == pytest.approx(
        9 / 11
    )
    assert table.loc["detector", "youden"] == 0.75 and np.isnan(table.loc["human", "youden"])
    assert (table["low"] <= table["share"]).all() and (table["share"] <= table["high"]).all()


def test_judges_agree_as_counted_by_hand(told: Store) -> None:
    table = agreements(told, "s").set_index(["judge", "other", "question"])
    assert len(table) == 4
    outcome = table.loc[("detector", "human", "outcome")]
    assert outcome["n"] == 11 and outcome["observed"] == pytest.approx(10 / 11)
    shows = table.loc[("detector", "human", "shows it?")]
    assert shows["observed"] == pytest.approx(10 / 11)
    # Krippendorff by hand: 22 ratings, 11 yes, 11 no, and one pair that disagrees.
    assert shows["alpha"] == pytest.approx(1 - (1 / 11) / ((22**2 - 2 * 11**2) / (22 * 21)))
    assert (shows["share"], shows["other_share"]) == pytest.approx((6 / 11, 5 / 11))
    assert table.loc[("detector", "vqascore", "shows it?")]["observed"] == pytest.approx(8 / 11)


def test_judges_that_share_no_picture_have_no_agreement(tmp_path: Path) -> None:
    none: list[str | None] = [None] * 12
    store = store_of(tmp_path, {"detector": ["correct"] * 12, "human": none}, [None] * 12)
    table = agreements(store, "s").set_index(["judge", "other", "question"])
    row = table.loc[("detector", "human", "shows it?")]
    assert row["n"] == 0 and row["reason"] == "no unit has two ratings" and np.isnan(float(row["alpha"] or "nan"))
    assert ("detector", "human", "outcome") not in table.index
    assert len(judges(store, "s")) == 3
