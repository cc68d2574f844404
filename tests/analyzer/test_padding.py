"""The parts of a prompt's text states: where they lie, that nothing taken out changes nothing, what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judges import random_parser
from promptlab.analyzer import PlannedImage
from promptlab.analyzer.judges.colour import rgb_to_lab
from promptlab.analyzer.probes import Sample
from promptlab.analyzer.probes.padding import PARTS, Padding
from promptlab.errors import UntraceableError
from promptlab.generator.backends.diffusion import Diffusion, load
from promptlab.generator.models.attention import part_places, without
from promptlab.records import Cell, Prompt, Settings
from promptlab.run.tracing import Models
from tiny import job, pictures
from two_things import PROMPT, THINGS

TRACED = ("sd", "sdxl", "sd3", "flux-dev", "flux-schnell")
FULL = "a photo of " + "a very old " * 300 + "cup"


def scale(backend: Diffusion) -> float:
    return 4.0 if backend.able.guidance_kind == "true" else 1.0


@pytest.fixture(scope="module", params=TRACED)
def backend(request: pytest.FixtureRequest, family_folder: Callable[[str], Path]) -> Diffusion:
    return load(str(family_folder(request.param)), batch_size=3)


@pytest.mark.parametrize("text", ["a red cup", "", FULL])
def test_every_slot_but_the_first_mark_is_in_one_part(backend: Diffusion, text: str) -> None:
    parts = [part_places(backend, text, part) for part in ("words", "end", "padding")]
    together = sorted(place for part in parts for place in part)
    assert together == sorted(set(together)) == part_places(backend, text, "all")
    (states,) = backend.texts.rows([text])
    (slots,) = {states["prompt_embeds"].shape[0]}
    begun = {"StableDiffusion3Pipeline": 1, "FluxPipeline": 0}.get(backend.able.architecture.pipeline, 1)
    assert len(together) == slots - begun and together[-1] == slots - 1
    assert (not parts[2]) == (text == FULL) and (not parts[0]) == (text == "")


def test_parts_are_those_of_the_tokenizer(family_folder: Callable[[str], Path]) -> None:
    from transformers import CLIPTokenizer

    folder = family_folder("sd")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    backend = load(str(folder), batch_size=1)
    ids = tokenizer("a red cup", padding="max_length", max_length=77).input_ids
    end = ids.index(tokenizer.eos_token_id)
    assert part_places(backend, "a red cup", "words") == list(range(1, end))
    assert part_places(backend, "a red cup", "end") == [end]
    assert part_places(backend, "a red cup", "padding") == list(range(end + 1, 77))


def test_no_padding_no_change_to_the_last_bit(backend: Diffusion) -> None:
    for text in ("a red cup", FULL):
        one = job(text, scale(backend), 3)
        rest = pictures(backend, [one])[0]
        same, changed = without(backend, one, [[], part_places(backend, text, "padding")])
        assert np.array_equal(same, rest)
        assert np.array_equal(changed, rest) == (text == FULL)


def test_without_all_it_is_the_picture_of_the_empty_prompt(family_folder: Callable[[str], Path]) -> None:
    backend = load(str(family_folder("sd")), batch_size=3)
    one = job("a red cup", 4.0, 3)
    (changed,) = without(backend, one, [part_places(backend, "a red cup", "all")])
    assert np.array_equal(changed, pictures(backend, [job("", 4.0, 3)])[0])


def test_the_miniature_without_the_padding_that_is_not_there() -> None:
    settings = Settings(num_inference_steps=2, guidance_scale=5.0, height=128, width=128)
    models = Models()
    try:
        for text, changes in (("a red cup " + "and a blue chair " * 40, False), ("a red cup", True)):
            prompt = Prompt(text)
            model = models.of(PlannedImage(Cell("x", (), prompt, settings, "g"), 1))
            sample = Sample("x", np.zeros((128, 128, 3), np.uint8), prompt, settings, 1, model=model)
            scores = {(s.measure, s.target): s for s in Padding().score([sample])}
            assert (scores["part_change", "padding"].value != 0) == changes
            assert scores["part_change", "words"].value > 0
            assert scores["part_loss", ""].reason == "the prompt declares no object with a colour"
    finally:
        models.close()


class Told:
    """A model whose picture is grey, and lighter by so much without a part."""

    def __init__(self, **lighter: int) -> None:
        self.lighter = lighter

    def without_parts(self, parts: Any) -> Any:
        return [np.full((128, 128, 3), 100 + self.lighter.get(part or "", 0), np.uint8) for part in parts]


def scored(model: Any, prompt: Prompt = PROMPT, seen: Any = None) -> dict[tuple[str, str], Any]:
    probe = Padding(parser=random_parser())
    probe._scenes.read = lambda pictures: {  # type: ignore[method-assign]
        key: THINGS if seen is None or not key.isdigit() else seen[int(key)] for key in pictures
    }
    sample = Sample("x", np.zeros((128, 128, 3), np.uint8), prompt, Settings(), 0, model=model)
    return {(s.measure, s.target): s for s in probe.score([sample])}


def test_changes_and_shares_by_hand() -> None:
    scores = scored(Told(words=10, padding=40, all=60))
    light = [
        float(np.linalg.norm(np.diff(rgb_to_lab(np.array([[100] * 3, [100 + n] * 3])), axis=0))) for n in (10, 40, 60)
    ]
    assert scores["part_change", "words"].value == pytest.approx(light[0])
    assert scores["part_change", "end"].value == 0 == scores["part_share", "end"].value
    assert scores["part_share", "padding"].value == pytest.approx(light[1] / light[2])
    assert ("part_share", "all") not in scores
    assert "without any text" in scored(Told())["part_share", "words"].reason


def test_colours_that_go_with_a_part_are_lost() -> None:
    cup, chair = THINGS
    pale = replace(cup, colour="white")
    seen = (THINGS, (chair,), THINGS, (pale, chair), ())  # whole, then without words, end, padding, all
    scores = scored(Told(all=1), seen=seen)
    lost = {target: score.value for (measure, target), score in scores.items() if measure == "part_loss"}
    assert lost == {
        **{"words > first": 1, "end > first": 0, "padding > first": 1, "all > first": 1},
        **{"words > second": 0, "end > second": 0, "padding > second": 0, "all > second": 1},
    }
    won = scored(Told(all=1), seen=((pale, chair), *[THINGS] * 4))
    assert {won["part_loss", f"{part} > first"].value for part in PARTS} == {-1}


def test_what_cannot_be_traced_is_null_with_its_reason() -> None:
    class Refuses:
        def without_parts(self, _: Any) -> Any:
            raise UntraceableError("no such attention")

    for model, why in ((None, "no model here drew this picture"), (Refuses(), "no such attention")):
        scores = scored(model)
        assert len(scores) == 3 and all(s.value is None and why in s.reason for s in scores.values())
