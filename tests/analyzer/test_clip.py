"""The CLIP wrapper scores what open_clip scores, and says under what conditions."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judges import random_clip
from promptlab.analyzer.judges.clip import ROWS, SHIPPED, Clip, Length, checkpoint_of, identity, load_clip
from promptlab.errors import ModelError

TEXTS = ["a red cup and a blue chair", "a dog", "A Blue  cup", "", "a red cup, " * 60]


def model() -> Clip:
    return load_clip(f"local-dir:{random_clip()}")


def noise(height: int, width: int, n: int = 1, seed: int = 0) -> np.ndarray:
    """Smooth noise, so that resizing has something to keep."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3))
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return np.ascontiguousarray(coarse[:, rows][:, :, columns], np.uint8)


@cache
def own(resize_mode: str | None = None) -> tuple[Any, Any, Any]:
    import open_clip

    name = f"local-dir:{random_clip()}"
    network, _, preprocess = open_clip.create_model_and_transforms(name, image_resize_mode=resize_mode)
    return network.eval(), preprocess, open_clip.get_tokenizer(name)


def own_cosines(pixels: np.ndarray, texts: list[str], resize_mode: str | None = None) -> np.ndarray:
    """As open_clip's README does it, one picture and one text at a time."""
    import torch
    from PIL import Image

    network, preprocess, tokenizer = own(resize_mode)
    rows = []
    with torch.no_grad():
        for picture in pixels:
            u = network.encode_image(preprocess(Image.fromarray(picture)).unsqueeze(0))
            u = u / u.norm(dim=-1, keepdim=True)
            vs = [network.encode_text(tokenizer([text])) for text in texts]
            rows.append([float((u @ (v / v.norm(dim=-1, keepdim=True)).T).item()) for v in vs])
    return np.array(rows)


@pytest.mark.parametrize("side", [128, 64, 200])
def test_cosines_are_open_clips_own(side: int) -> None:
    pixels = noise(side, side, 3)
    ours = model().images(pixels) @ model().texts(TEXTS).T
    assert ours == pytest.approx(own_cosines(pixels, TEXTS), abs=1e-5)


@pytest.mark.parametrize("shape", [(64, 128), (200, 90)])
def test_pictures_that_are_not_square_are_letterboxed_by_open_clips_own_mode(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    ours = model().images(pixels) @ model().texts(TEXTS).T
    assert ours == pytest.approx(own_cosines(pixels, TEXTS, "longest"), abs=1e-5)
    edge = pixels.copy()
    edge[:, : max(shape[0] // 8, 1), : max(shape[1] // 8, 1)] ^= 255
    assert not np.array_equal(model().images(pixels), model().images(edge)), "a corner was cropped away"


def test_vectors_are_unit_float32() -> None:
    for vectors in (model().images(noise(128, 128, 2)), model().texts(TEXTS)):
        assert vectors.dtype == np.float32 and vectors.shape[1] == 128
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_batch_is_one_by_one() -> None:
    pixels = noise(128, 128, 67)
    together = model().images(pixels)
    alone = np.concatenate([model().images(pixels[i : i + 1]) for i in (0, 63, 64, 66)])
    assert np.array_equal(together[[0, 63, 64, 66]], alone), "bits depend on what else is in the batch"


def test_pictures_of_any_size_come_back_by_name() -> None:
    shown = {"a": noise(128, 128)[0], "b": noise(64, 32)[0], "c": noise(128, 128, seed=1)[0]}
    found = model().pictures(shown)
    assert found.keys() == shown.keys()
    assert all(found[key] == pytest.approx(model().images(shown[key][None])[0], abs=1e-5) for key in shown)


def test_a_picture_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, asked = model(), []
    encode = clip._model.encode_image

    def counted(ready: Any, **options: Any) -> Any:
        asked.append(len(ready))
        return encode(ready, **options)

    monkeypatch.setattr(clip._model, "encode_image", counted)
    one, other = noise(128, 128, 2, seed=7)
    first = clip.pictures({"a": one, "b": other, "c": one.copy()})
    again = clip.pictures({"x": other, "y": one})
    assert asked == [ROWS] and np.array_equal(first["a"], first["c"])
    assert np.array_equal(first["a"], again["y"]) and np.array_equal(first["b"], again["x"])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = model()
    expected = clip.texts(TEXTS)
    monkeypatch.setattr("promptlab.analyzer.judges.clip.MAX_CACHED", 3)
    for some in (TEXTS[:2], TEXTS[1:4]):
        assert clip.texts(some) == pytest.approx(expected[TEXTS.index(some[0]) :][: len(some)], abs=1e-6)
    for k in range(3):
        shown = {str(i): picture for i, picture in enumerate(noise(128, 128, 2, seed=k))}
        assert clip.pictures(shown).keys() == shown.keys()
    assert len(clip._known) <= 3 and len(clip._seen) <= 3


def test_nothing_gives_nothing() -> None:
    assert model().images(np.zeros((0, 128, 128, 3), np.uint8)).shape == (0, 128)
    assert model().texts([]).shape == (0, 128) and model().pictures({}) == {}


@pytest.mark.parametrize(("shape", "kind"), [((1, 8, 8, 3), float), ((8, 8, 3), np.uint8), ((1, 8, 8, 4), np.uint8)])
def test_other_arrays_are_refused(shape: tuple[int, ...], kind: type) -> None:
    with pytest.raises(ValueError, match="uint8"):
        model().images(np.zeros(shape, kind))


def test_a_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, asked = model(), []
    encode = clip._model.encode_text

    def counted(tokens: Any, **options: Any) -> Any:
        asked.append(len(tokens))
        return encode(tokens, **options)

    monkeypatch.setattr(clip._model, "encode_text", counted)
    first = clip.texts(["a new text", "another", "a new text"])
    again = clip.texts(["another", "a new text"])
    assert asked == [ROWS] and np.array_equal(first[[1, 0]], again) and np.array_equal(first[0], first[2])


@pytest.mark.parametrize("words", [0, 1, 74, 75, 76, 200])
def test_the_length_of_a_text_and_what_is_cut(words: int) -> None:
    text = " ".join(["cup"] * words)
    assert model().tokens(text) == Length(words + 2, 77)
    assert model().tokens(text).truncated == (words > 75)
    tokens = model()._tokenizer([text])[0]
    assert tokens.shape == (77,) and tokens[min(words, 75) + 1] == tokens.max(), "the end mark is gone"


def test_what_lies_beyond_the_window_changes_nothing() -> None:
    clip, cups = model(), " ".join(["cup"] * 75)
    whole, more, fewer = clip.texts([cups, f"{cups} and a dog", " ".join(["cup"] * 70)])
    assert np.array_equal(whole, more) and not np.allclose(whole, fewer, atol=1e-4)


def test_open_clips_plain_tokenizer_is_counted_alike() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    clip = object.__new__(Clip)
    clip._tokenizer, clip.provenance = SimpleTokenizer(), {"prefix": "", "context_length": 77}
    for text in ("a red cup", "A  Red cup", " ".join(["cup"] * 75), ""):
        written = clip._tokenizer([text])[0]
        assert clip.tokens(text).tokens == int((written != 0).sum())
    assert clip.tokens(" ".join(["cup"] * 76)).truncated


def test_the_prefix_belongs_to_the_model() -> None:
    plain, prefixed = model(), load_clip(f"local-dir:{random_clip()}", prefix="A photo depicts ")
    assert np.allclose(prefixed.texts(["a cup"]), plain.texts(["A photo depicts a cup"]), atol=1e-6)
    assert prefixed.tokens("a cup").tokens == plain.tokens("A photo depicts a cup").tokens
    assert prefixed.provenance["prefix"] == "A photo depicts "


def test_provenance_says_what_the_numbers_depend_on() -> None:
    import hashlib

    found = model().provenance
    weights = random_clip() / "open_clip_model.safetensors"
    assert found["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (found["activation"], found["precision"], found["resize_mode"]) == ("gelu", "fp32", "shortest")
    assert found["scale"] == pytest.approx(float(own()[0].logit_scale.detach().exp()), rel=1e-3)
    json.dumps(found, allow_nan=False)


def test_models_are_opened_once() -> None:
    assert model() is model()


def test_identity_holds_no_path(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(random_clip(), copy)
    assert identity(f"local-dir:{copy}") == identity(f"local-dir:{random_clip()}")
    config = copy / "open_clip_config.json"
    config.write_text(config.read_text().replace("bicubic", "bilinear"))
    assert identity(f"local-dir:{copy}") != identity(f"local-dir:{random_clip()}"), "preprocessing decides too"


def test_names_that_open_clip_knows_need_a_checkpoint(tmp_path: Path) -> None:
    import open_clip
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-quickgelu.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    network, _, preprocess = open_clip.create_model_and_transforms("tiny-quickgelu")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "tiny.safetensors")
    clip = load_clip("tiny-quickgelu", tmp_path / "tiny.safetensors")
    assert clip.provenance["activation"] == "quickgelu" and clip.provenance["checkpoint"] == "tiny.safetensors"
    pixels = noise(48, 48)
    with torch.no_grad():
        u = network.eval().encode_image(preprocess(Image.fromarray(pixels[0]))[None], normalize=True)
        v = network.encode_text(open_clip.get_tokenizer("tiny-quickgelu")(TEXTS), normalize=True)
    assert clip.images(pixels) @ clip.texts(TEXTS).T == pytest.approx((u @ v.T).numpy(), abs=1e-5)
    assert clip.tokens("a red cup").tokens == 5
    with pytest.raises(ModelError, match="give its checkpoint"):
        load_clip("tiny-quickgelu")


def test_models_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="open_clip_config"):
        load_clip(f"local-dir:{tmp_path}")
    with pytest.raises(ModelError, match="did you mean 'miniature'"):
        load_clip("minature")
    pickle = tmp_path / "weights.bin"
    pickle.write_bytes(b"x")
    with pytest.raises(ModelError, match="safetensors"):
        load_clip("ViT-B-32", pickle)
    with pytest.raises(ModelError, match="has its own weights"):
        load_clip(f"local-dir:{random_clip()}", pickle)
    fake = tmp_path / "w.safetensors"
    fake.write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match="did you mean 'ViT-B-32'"):
        load_clip("ViT-B-23", fake)
    for name in ("ViT-B-16-SigLIP", "xlm-roberta-base-ViT-B-32"):
        with pytest.raises(ModelError, match="would fetch"):
            load_clip(name, fake)


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(random_clip(), tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError) as caught:
        load_clip(f"local-dir:{tmp_path / 'clip'}")
    assert "\n" not in str(caught.value) and "cannot load" in str(caught.value)


def test_a_folder_with_a_pickle_beside_is_read_from_safetensors(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(random_clip(), folder)
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert checkpoint_of(f"local-dir:{folder}").suffix == ".safetensors"
    assert np.array_equal(load_clip(f"local-dir:{folder}").texts(["a cup"]), model().texts(["a cup"]))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_models_load(name: str) -> None:
    try:
        weights = checkpoint_of(name)
    except ModelError as error:
        pytest.skip(f"no trained model here: {error}")
    clip = load_clip(name)
    assert clip.provenance["sha256"] == identity(name)["weights"] and weights.is_file()
    assert clip.texts(["a red cup"]).shape == (1, clip.provenance["dimension"])
