"""Laws that hold for every probe, and the formulas of the single ones."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from judges import every_probe, random_clip, random_parser, some_looks, thing
from promptlab import plugins
from promptlab.analyzer.judges import clip, colour
from promptlab.analyzer.judges.clip import load_clip
from promptlab.analyzer.probes import Probe, Sample
from promptlab.analyzer.probes.binding import BindingOutcome
from promptlab.analyzer.probes.clip_contrast import ClipContrast, interaction, winoground
from promptlab.analyzer.probes.clip_phrases import ClipPhrases
from promptlab.analyzer.probes.clip_similarity import ClipSimilarity
from promptlab.analyzer.probes.diversity import Diversity, vendi
from promptlab.analyzer.probes.exposure import Exposure
from promptlab.errors import ModelError
from promptlab.miniature.drawing import render
from promptlab.miniature.world import Scene, Thing
from promptlab.records import Binding, Phrase, Prompt, Score, Settings

NAMES = plugins.names("probe")
Key = tuple[str, str, str]


@cache
def probes() -> dict[str, Probe]:
    return {probe.name: probe for probe in every_probe()}


@cache
def samples() -> tuple[Sample, ...]:
    return tuple(some_looks())


def table(probe: Probe, seen: Any) -> dict[Key, Score]:
    scores = list(probe.score(seen))
    found = {(score.image, score.measure, score.target): score for score in scores}
    assert len(found) == len(scores), "a score stands twice"
    return found


@cache
def scored(name: str) -> dict[Key, Score]:
    return table(probes()[name], samples())


def same(a: dict[Key, Score], b: dict[Key, Score]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].value == b[key].value, f"{key}: not the same to the last bit"
        assert (a[key].label, a[key].reason) == (b[key].label, b[key].reason), key


def test_all_probes_are_there() -> None:
    assert set(NAMES) >= {
        "binding",
        "blip_vqa",
        "detector",
        "vqascore",
        "clip_contrast",
        "clip_phrases",
        "clip_similarity",
        "diversity",
        "exposure",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_says_what_it_is(name: str) -> None:
    probe = probes()[name]
    assert probe.name == name and probe.version >= 1 and probe.id.startswith(f"{name}-{probe.version}-")
    assert probe.needs <= {"twin", "siblings", "model"} and probe.measures
    text = importlib.import_module(f"promptlab.analyzer.probes.{name}").__doc__ or ""
    assert "References:" in text or "Ours." in text
    for measure in probe.measures:
        assert measure.description and measure.references


def test_a_name_of_a_measure_means_one_thing() -> None:
    meant: dict[str, Any] = {}
    for probe in probes().values():
        names = [measure.name for measure in probe.measures]
        assert len(names) == len(set(names))
        for measure in probe.measures:
            assert meant.setdefault(measure.name, measure) == measure, "two probes mean two things by one name"


@pytest.mark.parametrize("name", NAMES)
def test_scores_keep_their_promises(name: str) -> None:
    probe = probes()[name]
    measures = {measure.name: measure for measure in probe.measures}
    for score in scored(name).values():
        assert (score.probe, score.probe_id) == (name, probe.id)
        measure = measures[score.measure]
        assert (score.value is None) == (score.reason is not None)
        if score.value is not None:
            assert np.isfinite(score.value)
            assert measure.lower is None or score.value >= measure.lower
            assert measure.upper is None or score.value <= measure.upper
    assert {image for image, _, _ in scored(name)} == {sample.image_id for sample in samples()}, (
        "a look without a score"
    )
    # a parser of random weights never finds both things that ablation asks for: see test_attention_probes.py
    assert any(score.value is not None for score in scored(name).values()) or name == "ablation"


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_says_what_its_looks_say_alone(name: str) -> None:
    alone: dict[Key, Score] = {}
    for sample in samples():
        alone |= table(probes()[name], [sample])
    same(scored(name), alone)


@pytest.mark.parametrize("name", NAMES)
def test_order_does_not_matter(name: str) -> None:
    mixed = list(samples())
    random.Random(5).shuffle(mixed)
    same(scored(name), table(probes()[name], mixed))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_look_at_gives_nothing(name: str) -> None:
    assert list(probes()[name].score([])) == []


def test_the_id_tells_weights_and_options_apart() -> None:
    one, other = (ClipSimilarity(f"local-dir:{random_clip(seed)}") for seed in (0, 1))
    assert one.id != other.id != ClipSimilarity(f"local-dir:{random_clip(1)}", prefix="A photo depicts ").id
    assert one.id == ClipSimilarity(f"local-dir:{random_clip(0)}").id


def test_a_missing_judge_is_named(tmp_path: Any) -> None:
    for probe in (BindingOutcome(tmp_path), ClipSimilarity(f"local-dir:{tmp_path}")):
        with pytest.raises(ModelError, match=str(tmp_path)):
            _ = probe.id


# The single probes.


def test_similarity_says_under_which_model() -> None:
    sample = samples()[0]
    long = replace(sample, prompt=Prompt("a red cup, " * 40))
    short, cut = ClipSimilarity(f"local-dir:{random_clip()}").score([sample, replace(long, image_id="long")])
    assert not short.detail["truncated"] and cut.detail["truncated"] and cut.detail["tokens"] > 77
    assert {"sha256", "activation", "precision", "resize_mode", "prefix", "scale"} <= short.detail.keys()


def test_similarity_of_no_prompt_is_none() -> None:
    (score,) = ClipSimilarity(f"local-dir:{random_clip()}").score([replace(samples()[0], prompt=Prompt(""))])
    assert score.value is None and score.reason == "the prompt is empty"


def test_phrases_leave_fillers_and_bare_attributes_out() -> None:
    text = "a red cup, very nice"
    phrases = (Phrase("cup", "a red cup", 0, 9, "object"), Phrase("cup.colour", "red", 2, 5, "attribute"))
    prompt = Prompt(text, (*phrases, Phrase("pad", "very nice", 11, 20, "filler")))
    scores = list(ClipPhrases(f"local-dir:{random_clip()}").score([replace(samples()[0], prompt=prompt)]))
    assert [(s.measure, s.target) for s in scores] == [("phrase_cosine", "cup"), ("weakest_object", "")]
    assert scores[0].value == scores[1].value


def test_the_weakest_object_is_the_least() -> None:
    found = {(s.measure, s.target): s.value for s in ClipPhrases(f"local-dir:{random_clip()}").score([samples()[0]])}
    first, second = found["phrase_cosine", "first"], found["phrase_cosine", "second"]
    assert first is not None and second is not None
    assert found["weakest_object", ""] == min(first, second)


def test_interaction_and_winoground_by_hand() -> None:
    assert interaction(0.5, 0.4, 0.2, 0.1) == pytest.approx(0.6)
    assert winoground(0.5, 0.4, 0.2, 0.1) == (True, True, True)
    assert winoground(0.5, 0.2, 0.4, 0.1) == (True, False, False)  # the twin's text prefers the first picture
    assert winoground(0.5, 0.2, 0.1, 0.3) == (False, True, False)  # the twin's picture prefers the first text
    assert winoground(0.3, 0.3, 0.3, 0.3) == (False, False, False)


def test_the_contrast_of_a_picture_and_its_twin() -> None:
    probe, sample = ClipContrast(f"local-dir:{random_clip()}"), samples()[4]
    assert sample.twin is not None
    model = load_clip(f"local-dir:{random_clip()}")
    x, y = model.images(np.stack([sample.pixels, sample.twin.pixels]))
    t, u = model.texts([sample.prompt.text, str(sample.prompt.swapped)])
    expected = float((x - y) @ (t - u))
    here = {s.measure: s for s in probe.score([sample])}["binding_contrast"]
    there = {s.measure: s for s in probe.score([replace(sample.twin, twin=sample)])}["binding_contrast"]
    assert here.value == pytest.approx(expected, abs=1e-6) and there.value == pytest.approx(expected, abs=1e-6)
    assert here.detail["twin"] == sample.twin.image_id
    # The same picture for both prompts tells nothing of binding.
    (nothing, *_) = probe.score([replace(sample, twin=replace(sample.twin, pixels=sample.pixels))])
    assert nothing.value == pytest.approx(0, abs=1e-6)


def test_the_contrast_says_why_there_is_none() -> None:
    probe = ClipContrast(f"local-dir:{random_clip()}")
    reasons = {str(s.reason) for s in probe.score([replace(samples()[4], twin=None), samples()[3]])}
    assert len(reasons) == 2 and any("no picture of the twin prompt" in reason for reason in reasons)


def test_exposure_by_hand() -> None:
    half = np.zeros((4, 4, 3), np.uint8)
    half[:2] = (255, 0, 0)
    half[2:] = 128
    found = {s.measure: s.value for s in Exposure().score([Sample("x", half, Prompt("x"), Settings(), 0)])}
    # rg is 255 or 0, yb 127.5 or 0: spreads 127.5 and 63.75, means the same.
    spread = np.hypot(127.5, 63.75)
    assert found["colourfulness"] == pytest.approx(1.3 * spread)
    assert found["clipped_share"] == 0.5
    luma = np.array([0.2126, 128 / 255])
    assert found["mean_luma"] == pytest.approx(luma.mean()) and found["rms_contrast"] == pytest.approx(luma.std())
    red = float(colour.chroma(colour.rgb_to_lab(np.array([255, 0, 0]))))
    assert found["mean_chroma"] == pytest.approx(red / 2) and found["p95_chroma"] == pytest.approx(red)


def test_exposure_keeps_its_bounds_at_the_extremes() -> None:
    for corner in np.ndindex(2, 2, 2):
        pixels = np.tile(np.array(corner, np.uint8) * 255, (8, 8, 1)).astype(np.uint8)
        scores = Exposure().score([Sample("x", pixels, Prompt("x"), Settings(), 0)])
        for score, measure in zip(scores, Exposure.measures, strict=True):
            assert score.value is not None and score.value >= 0
            assert measure.upper is None or score.value <= measure.upper


def cell(things: list[Thing | None]) -> list[Sample]:
    bare = [
        Sample(f"seed-{k}", render(Scene((thing,) if thing else (), seed=1)).image, Prompt("a cup"), Settings(), k)
        for k, thing in enumerate(things)
    ]
    return [replace(one, siblings=tuple(other for other in bare if other is not one)) for one in bare]


def diversity() -> Diversity:
    return Diversity(f"local-dir:{random_clip()}", parser=random_parser())


def test_alike_seeds_have_no_diversity() -> None:
    found = table(diversity(), cell([Thing("cup", "red")] * 3))
    assert [found[f"seed-{k}", "seed_distance", ""].value for k in range(3)] == pytest.approx([0, 0, 0], abs=1e-6)
    assert found["seed-0", "vendi", "seeds=3"].value == pytest.approx(1, abs=1e-4)
    assert found["seed-0", "scene_entropy", "seeds=3"].value == 0


def test_vendi_stands_once_and_is_that_of_the_embeddings() -> None:
    samples = cell([Thing("cup", "red"), Thing("car", "blue"), None, Thing("tree", "green")])
    found = table(diversity(), samples)
    assert [key for key in found if key[1] == "vendi"] == [("seed-0", "vendi", "seeds=4")]
    vectors = load_clip(f"local-dir:{random_clip()}").images(np.stack([sample.pixels for sample in samples]))
    assert found["seed-0", "vendi", "seeds=4"].value == pytest.approx(vendi(vectors), abs=1e-4)
    others = 1 - vectors[1:] @ vectors[0]
    assert found["seed-0", "seed_distance", ""].value == pytest.approx(others.mean(), abs=1e-5)


def test_entropy_of_an_object_counts_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    from promptlab.analyzer.judges.scene_parser import Scenes

    said = [(thing("cup", "red"),), (thing("cup", "blue", area=0.2), thing("cup", "red")), (), (thing("cup", "blue"),)]
    monkeypatch.setattr(Scenes, "read", lambda self, pictures: dict(zip(sorted(pictures), said, strict=True)))
    samples = [
        replace(sample, prompt=replace(sample.prompt, bindings=(Binding("mug", "mug", "red"),)))
        for sample in cell([None] * 4)
    ]
    found = table(diversity(), samples)
    # Its colours are red, blue (the larger), missing and blue; no two scenes are alike.
    assert found["seed-0", "object_entropy", "mug"].value == pytest.approx(1.5)
    assert found["seed-0", "scene_entropy", "seeds=4"].value == pytest.approx(2)


def test_nothing_heavy_is_imported_before_the_first_score() -> None:
    modules = [f"promptlab.analyzer.probes.{name}" for name in NAMES]
    modules += ["promptlab.analyzer.judges.clip", "promptlab.analyzer", "promptlab.analyzer.passports"]
    code = (
        f"import sys, {', '.join(modules)}; print({{'torch', 'open_clip', 'diffusers', 'duckdb'}} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_shipped_names_are_known() -> None:
    assert set(clip.SHIPPED) == {"miniature", "miniature-scorer"}
