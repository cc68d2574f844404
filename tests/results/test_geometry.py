"""Text geometry: shares of variance by hand, planted structure found, nothing found in noise, a bag without order."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from judges import random_clip
from promptlab.cli import app
from promptlab.errors import ModelError, PromptlabError
from promptlab.results.model_parts import (
    GRIDS,
    all_pairs,
    encoder,
    geometry,
    measure_grid,
    measure_primacy,
    partition,
    primacy,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def by_distances(states: np.ndarray, factor: int) -> float:
    """PERMANOVA's R2 as Anderson has it, from squared distances between all pairs of states."""
    index = list(product(*(range(n) for n in states.shape[:3])))
    total = within = 0.0
    n, group = len(index), len(index) / states.shape[factor]
    for i, a in enumerate(index):
        for b in index[i + 1 :]:
            d = float(((states[a] - states[b]) ** 2).sum())
            total += d / n
            within += d / group if a[factor] == b[factor] else 0.0
    return 1 - within / total


def test_shares_against_pairwise_distances() -> None:
    states = rng().normal(size=(3, 4, 2, 5)) + 7.0
    found = partition(states, rng=rng(), permutations=19)
    assert [found.noun, found.word, found.frame] == pytest.approx([by_distances(states, k) for k in range(3)])
    assert found.noun + found.word + found.frame + found.noun_word + found.rest == pytest.approx(1)


def test_a_grid_worked_by_hand() -> None:
    # one number a state: noun adds 0 or 2, word adds 0 or 4, frame adds nothing
    states = np.array([[[[0.0], [0.0]], [[4.0], [4.0]]], [[[2.0], [2.0]], [[6.0], [6.0]]]])
    found = partition(states, rng=rng(), permutations=99)
    assert [found.noun, found.word, found.frame, found.noun_word, found.rest] == pytest.approx([0.2, 0.8, 0, 0, 0])
    assert geometry(states, rng=rng(), permutations=19).additivity == pytest.approx(1)


def planted(meaning: str) -> np.ndarray:
    draw = rng()
    noun, word = draw.normal(size=(6, 1, 1, 24)), draw.normal(size=(1, 4, 1, 24))
    own = draw.normal(size=(6, 4, 1, 24))
    noise = 0.2 * draw.normal(size=(6, 4, 5, 24))
    return {"adds": noun + word + noise, "own": noun + own + noise, "nothing": 3 * noun + noise}[meaning]


def test_planted_structure_is_found() -> None:
    adds = geometry(planted("adds"), rng=rng(), permutations=199)
    assert adds.partition.p == 1 / 200 and adds.probe == 1 and adds.word_inside > 0.9
    assert adds.additivity is not None and adds.additivity > 0.97
    own = geometry(planted("own"), rng=rng(), permutations=199)
    # a place for each noun and word, but no direction that nouns share
    assert own.word_inside > 0.9 and own.probe is not None and own.probe < 0.6
    assert own.additivity is not None and own.additivity < 0.75
    assert own.silhouette_inside is not None and own.silhouette_inside > 0.7


def test_words_that_say_nothing_are_at_chance() -> None:
    none = geometry(planted("nothing"), rng=rng(), permutations=199)
    assert none.partition.p > 0.05 and none.partition.noun > 0.9
    assert none.word_inside == pytest.approx(none.word_inside_chance, abs=0.05)
    assert none.probe == pytest.approx(none.probe_chance, abs=0.2)
    assert none.ari_noun is not None and none.ari_noun > 0.9 and none.ari_word is not None and none.ari_word < 0.1
    assert none.silhouette_inside is not None and none.silhouette_inside < 0.1


def test_the_p_value_is_uniform_without_meaning() -> None:
    draw = rng()
    p = [partition(draw.normal(size=(3, 3, 4, 6)), rng=draw, permutations=39).p for _ in range(200)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.10 and 0.4 < np.mean(p) < 0.62


@pytest.mark.parametrize("shape", [(1, 3, 3, 4), (3, 1, 3, 4), (3, 3, 4)])
def test_too_small_a_grid_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 or more of each"):
        partition(np.ones(shape), rng=rng())


def test_equal_states_are_refused() -> None:
    with pytest.raises(ValueError, match="all states are equal"):
        geometry(np.ones((2, 2, 2, 3)), rng=rng())


def test_primacy_of_a_planted_lead() -> None:
    alone = rng().normal(size=(5, 30))
    pairs = all_pairs(5)
    first, second = (np.stack([alone[pair[i]] for pair in pairs]) for i in (0, 1))
    assert (primacy(np.stack([3 * first + second, 3 * second + first]), alone, pairs) > 0.3).all()
    assert (primacy(np.stack([first + 3 * second, second + 3 * first]), alone, pairs) < -0.3).all()
    assert primacy(np.stack([first + second] * 2), alone, pairs) == pytest.approx(0, abs=1e-12)


def test_grids_say_what_they_mean() -> None:
    for grid in GRIDS.values():
        texts = grid.texts()
        assert len({text for text, _, _ in texts}) == len(texts) == len(grid.nouns) * len(grid.words) * len(grid.frames)
        nouns = [noun for noun in grid.nouns for _ in range(len(grid.words) * len(grid.frames))]
        assert [text[a:b] for text, a, b in texts] == nouns
        assert not [text for text, _, _ in texts if " a orange" in f" {text}" or " a elephant" in f" {text}"]
    assert (len(GRIDS["verbs"].nouns), len(GRIDS["verbs"].words), len(GRIDS["verbs"].frames)) == (20, 8, 10)


def test_the_miniature_tells_poses_apart() -> None:
    pooled = measure_grid("miniature", "poses", permutations=99).geometry
    assert pooled.partition.p == 0.01 and pooled.word_inside > pooled.word_inside_chance + 0.1
    noun = measure_grid("miniature", "poses", "noun", permutations=19).geometry
    assert noun.word_inside != pooled.word_inside


def test_a_bag_of_words_has_no_order() -> None:
    things = ("cup", "chair", "ball", "car", "hat")
    bag, real = measure_primacy("miniature-bag", things), measure_primacy("miniature", things)
    assert bag["mean"] == pytest.approx(0, abs=1e-6) and abs(real["mean"]) > 1e-4 and real["n"] == 10
    # the noun's own token hears no word beside it
    states = encoder("miniature-bag").states(GRIDS["poses"].texts()[:6], "noun")
    assert np.ptp(states, axis=0).max() == pytest.approx(0, abs=1e-6)


def test_any_open_clip_checkpoint_by_the_same_command() -> None:
    model = f"local-dir:{random_clip()}"
    done = CliRunner().invoke(app, ["geometry", "--model", model, "--grid", "poses", "--permutations", "19", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert [one["at"] for one in said["grids"]] == ["pooled"]
    parts = said["grids"][0]["geometry"]["partition"]
    assert sum(parts[k] for k in ("noun", "word", "frame", "noun_word", "rest")) == pytest.approx(1)
    with pytest.raises(ModelError, match="pooled states alone"):
        measure_grid(model, "poses", "noun")


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(PromptlabError, match="no grid is called"):
        CliRunner().invoke(app, ["geometry", "--grid", "pose"], catch_exceptions=False)
    with pytest.raises(ModelError, match="no model"):
        encoder(str(tmp_path / "none"))
