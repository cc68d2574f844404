"""The mixed model: against a closed form, against statsmodels, against planted variances, and where nothing is."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from promptlab.results.contrasts import Pairs
from promptlab.stats.mixed import Mixed, mixed_effect
from promptlab.stats.power import false_positive_rate


def drawn(
    n: int, m: int, effect: float, prompt: float, seed: float, rest: float, rng: np.random.Generator
) -> np.ndarray:
    """Differences (n prompts, m seeds) with these standard deviations."""
    shared = rng.normal(0, prompt, n)[:, None] + rng.normal(0, seed, m) if seed else rng.normal(0, prompt, n)[:, None]
    return np.asarray(effect + shared + rng.normal(0, rest, (n, m)))


def pairs(d: np.ndarray) -> Pairs:
    n, m = d.shape
    groups = tuple(f"p{j}" for j in range(n) for _ in range(m))
    return Pairs("x-1-0", tuple(map(float, d.ravel())), (0.0,) * d.size, groups, tuple(range(m)) * n)


def fitted(d: np.ndarray) -> Mixed:
    p = pairs(d)
    return mixed_effect(p.a, p.b, p.groups, p.seeds)


def test_balanced_pairs_have_a_closed_form() -> None:
    """Mean squares give variances, error and degrees of freedom, as long as no variance comes out below 0."""
    d = drawn(24, 8, 0.1, 0.3, 0.2, 0.5, np.random.default_rng(0))
    n, m = d.shape
    rest = ((d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()) ** 2).sum() / ((n - 1) * (m - 1))
    prompt, seed = m * d.mean(1).var(ddof=1), n * d.mean(0).var(ddof=1)
    assert prompt > rest and seed > rest
    top = prompt + seed - rest
    df = top**2 / (prompt**2 / (n - 1) + seed**2 / (m - 1) + rest**2 / ((n - 1) * (m - 1)))
    total = (prompt - rest) / m + (seed - rest) / n + rest
    found = fitted(d)
    assert found.estimate == pytest.approx(d.mean()) and found.df == pytest.approx(df, rel=1e-4)
    assert found.prompt_share == pytest.approx((prompt - rest) / m / total, abs=1e-5)
    assert found.seed_share == pytest.approx((seed - rest) / n / total, abs=1e-5)
    assert found.residual_sd == pytest.approx(rest**0.5, rel=1e-5)
    from scipy.stats import t

    assert found.low is not None and found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(t.ppf(0.975, df) * (top / n / m) ** 0.5, rel=1e-4)


def test_without_seeds_it_is_the_t_test_of_prompt_means() -> None:
    """Where seeds differ by less than chance, their variance comes out as 0 and the prompts alone remain."""
    from scipy.stats import ttest_1samp

    d = drawn(20, 4, 0.1, 0.5, 0.0, 0.3, np.random.default_rng(4))
    d -= d.mean(0) - d.mean()
    found = fitted(d)
    assert found.seed_share == 0 and found.df == pytest.approx(19, abs=1e-3)
    assert found.p == pytest.approx(ttest_1samp(d.mean(1), 0).pvalue, rel=0.02)
    one = fitted(d[:, :1])
    assert one.p == pytest.approx(ttest_1samp(d[:, 0], 0).pvalue) and one.df == 19
    assert one.prompt_share is None and one.seed_share is None and "prompt and seed cannot be told" in str(one.reason)


def test_statsmodels_finds_the_same() -> None:
    rng = np.random.default_rng(3)
    whole = pairs(drawn(16, 5, 0.2, 0.4, 0.3, 0.5, rng))
    holes = rng.random(80) < 0.2  # crossed, but no longer balanced
    gaps = Pairs(whole.probe_id, tuple(None if h else a for a, h in zip(whole.a, holes, strict=True)), *_rest(whole))
    for one in (whole, gaps):
        ours = mixed_effect(one.a, one.b, one.groups, one.seeds)
        theirs = fit_statsmodels(one, ours)
        assert theirs.estimate == pytest.approx(ours.estimate, rel=1e-3)
        for name in ("prompt_share", "seed_share", "residual_share", "residual_sd"):
            assert getattr(theirs, name) == pytest.approx(getattr(ours, name), abs=2e-3), name
        assert ours.low is not None and theirs.low is not None and ours.low < theirs.low, "t is wider than normal"
    assert ours.n_dropped == int(holes.sum())


def fit_statsmodels(pairs: Pairs, ours: Mixed) -> Mixed:
    """The same pairs by MixedLM, with normal quantiles in place of t; its factors are those that `ours` found."""
    import pandas as pd
    from statsmodels.regression.mixed_linear_model import MixedLM

    shares = {"prompts": ours.prompt_share, "seeds": ours.seed_share}
    factors = {name: f"0 + C({name})" for name, share in shares.items() if share is not None}
    frame = pd.DataFrame({"a": pairs.a, "b": pairs.b, "prompts": pairs.groups, "seeds": pairs.seeds, "all": 1})
    frame["d"] = frame["a"].astype(float) - frame["b"].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every variance near 0
        fit = MixedLM.from_formula("d ~ 1", frame.dropna(subset=["d"]), groups="all", vc_formula=factors).fit(reml=True)
    low, high = (float(bound) for bound in np.asarray(fit.conf_int(1 - ours.confidence))[0])
    variances = dict(zip(fit.model.exog_vc.names, map(float, fit.vcomp), strict=True))
    total = sum(variances.values()) + float(fit.scale)
    return replace(
        ours,
        estimate=float(fit.fe_params.iloc[0]),
        low=low,
        high=high,
        prompt_share=variances["prompts"] / total,
        seed_share=variances["seeds"] / total,
        residual_share=float(fit.scale) / total,
        residual_sd=float(np.sqrt(fit.scale)),
    )


def _rest(p: Pairs) -> tuple[tuple[float | None, ...], tuple[str, ...], tuple[int, ...]]:
    return p.b, p.groups, p.seeds


def test_planted_variances_are_recovered() -> None:
    rng = np.random.default_rng(1)
    found = [fitted(drawn(40, 12, 0.1, 0.3, 0.4, 0.5, rng)) for _ in range(40)]
    means = {k: np.mean([getattr(f, k) for f in found]) for k in ("prompt_share", "seed_share", "residual_share")}
    assert means["prompt_share"] == pytest.approx(0.18, abs=0.03)
    assert means["seed_share"] == pytest.approx(0.32, abs=0.06)
    assert means["residual_share"] == pytest.approx(0.50, abs=0.06)
    held = [f.low is not None and f.high is not None and f.low <= 0.1 <= f.high for f in found]
    assert np.mean(held) >= 0.85


def test_of_nothing_it_finds_five_per_cent() -> None:
    """Seeds that shift all prompts alike are no finding about other seeds."""
    rng = np.random.default_rng(2)
    ps = [fitted(drawn(16, 6, 0.0, 0.2, 0.3, 0.5, rng)).p for _ in range(200)]
    assert np.mean([p is not None and p < 0.05 for p in ps]) <= 0.09
    found = false_positive_rate(simulations=120, resamples=199, n_seeds=4, rng=np.random.default_rng(0))
    assert found.mixed <= 0.11 < found.image_level


def test_what_cannot_be_told_is_none_with_a_reason() -> None:
    assert mixed_effect([], [], [], []).reason == "no pair was measured in both arms"
    assert "one prompt" in str(mixed_effect([1, 2], [0, 0], ["a", "a"], [0, 1]).reason)
    same = mixed_effect([1, 1, 1, 1], [0, 0, 0, 0], ["a", "a", "b", "b"], [0, 1, 0, 1])
    assert same.estimate == 1 and same.low is None and "same difference" in str(same.reason)
    two = fitted(np.array([[0.0, 1.0], [0.1, 1.2], [0.0, 0.9]]))
    assert two.df is not None and two.df < 2 and "so few prompts or seeds" in str(two.reason)
    with pytest.raises(ValueError, match="equal lengths"):
        mixed_effect([1], [1], ["a"], [])
    with pytest.raises(ValueError, match="confidence"):
        mixed_effect([1], [1], ["a"], [0], confidence=95)
