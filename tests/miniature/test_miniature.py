"""The parts of the miniature: its pool, its parser, its text towers, and what stock libraries make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from promptlab.errors import ModelError
from promptlab.miniature.clip import ClipTokens, bag_encoder, build_clip, save_clip, text_encoder
from promptlab.miniature.drawing import render
from promptlab.miniature.parser import MIN_CELLS, build_parser, group_blocks, load_parser, parse
from promptlab.miniature.train import data
from promptlab.miniature.train.data import CELLS, LABELS, fill, label_map
from promptlab.miniature.train.networks import build_denoiser, build_vae, save_pipeline
from promptlab.miniature.world import CANVAS, COLOURS


def quiet(line: str) -> None:
    """Takes progress."""


# The pool and the parser


def test_an_interrupted_pool_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_CHUNK", 5)
    whole = fill(tmp_path, 3, 12, quiet)
    before = np.array(whole.pixels), np.array(whole.labels)
    pixels = np.load(tmp_path / "train_pixels.npy", mmap_mode="r+")
    pixels[5:10] = 0
    pixels[0] = 7  # of a chunk that is done: nobody draws it again
    pixels.flush()
    again = fill(tmp_path, 3, 12, quiet)
    assert (again.pixels[0] == 7).all()
    assert np.array_equal(again.pixels[1:], before[0][1:]) and np.array_equal(again.labels, before[1])
    assert np.array_equal(again.pixels[11], render(again.scene(11)).image)


def test_labels_are_what_covers_most_of_a_block() -> None:
    drawn = data.scene(1, 4)
    picture = render(drawn)
    labels = label_map(drawn.things, picture.ground_truth)
    assert labels.shape == (2, CELLS, CELLS)
    for t in picture.ground_truth:
        mask = t.mask.reshape(CELLS, 4, CELLS, 4).mean((1, 3)) == 1
        assert (labels[0][mask] == LABELS.index(t.noun) + 1).all()
        assert (labels[1][mask] == list(COLOURS).index(t.colour) + 1).all()
    bare = ~np.any([t.mask for t in picture.ground_truth], axis=0)
    assert not labels[:, bare.reshape(CELLS, 4, CELLS, 4).all((1, 3))].any()
    strange = tuple(replace(t, noun="cup+chair") for t in picture.ground_truth)
    assert set(np.unique(label_map(drawn.things, strange)[0])) == {0, LABELS.index("unknown") + 1}


def maps(*things: tuple[str, str, slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Certain probabilities of rectangles of blocks: noun, colour, rows, columns."""
    nouns, colours = np.zeros((1 + len(LABELS), CELLS, CELLS)), np.full((len(COLOURS), CELLS, CELLS), 0.01)
    nouns[0] = 1
    for noun, colour, rows, cols in things:
        nouns[:, rows, cols] = 0
        nouns[LABELS.index(noun) + 1, rows, cols] = 1
        colours[list(COLOURS).index(colour), rows, cols] = 0.9
    return nouns, colours


def test_blocks_become_things() -> None:
    chair = ("chair", "blue", slice(10, 20), slice(20, 28))
    cup = ("cup", "red", slice(4, 8), slice(2, 6))
    found = group_blocks(*maps(chair, cup))
    assert [(f.noun, f.colour) for f in found] == [("cup", "red"), ("chair", "blue")]
    assert found[0].box == (8, 16, 24, 32) and found[1].box == (80, 40, 112, 80)
    assert (
        found[0].area == 16 / CELLS**2
        and found[0].noun_certainty == 1
        and found[0].colour_certainty == pytest.approx(0.9)
    )
    assert group_blocks(*maps()) == ()
    assert group_blocks(*maps(("cup", "red", slice(0, 2), slice(0, MIN_CELLS // 2)))) == ()


def test_touching_things_are_two_and_crumbs_are_none() -> None:
    two = maps(("cup", "red", slice(0, 6), slice(0, 6)), ("chair", "blue", slice(0, 6), slice(6, 12)))
    assert [(f.noun, f.colour) for f in group_blocks(*two)] == [("cup", "red"), ("chair", "blue")]
    crumbs = maps(("cup", "red", slice(0, 8), slice(0, 8)), ("hat", "red", slice(0, 2), slice(8, 12)))
    assert [(f.noun, round(f.area * CELLS**2)) for f in group_blocks(*crumbs)] == [("cup", 72)]


def test_the_parser_reads_pictures_of_one_size_only(tmp_path: Path) -> None:
    model = build_parser(4).eval()
    pictures = np.zeros((3, CANVAS, CANVAS, 3), np.uint8)
    assert len(parse(pictures, model)) == 3
    for wrong in (pictures[:, :64], pictures.astype(np.float32), pictures[0]):
        with pytest.raises(ValueError, match="the scene parser reads uint8"):
            parse(wrong, model)
    with pytest.raises(ModelError, match="cannot load the scene parser from"):
        load_parser(tmp_path)


# Text towers, and what stock libraries make of what is saved


@pytest.fixture(scope="module")
def clip() -> Any:
    torch.manual_seed(5)
    model = build_clip(2, 2).eval()
    nn.init.normal_(model.positional_embedding, std=0.5)  # else position would hardly count
    return model


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Any:
    texts = ["a photo of a red cup and a blue chair", "a blue chair and a red cup", "", "a dog " * 60]
    return ClipTokens(tmp_path_factory.mktemp("tokens"))(texts)


def test_the_pipelines_encoder_is_the_text_tower(clip: Any, ids: Any) -> None:
    with torch.no_grad():
        states = text_encoder(clip, 2)(ids)[0]
        x = clip.token_embedding(ids) + clip.positional_embedding
        tower = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask))
    assert states.shape == tower.shape == (4, 77, 128)
    assert (states - tower).abs().max() < 1e-5


def test_the_bag_knows_no_order(clip: Any, ids: Any) -> None:
    bag, whole = bag_encoder(text_encoder(clip, 2)), text_encoder(clip, 2)
    order = torch.randperm(77, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(bag(ids[:, order])[0], bag(ids)[0][:, order])
        assert not torch.allclose(whole(ids[:, order])[0], whole(ids)[0][:, order], atol=1e-2)
        vectors = torch.nn.functional.layer_norm(
            clip.token_embedding(ids), (128,), clip.ln_final.weight, clip.ln_final.bias
        )
        assert (bag(ids)[0] - vectors).abs().max() < 1e-5


def test_open_clip_loads_what_is_saved(clip: Any, ids: Any, tmp_path: Path) -> None:
    import open_clip

    save_clip(clip, (2, 2), tmp_path)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    assert torch.equal(open_clip.get_tokenizer(f"local-dir:{tmp_path}")(["a blue chair and a red cup"]), ids[1:2])
    assert transform.transforms[0].size in (CANVAS, (CANVAS, CANVAS), [CANVAS, CANVAS])
    with torch.no_grad():
        ours, theirs = (m.float().encode_text(ids, normalize=True) for m in (clip, model.eval()))
    assert (ours - theirs).abs().max() < 5e-3  # half precision on the disk


def test_diffusers_loads_what_is_saved(clip: Any, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    torch.manual_seed(0)
    vae, unet = build_vae((16, 32, 64, 96)), build_denoiser((64, 128, 96), 4)
    save_pipeline(vae, text_encoder(clip, 2), unet, tmp_path)
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    for name in ("vae", "text_encoder", "unet"):
        assert {p.dtype for p in getattr(pipe, name).parameters()} == {torch.float32}, name
    made = pipe("a red cup", num_inference_steps=2, output_type="np").images
    assert made.shape == (1, CANVAS, CANVAS, 3) and np.isfinite(made).all()
    assert {f.suffix for f in (tmp_path / "pipeline").rglob("*") if f.is_file()} <= {".json", ".txt", ".safetensors"}
    assert pipe.vae_scale_factor == 8 and pipe.tokenizer.model_max_length == 77
