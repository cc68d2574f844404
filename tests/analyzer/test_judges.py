"""Judges of photographs: loaded from a folder as real ones are, and each against a twin that takes the long way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judges import some_looks
from promptlab import plugins
from promptlab.analyzer.judges import vqa
from promptlab.analyzer.judges.vqa import open_judge
from promptlab.analyzer.probes import Sample
from promptlab.analyzer.probes.blip_vqa import BlipVqa
from promptlab.analyzer.probes.detector import Detector
from promptlab.analyzer.probes.vqascore import TEMPLATE, VqaScore
from promptlab.errors import ModelError, PromptlabError
from promptlab.records import Binding, Prompt, Score
from tiny_judges import tiny_blip, tiny_dino, tiny_owl, tiny_qwen, tiny_vlm


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Two objects, two objects of which one is missing, and a picture that is not square."""
    made = some_looks()
    return [made[0], made[1], made[6]]


def found(scores: Any, sample: Sample) -> dict[tuple[str, str], Score]:
    return {(score.measure, score.target): score for score in scores if score.image == sample.image_id}


# BLIP-VQA.


def test_answers_are_those_of_transformers_own_generation(samples: list[Sample]) -> None:
    import torch

    probe = BlipVqa(str(tiny_blip()), 32)
    judge = open_judge(str(tiny_blip()), "BlipForQuestionAnswering")
    asked = ["a red cup?", "a very large blue chair?", "a dog?"]  # unequal lengths: the twin never pads
    for sample in samples:
        for question, said in zip(asked, probe.answers(sample, asked), strict=True):
            inputs = judge.processor(
                images=sample.pixels, text=question, size={"height": 32, "width": 32}, return_tensors="pt"
            )
            with torch.inference_mode():
                out = judge.model.generate(
                    **inputs,
                    interpolate_pos_encoding=True,
                    max_new_tokens=1,
                    output_scores=True,
                    return_dict_in_generate=True,
                )
            words = torch.softmax(out.scores[0][0].double(), 0)
            yes, no = (float(words[judge.processor.tokenizer.convert_tokens_to_ids(w)]) for w in ("yes", "no"))
            assert said == pytest.approx(yes / (yes + no), abs=1e-5)


def test_blip_scores_say_what_they_asked(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"a red cup?": 0.9, "a cup?": 0.8, "a blue cup?": 0.1, "a blue orange?": 0.7, "an orange?": 0.9}
    said["a red orange?"] = 0.2
    from promptlab.study.prompts import ObjectSpec, PromptSpec, render

    objects = {"first": {"noun": "cup", "colour": "red"}, "second": {"noun": "orange", "colour": "blue"}}
    spec = PromptSpec(
        template="{first} and {second}", objects={k: ObjectSpec.model_validate(v) for k, v in objects.items()}
    )
    sample = replace(samples[0], prompt=render(spec))
    asked: list[str] = []

    def answers(self: BlipVqa, sample: Sample, questions: list[str]) -> list[float]:
        asked.extend(questions)
        return [said[question] for question in questions]

    monkeypatch.setattr(BlipVqa, "answers", answers)
    scores = found(BlipVqa(str(tiny_blip()), 32).score([sample]), sample)
    assert sorted(asked) == sorted(said)
    assert scores["blip_vqa", ""].value == pytest.approx(0.9 * 0.7)
    assert scores["vqa_contrast", ""].value == pytest.approx(0.7 - 0.2)
    assert scores["correct", ""].label == "correct" and scores["fused", ""].value is None
    said |= {"a red cup?": 0.3, "a blue cup?": 0.6, "a blue orange?": 0.4, "a red orange?": 0.8}
    assert found(BlipVqa(str(tiny_blip()), 32).score([sample]), sample)["correct", ""].label == "swap"
    said["an orange?"] = 0.4
    scores = found(BlipVqa(str(tiny_blip()), 32).score([sample]), sample)
    assert scores["correct", ""].label == "neglect" and scores["accuracy", ""].value is None
    assert scores["vqa_contrast", ""].value is None and "sees no orange" in str(scores["vqa_contrast", ""].reason)


# VQAScore.


@pytest.mark.parametrize("folder", [tiny_vlm, tiny_qwen])
def test_vqascore_equals_one_token_after_the_other(folder: Any, samples: list[Sample]) -> None:
    import torch
    from PIL import Image

    probe = VqaScore(str(folder()))
    judge = open_judge(str(folder()), "AutoModelForImageTextToText")
    answer = judge.processor.tokenizer("Yes", add_special_tokens=False)["input_ids"]
    assert len(answer) > 1, "the tiny tokenizer splits Yes, so that the geometric mean is tested too"
    for sample in samples:
        said = found(probe.score([sample]), sample)["vqascore", ""].value
        question = TEMPLATE.replace("{text}", sample.prompt.text)
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        text = judge.processor.apply_chat_template(chat, add_generation_prompt=True)
        picture = Image.fromarray(sample.pixels)
        logs = []
        for k in range(len(answer)):
            # What was answered so far stands in the text itself.
            so_far = text + judge.processor.tokenizer.decode(answer[:k])
            inputs = judge.processor(text=[so_far], images=[picture], return_tensors="pt")
            with torch.inference_mode():
                logits = judge.model(**inputs).logits[0, -1].double()
            logs.append(float(torch.log_softmax(logits, 0)[answer[k]]))
        assert said == pytest.approx(np.exp(np.mean(logs)), rel=1e-4)


def test_vqascore_of_nothing_and_of_braces(samples: list[Sample]) -> None:
    probe = VqaScore(str(tiny_vlm()))
    empty = list(probe.score([replace(samples[0], prompt=Prompt(""))]))
    assert [score.reason for score in empty] == ["the prompt is empty"] * 3
    (score, *rest) = probe.score([replace(samples[0], prompt=Prompt("a {cup} {text}"))])
    assert score.value is not None and all(one.value is None for one in rest)
    with pytest.raises(ModelError, match=r"has no \{text\}"):
        VqaScore(str(tiny_vlm()), template="Is it?")


# Detectors.


@pytest.mark.parametrize(("folder", "threshold"), [(tiny_owl, 0.3), (tiny_dino, 0.6)])
def test_boxes_equal_those_by_hand(folder: Any, threshold: float, samples: list[Sample]) -> None:
    import torch
    from PIL import Image

    probe, judge = Detector(str(folder()), threshold), open_judge(str(folder()), "AutoModelForZeroShotObjectDetection")
    some = 0
    for sample in samples:
        height, width = sample.pixels.shape[:2]
        dino = judge.model.config.model_type == "grounding-dino"
        text = "cup." if dino else [["a photo of a cup"]]
        inputs = judge.processor(text=text, images=Image.fromarray(sample.pixels), return_tensors="pt")
        with torch.inference_mode():
            out = judge.model(**inputs)
        # OWLv2 pads the picture to a square, so that its boxes are shares of the longer side.
        across, down = (width, height) if dino else (max(width, height),) * 2
        by_hand = []
        for row, box in zip(out.logits[0].double().tolist(), out.pred_boxes[0].double().tolist(), strict=True):
            score = max(1 / (1 + np.exp(-x)) for x in row)
            x, y, w, h = box
            corners = ((x - w / 2) * across, (y - h / 2) * down, (x + w / 2) * across, (y + h / 2) * down)
            if score > threshold and corners[2] >= corners[0] + 1 and corners[3] >= corners[1] + 1:
                by_hand.append((score, corners))
        made = list(probe._boxes(sample, "cup"))
        assert len(made) == len(by_hand)
        for one, (score, corners) in zip(made, by_hand, strict=True):
            assert one.score == pytest.approx(score, abs=1e-5) and one.box == pytest.approx(corners, abs=1e-3)
        some += len(made)
    assert some > 0, "the twin compares nothing"


def test_a_colour_that_is_none_is_named(samples: list[Sample]) -> None:
    bindings = (Binding("first", "cup", "crimson"), Binding("second", "chair", "blue"))
    sample = replace(samples[0], prompt=replace(samples[0].prompt, bindings=bindings))
    scores = found(Detector(str(tiny_owl()), 0.01).score([sample]), sample)
    assert scores["correct", ""].value is None and "crimson" in str(scores["correct", ""].reason)
    assert scores["colour", "first"].value is None and "crimson" in str(scores["colour", "first"].reason)
    assert scores["noun", "first"].value is not None


# Files.


@pytest.mark.parametrize("name", ["blip_vqa", "vqascore", "detector"])
def test_a_missing_judge_says_how_to_get_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"not on this disk.*hf download .*--include"):
        _ = plugins.load("probe", name).id
    with pytest.raises(ModelError, match="no folder"):
        _ = plugins.load("probe", name, model=str(tmp_path / "none")).id
    with pytest.raises(ModelError, match=r"no config\.json"):
        _ = plugins.load("probe", name, model=str(tmp_path)).id


def test_no_pickle_and_no_other_kind(tmp_path: Path) -> None:
    shutil.copytree(tiny_blip(), tmp_path / "x")
    weights = tmp_path / "x" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ModelError, match="as safetensors"):
        _ = BlipVqa(str(tmp_path / "x")).id
    with pytest.raises(ModelError, match=r"kind 'blip'.*owlv2"):
        Detector(str(tiny_blip())).detections(some_looks()[0], ["cup"])
    with pytest.raises(ModelError, match="kind 'owlv2'"):
        list(BlipVqa(str(tiny_owl())).score(some_looks()[:1]))


def test_a_judge_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_vlm(), folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(PromptlabError, match="no chat template"):
        list(VqaScore(str(folder)).score(some_looks()[:1]))
    (folder / "config.json").write_text(json.dumps({"model_type": "no-such-kind"}))
    vqa._open.cache_clear()
    with pytest.raises(ModelError, match="cannot be loaded"):
        list(VqaScore(str(folder)).score(some_looks()[:1]))


def test_identity_follows_the_files(tmp_path: Path) -> None:
    shutil.copytree(tiny_owl(), tmp_path / "x")
    assert Detector(str(tmp_path / "x")).id == Detector(str(tiny_owl())).id
    assert Detector(str(tmp_path / "x"), least=0.5).id != Detector(str(tiny_owl())).id
    assert Detector(str(tiny_owl(1))).id != Detector(str(tiny_owl())).id
    settings = tmp_path / "x" / "processor_config.json"
    settings.write_text(settings.read_text() + "\n")
    assert Detector(str(tmp_path / "x")).id != Detector(str(tiny_owl())).id
