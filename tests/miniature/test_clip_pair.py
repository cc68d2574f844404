"""The CLIP pair's lessons: twins that differ in one thing, text without idle slots, silhouettes from places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.miniature.clip import ClipTokens, build_clip, encode_text
from promptlab.miniature.train.data import CELLS, colour_twin, noun_twin, places_head
from promptlab.miniature.world import HELD_OUT, Scene, sample_scene

SCENES = [sample_scene(np.random.default_rng([7, i])) for i in range(300)]


def pairs(scene: Scene) -> list[tuple[str, str]]:
    return [(t.noun, t.colour) for t in scene.things]


@pytest.fixture(scope="module")
def clip() -> Any:
    torch.manual_seed(0)
    return build_clip(2, 2).eval()


def test_text_without_idle_slots_is_open_clips_own(clip: Any, tmp_path: Path) -> None:
    texts = ["", "a red cup", "a red cup and a blue chair", " ".join(["cup"] * 100)]
    ids = ClipTokens(tmp_path)(texts)
    with torch.no_grad():
        whole = clip.encode_text(ids, normalize=True)
        # the last text fills all slots; without it the others are cut short
        assert torch.equal(encode_text(clip, ids), whole)
        torch.testing.assert_close(encode_text(clip, ids[:3]), whole[:3], atol=1e-6, rtol=0)


def test_a_noun_twin_is_another_noun_and_nothing_else() -> None:
    changed = set()
    for i, scene in enumerate(SCENES):
        twin, text, other = noun_twin(scene, i, "short")
        places = [k for k, (a, b) in enumerate(zip(pairs(scene), pairs(twin), strict=True)) if a != b]
        assert len(places) == 1, "one thing is another"
        (k,) = places
        (noun, colour), (new, same) = pairs(scene)[k], pairs(twin)[k]
        assert colour == same and noun != new and new not in {t.noun for t in scene.things}
        assert (new, same) not in HELD_OUT, "the generator's text encoder must not have seen it"
        assert (twin.things[k].pose is not None) == (new == "dog")
        assert text != other
        assert (twin.setting, twin.style, twin.relation, twin.seed) == (
            scene.setting,
            scene.style,
            scene.relation,
            scene.seed,
        )
        changed.add(k)
    assert changed == {0, 1, 2}
    assert noun_twin(SCENES[0], 5, "any") == noun_twin(SCENES[0], 5, "any")


def test_a_colour_twin_says_the_same_words_of_two_things() -> None:
    whole = 0
    for i, scene in enumerate(SCENES):
        twin, text, other = colour_twin(scene, i, "short")
        assert [t.noun for t in twin.things] == [t.noun for t in scene.things]
        assert text != other
        colours = [t.colour for t in scene.things]
        if len(set(colours[:2])) == 2:
            assert [t.colour for t in twin.things] == [colours[1], colours[0], *colours[2:]]
            words = [sorted(w.strip(",.") for w in t.lower().split() if w not in ("a", "an")) for t in (text, other)]
            if all(colour in words[0] for colour in colours[:2]):
                assert words[0] == words[1], "which words occur tells nothing"
                whole += 1
    assert whole > 50


def test_places_are_learned_and_the_head_leaves_no_trace(clip: Any) -> None:
    torch.manual_seed(0)
    model = build_clip(1, 4)
    before = set(model.state_dict())
    head = places_head(model.visual.layer3, 64)
    x, labels = torch.rand(2, 3, 128, 128), torch.zeros(2, CELLS, CELLS, dtype=torch.uint8)
    labels[:, :16] = 3
    x[:, :, :64] *= 0.2
    optimizer = torch.optim.Adam([*model.visual.parameters(), *head.parameters()], 1e-2)
    losses = []
    for _ in range(25):
        model.encode_image(x)
        loss = head.loss(labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 3
    head.leave()
    assert set(model.state_dict()) == before
    assert not model.visual.layer3._forward_hooks
