"""Order, details together and rarity on planted data: salience cancels, hindrance is told from difficulty."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from places import ROOT
from promptlab.errors import PromptlabError
from promptlab.results.findings import compounding, order, rarity, sensitivity


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# P8, order.


def ordered(values: dict[str, tuple[tuple[float, float], tuple[float, float]]], seeds: int = 2) -> pd.DataFrame:
    """Values of (first, second) for the orders AB and BA of each prompt."""
    rows = [
        {"prompt_group": group, "seed": s, "order": name, "mention": m + 1, "value": pair[m]}
        for group, both in values.items()
        for name, pair in zip(("AB", "BA"), both, strict=True)
        for s in range(seeds)
        for m in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_salience_cancels_in_the_primacy_index() -> None:
    # A is always there and B never: nothing to do with order.
    found = order.primacy(ordered({f"p{j}": ((1, 0), (0, 1)) for j in range(8)}), rng=rng())
    assert found.estimate == 0 and found.p == 1 and found.n == 8 * 2 * 2
    led = order.primacy(ordered({f"p{j}": ((1, 0), (1, 1)) for j in range(8)}), rng=rng())
    assert led.estimate == 0.5 and led.p == pytest.approx(2 / 2**8)


def test_a_prompt_with_one_order_says_nothing() -> None:
    both = ordered({f"p{j}": ((1, 0), (1, 0)) for j in range(4)})
    lone = both[~((both["prompt_group"] == "p0") & (both["order"] == "BA"))]
    found = order.primacy(lone, rng=rng())
    assert found.n_groups == 3 and found.detail["prompts_without_both_orders"] == 1
    gap = both.assign(value=[None if i % 4 == 1 else v for i, v in enumerate(both["value"])])
    assert order.primacy(gap, rng=rng()).n_dropped > 0


def test_area_and_side_by_hand() -> None:
    found = order.area_share(ordered({f"p{j}": ((3, 1), (1, 1)) for j in range(3)}), rng=rng())
    assert found.estimate == pytest.approx((0.25 + 0) / 2)
    placed = order.side(ordered({f"p{j}": ((0.2, 0.8), (0.5, 0.5)) for j in range(3)}), rng=rng())
    assert placed.estimate == pytest.approx((0.5 + 0) / 2)
    nothing = order.area_share(ordered({"p": ((0, 0), (0, 0))}), rng=rng())
    assert nothing.estimate is None and nothing.reason
    with pytest.raises(ValueError, match="area below 0"):
        order.area_share(ordered({"p": ((-1, 0), (0, 0))}), rng=rng())


def test_order_refuses_what_it_cannot_pair() -> None:
    table = ordered({"p": ((1, 0), (0, 1))})
    with pytest.raises(ValueError, match="comes twice"):
        order.primacy(pd.concat([table, table]), rng=rng())
    with pytest.raises(ValueError, match="mention holds"):
        order.primacy(table.assign(mention=3), rng=rng())
    with pytest.raises(ValueError, match="no column 'order'"):
        order.primacy(table.drop(columns="order"), rng=rng())
    assert order.primacy(table[:0], rng=rng()).estimate is None


def test_sensitivity_stands_over_the_floor_of_paraphrases() -> None:
    rows = [
        (f"p{j}", s, kind, v) for j in range(9) for s in (0, 1) for kind, v in (("order", 0.3), ("paraphrase", 0.1))
    ]
    table = pd.DataFrame(rows, columns=["prompt_group", "seed", "kind", "value"])
    found = sensitivity.sensitivity(table, rng=rng())
    assert found.estimate == pytest.approx(0.2) and found.n_groups == 9 and found.n_pairs == 18
    null = sensitivity.sensitivity(table.assign(value=rng(2).random(len(table))), rng=rng())
    assert null.p is not None and null.p > 0.05
    with pytest.raises(ValueError, match="'paraphrase' are allowed"):
        sensitivity.sensitivity(table.assign(kind="same"), rng=rng())


# P10, details together.


def test_products_over_distinct_seeds_equal_the_slow_sum() -> None:
    draw = rng(5)
    for m, k in ((4, 2), (5, 3), (6, 4), (5, 5)):
        x = draw.random((m, k))
        slow = np.mean([np.prod([x[s, i] for i, s in enumerate(seeds)]) for seeds in permutations(range(m), k)])
        assert compounding.distinct_product(x) == pytest.approx(slow)
    with pytest.raises(ValueError, match="as many distinct seeds"):
        compounding.distinct_product(np.ones((2, 3)))


def details(draw: np.random.Generator, hinder: bool, prompts: int = 30, seeds: int = 8) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for j in range(prompts):
        rates = draw.uniform(0.4, 0.9, 2)
        for s in range(seeds):
            u = draw.random(2)
            x = u < rates
            if hinder:  # one uniform number serves both, from either end: right together as seldom as can be
                x = np.array([u[0] < rates[0], u[0] > 1 - rates[1]])
            rows += [{"prompt_group": j, "seed": s, "part": i, "value": float(x[i])} for i in (0, 1)]
    return pd.DataFrame(rows)


def test_compounding_tells_hindrance_from_independence() -> None:
    found = compounding.compounding(details(rng(1), True), rng=rng(), resamples=1000)
    assert found.estimate is not None and found.high is not None and found.high < 0
    assert found.p is not None and found.p <= 0.01
    ps, held = [], 0
    for k in range(60):
        null = compounding.compounding(details(rng(100 + k), False), rng=rng(k), resamples=400)
        assert null.low is not None and null.high is not None and null.p is not None
        held += null.low <= 0 <= null.high
        ps.append(null.p)
    assert held >= 52 and np.mean(np.array(ps) < 0.05) <= 0.12


def test_prompts_of_unequal_difficulty_do_not_compound() -> None:
    # Easy prompts get everything right, hard ones little: over all prompts that looks like details that come together.
    rows = [
        {"prompt_group": j, "seed": s, "part": i, "value": float(j % 2 == 0 or s == 2 * i)}
        for j in range(10)
        for s in range(8)
        for i in (0, 1)
    ]
    found = compounding.compounding(pd.DataFrame(rows), rng=rng(), resamples=400)
    assert found.estimate is not None and found.estimate < 0.02
    assert np.log(found.detail["all_right"] / found.detail["product_of_rates"]) > 0.4


def test_compounding_says_why_there_is_none() -> None:
    table = details(rng(1), False, 3)
    never = compounding.compounding(table.assign(value=0.0), rng=rng())
    assert never.estimate is None and never.reason and "never right" in never.reason
    few = compounding.compounding(table[table["seed"] == 0], rng=rng())
    assert few.estimate is None and few.reason and "2 images" in few.reason
    with pytest.raises(ValueError, match="1 details"):
        compounding.compounding(table[table["part"] == 0], rng=rng())
    with pytest.raises(ValueError, match="right, wrong or not measured"):
        compounding.compounding(table.assign(value=0.5), rng=rng())


# P16, rarity.


def combinations(slope: float, draw: np.random.Generator, n: int = 60, seeds: int = 8) -> pd.DataFrame:
    count = np.round(10 ** draw.uniform(0, 3, n))
    rate = 1 / (1 + np.exp(-(-1.5 + slope * np.log10(count))))
    rows = [
        {"prompt_group": j, "seed": s, "count": int(count[j]), "value": float(draw.random() < rate[j])}
        for j in range(n)
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


def test_logistic_fits_equal_those_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    table = combinations(1.0, rng(4))
    x = np.log10(table["count"].to_numpy(float))
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], table["value"])
    found = rarity.rarity_slope(table, rng=rng(), resamples=200)
    assert found.estimate == pytest.approx(other.coef_[0, 0], abs=1e-4)
    assert found.detail["intercept"] == pytest.approx(other.intercept_[0], abs=1e-4)


def test_planted_slopes_are_covered_and_nulls_stay_null() -> None:
    held, false = 0, 0
    for k in range(60):
        found = rarity.rarity_slope(combinations(0.8, rng(k)), rng=rng(k), resamples=300)
        assert found.low is not None and found.high is not None and found.p is not None and found.p < 0.05
        held += found.low <= 0.8 <= found.high
        null = rarity.rarity_slope(combinations(0.0, rng(500 + k)), rng=rng(k), resamples=200)
        assert null.p is not None
        false += null.p < 0.05
    assert held >= 53 and false <= 8


def test_no_slope_where_none_is_finite() -> None:
    table = combinations(1.0, rng(1))
    split = rarity.rarity_slope(table.assign(value=(table["count"] > 50).astype(float)), rng=rng())
    assert split.estimate is None and split.reason and "split exactly" in split.reason
    alike = rarity.rarity_slope(table.assign(value=1.0), rng=rng())
    assert alike.estimate is None
    one = rarity.rarity_slope(table.assign(count=5), rng=rng())
    assert one.estimate is None and one.reason and "different counts" in one.reason
    with pytest.raises(ValueError, match="two counts"):
        rarity.rarity_slope(table.assign(prompt_group=0), rng=rng())


def test_the_unseen_are_compared_with_the_seen() -> None:
    rows = [
        {"prompt_group": j, "seed": s, "count": 0 if j < 8 else 10, "value": float(s < (2 if j < 8 else 6))}
        for j in range(20)
        for s in range(8)
    ]
    table = pd.DataFrame(rows)
    found = rarity.held_out_gap(table, rng=rng())
    assert found.estimate == -0.5 and found.p is not None and found.p < 0.01
    assert found.detail == {"n_unseen": 8, "n_seen": 12, "unseen": 0.25, "seen": 0.75}
    assert rarity.rarity_slope(table, rng=rng()).detail["never_seen"] == 8
    assert rarity.held_out_gap(table[table["count"] > 0], rng=rng()).estimate is None


def test_the_shipped_counts_are_read(tmp_path: Path) -> None:
    counts = rarity.pair_counts(ROOT / "data" / "miniature" / "pair_counts.csv")
    assert len(counts) == 140 and all(n >= 0 for n in counts.values()) and ("ball", "red") in counts
    (tmp_path / "x.csv").write_text("noun,color\nball,red\n")
    with pytest.raises(PromptlabError, match="no table of counts"):
        rarity.pair_counts(tmp_path / "x.csv")
    with pytest.raises(PromptlabError, match="cannot be read"):
        rarity.pair_counts(tmp_path / "none.csv")
