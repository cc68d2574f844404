"""The rule from an effect to a verdict, and the claims that ship."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from promptlab.claims import VERDICTS, Claim, figure, load_claims, settle, verdict
from promptlab.errors import PromptlabError, StudyError
from promptlab.records import ContrastEffect
from promptlab.resources import claims_folder
from promptlab.stats.paired import paired_effect
from promptlab.study.study import load_study


@pytest.mark.parametrize(
    ("expects", "estimate", "low", "high", "p", "said"),
    [
        ("more", 0.2, 0.1, 0.3, 0.001, "supported"),
        ("more", 0.05, 0.01, 0.3, 0.01, "partly"),
        ("more", 0.05, 0.01, 0.09, 0.01, "partly"),
        ("more", 0.2, 0.1, 0.3, 0.2, "not testable here"),  # not after Holm
        ("more", 0.0, -0.05, 0.05, 1.0, "contradicted"),
        ("more", -0.2, -0.3, -0.1, 0.001, "contradicted"),
        ("more", 0.1, -0.2, 0.4, 0.5, "not testable here"),
        ("same", 0.01, -0.05, 0.06, 0.7, "supported"),
        ("same", 0.03, 0.01, 0.05, 0.01, "supported"),
        ("same", 0.3, 0.2, 0.4, 0.001, "contradicted"),
        ("same", -0.3, -0.4, -0.2, 0.001, "contradicted"),
        ("same", 0.09, 0.02, 0.2, 0.01, "partly"),
        ("same", 0.0, -0.2, 0.2, 1.0, "not testable here"),
        ("more", None, None, None, None, "not testable here"),
        ("more", 0.2, None, None, None, "not testable here"),
    ],
)
def test_the_rule(
    expects: str, estimate: float | None, low: float | None, high: float | None, p: float | None, said: str
) -> None:
    assert verdict(expects, 0.1, estimate, low, high, p) == said
    if expects == "more":
        turned = (None if v is None else -v for v in (estimate, high, low))
        assert verdict("less", 0.1, *turned, p) == said


def test_exact_claims_and_wrong_margins() -> None:
    assert verdict("exactly", 0, 0.0, None, None, None) == "supported"
    assert verdict("exactly", 0, 4.0, None, None, None) == "contradicted"
    assert verdict("exactly", 0, None, None, None, None) == "not testable here"
    for expects, margin in (("more", 0.0), ("more", -1.0), ("exactly", 0.1)):
        with pytest.raises(ValueError, match="margin"):
            verdict(expects, margin, 0.0, 0.0, 0.0, 1.0)


def test_the_claims_that_ship_are_whole() -> None:
    claims = load_claims()
    ids = "C1, C2, C3, C4, C5a, C5b, C5c, C6, C7, C8, C9, C9b, C10, C11, C12"
    assert ", ".join(c.id for c in claims) == ids
    for claim in claims:
        if claim.contrast is not None:
            contrasts = {c.name: c for c in load_study(claim.study).contrasts}
            assert contrasts[claim.contrast].family == "confirmatory", claim.id


def small(**changes: object) -> Claim:
    given = {"id": "C1", "claim": "It helps", "source": "x", "analysis": "rarity", "expects": "more", "margin": 0.1}
    return Claim.model_validate({**given, "design": "d", "size": "s", "comparator": "c", **changes})


def effect_of(values: np.ndarray) -> ContrastEffect:
    names = [str(i) for i in range(len(values))]
    found = paired_effect(values.tolist(), [0.0] * len(values), names, rng=np.random.default_rng(0), resamples=5000)
    return ContrastEffect(
        "s", "c", "p", "p-1-00000000", "m", estimate=found.estimate, low=found.low, high=found.high, p=found.p
    )


def test_planted_effects_are_found_and_nulls_stay_nulls() -> None:
    rng = np.random.default_rng(7)
    said = []
    for shift in (0.3, 0.0):
        effects = [effect_of(rng.normal(shift, 0.1, 30)) for _ in range(40)]
        said.append([one.verdict for one in settle([small(id=f"C{i + 1}") for i in range(40)], effects)])
    assert said[0].count("supported") == 40
    assert said[1].count("supported") == 0 and said[1].count("contradicted") >= 38


def test_holm_spans_the_set() -> None:
    rng = np.random.default_rng(3)
    drawn = (effect_of(rng.normal(0.06, 0.1, 14)) for _ in range(50))
    weak = next(one for one in drawn if one.p is not None and 0.01 < one.p < 0.04 and one.low and one.low > 0)
    alone = settle([small(margin=0.01)], [weak])[0]
    many = settle([small(id=f"C{i + 1}", margin=0.01) for i in range(12)], [weak] * 12)[0]
    assert alone.verdict == "supported" and many.verdict == "not testable here"


@pytest.mark.parametrize("reason", [None, "there is <no> picture & nothing"])
def test_a_figure_is_whole_and_holds_words_only(reason: str | None) -> None:
    effect = effect_of(np.array([0.2, 0.3, 0.25, 0.1, 0.22, 0.31, 0.18]))
    if reason:
        effect = replace(effect, estimate=None, low=None, high=None, reason=reason)
    one = settle([small(claim="<script>alert(1)</script> & more")], [effect])[0]
    drawn = figure(one)
    tree = ElementTree.fromstring(drawn)
    title = tree.find("{http://www.w3.org/2000/svg}title")
    assert title is not None and title.text == f"C1: <script>alert(1)</script> & more. Verdict: {one.verdict}"
    words = "".join(tree.itertext())
    assert f"Elsewhere: {one.claim.comparator}" in words and (reason or "difference in: m") in words
    assert reason or "0 prompts" not in drawn
    assert "<script" not in drawn and one.verdict in VERDICTS and one.verdict in drawn


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"analysis": "x"}, "a claim has one endpoint"),
        ({"margin": 0}, "the margin is 0 where"),
        ({"contrst": "x"}, "did you mean 'contrast'"),
    ],
)
def test_a_mistake_has_its_place(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    import yaml

    written = yaml.safe_load((claims_folder() / "c8_important_first.yaml").read_text("utf-8"))
    (tmp_path / "c8.yaml").write_text(yaml.safe_dump(written | changed), encoding="utf-8")
    with pytest.raises(StudyError, match=said) as caught:
        load_claims(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "c8.yaml:"))
    with pytest.raises(PromptlabError, match="no claim 'C99'"):
        load_claims(only=["C99"])
