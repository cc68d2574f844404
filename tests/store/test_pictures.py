"""Pictures: kept by content, read with distrust, empty ones told from dark ones."""

from __future__ import annotations

import hashlib
import io
import json
import random
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from promptlab.errors import DiskError, StoreError
from promptlab.store import pictures
from promptlab.store.home import Home
from promptlab.store.pictures import Picture, is_degenerate, load, parameters, path_of, read_guarded, save, thumbnail

RECIPE = {
    "backend": "diffusion",
    "model": "miniature",
    "prompt": "a red cup 🏆",
    "seed": 7,
    "guidance_scale": 7.5,
    "num_inference_steps": 25,
    "height": 24,
    "width": 40,
    "scheduler": "DDIMScheduler",
    "negative_prompt": "",
}


def noise(seed: int = 0, height: int = 24, width: int = 40) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_saved_and_loaded(tmp_path: Path) -> None:
    home, image = Home(tmp_path), noise()
    file, pixels = save(image, home, RECIPE)
    path = tmp_path / "images" / file[:2] / f"{file}.png"
    assert path == path_of(home, file)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file
    assert pixels == hashlib.sha256(image.tobytes()).hexdigest() == pictures.pixels_hash(image)
    assert np.array_equal(load(home, file), image)
    before = path.stat().st_mtime_ns
    assert save(image, home, RECIPE) == (file, pixels)
    assert path.stat().st_mtime_ns == before
    assert save(image[::-1], home, RECIPE)[1] != pixels
    assert list(tmp_path.glob("images/*/.*")) == []


def test_a_damaged_file_is_replaced_when_saved_again(tmp_path: Path) -> None:
    home, image = Home(tmp_path), noise()
    file, _ = save(image, home, RECIPE)
    path_of(home, file).write_bytes(path_of(home, file).read_bytes()[:-4])
    with pytest.raises(StoreError, match="is damaged; `promptlab rebuild`"):
        load(home, file)
    save(image, home, RECIPE)
    assert np.array_equal(load(home, file), image)
    path_of(home, file).unlink()
    with pytest.raises(StoreError, match="No such file"):
        load(home, file)


@pytest.mark.parametrize("prompt", ["plain", "🏆 é", "كأس", "nul \0 inside", "two\nlines", "Steps: 3, <b>&'\""])
def test_text_chunks(tmp_path: Path, prompt: str) -> None:
    home = Home(tmp_path)
    recipe = {**RECIPE, "prompt": prompt, "negative_prompt": "blurry, dark", "model": "a, b"}
    file, _ = save(noise(), home, recipe)
    with Pillow.open(path_of(home, file)) as image:
        text = dict(image.text)  # type: ignore[attr-defined]
    assert json.loads(text["promptlab"]) == recipe
    assert (
        text["parameters"]
        == parameters(recipe)
        == (
            f"{prompt}\nNegative prompt: blurry, dark\n"
            'Steps: 25, Sampler: DDIMScheduler, CFG scale: 7.5, Seed: 7, Size: 40x24, Model: "a, b"'
        )
    )


def test_parameters_leave_out_what_is_not_known() -> None:
    assert parameters({"prompt": "a cup", "seed": 0, "negative_prompt": "", "scheduler": None}) == "a cup\nSeed: 0"


def test_secrets_reach_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "canary-0123456789")
    file, _ = save(noise(), Home(tmp_path), {**RECIPE, "model": "x?key=canary-0123456789"})
    assert b"canary" not in path_of(Home(tmp_path), file).read_bytes()


@pytest.mark.parametrize("bad", [noise().astype(float), noise()[..., 0], noise()[..., :2], noise()[:0]])
def test_only_rgb_bytes_are_saved(tmp_path: Path, bad: Picture) -> None:
    with pytest.raises(ValueError, match=r"a picture is uint8 \(height, width, 3\)"):
        save(bad, Home(tmp_path), RECIPE)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "/etc/passwd", "C:\\x"])
def test_only_hashes_become_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="names no picture"):
        load(Home(tmp_path), name)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "images").touch()
    with pytest.raises(DiskError, match="cannot write"):
        save(noise(), Home(tmp_path), RECIPE)


def encoded(kind: str, image: Picture, **options: object) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_pictures_from_elsewhere(tmp_path: Path, kind: str) -> None:
    image = np.full((24, 40, 3), (200, 100, 50), np.uint8)
    image[:8] = (10, 20, 30)
    options = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}[kind]
    (tmp_path / "x").write_bytes(encoded(kind, image, **options))
    assert np.abs(read_guarded(tmp_path / "x").astype(int) - image).max() <= (3 if kind == "JPEG" else 0)


def test_transparency_lies_on_white_and_photos_stand_upright(tmp_path: Path) -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:4] = (255, 0, 0, 255)
    Pillow.fromarray(clear).save(tmp_path / "clear.png")
    assert read_guarded(tmp_path / "clear.png")[[0, 7], 0].tolist() == [[255, 0, 0], [255, 255, 255]]
    exif = Pillow.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(encoded("JPEG", noise(height=16, width=32), exif=exif))
    assert read_guarded(tmp_path / "turned.jpg").shape == (32, 16, 3)


def png_of_size(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_001, 9_500, 14_000, 60_000, 2**31 - 1])
def test_bombs(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of_size(side, side))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StoreError, match="megapixels"):
        read_guarded(tmp_path / "bomb.png")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400_000, "decoding took more than 400 MB"


def test_what_is_no_picture(tmp_path: Path) -> None:
    Pillow.fromarray(noise()).save(tmp_path / "x.gif")
    Pillow.fromarray(noise()).save(tmp_path / "x.bmp")
    Pillow.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.png").write_text("<html>not found</html>")
    with (tmp_path / "huge.png").open("wb") as huge:
        huge.truncate(pictures.MAX_BYTES + 1)
    for path in [*tmp_path.iterdir(), tmp_path, tmp_path / "none.png"]:
        with pytest.raises(StoreError) as caught:
            read_guarded(path)
        assert "\n" not in str(caught.value) and path.name in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # Pillow warns about damaged metadata
def test_500_mutated_pictures(tmp_path: Path) -> None:
    """Every one is read or refused in one line; a kept picture that was changed is always refused."""
    rng = random.Random(2)
    home = Home(tmp_path)
    file, _ = save(noise(), home, RECIPE)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    seeds = [
        path_of(home, file).read_bytes(),
        encoded("PNG", noise(1)[..., 0]),
        encoded("JPEG", noise(2), exif=exif),
        encoded("JPEG", noise(3), progressive=True),
        encoded("WEBP", noise(4)),
        encoded("WEBP", noise(5), lossless=True),
    ]
    seen = {"read": 0, "refused": 0}
    for trial in range(500):
        original = seeds[trial % len(seeds)]
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 4, 32])):
            place = rng.randrange(len(data))
            match rng.randrange(5):
                case 0:
                    data[place] ^= 1 << rng.randrange(8)
                case 1:
                    data[place : place + 4] = rng.randbytes(4)
                case 2:
                    del data[place : place + rng.randrange(1, 64)]
                case 3:
                    data[place:place] = rng.randbytes(rng.randrange(1, 64))
                case 4:
                    del data[place:]
            if not data:
                data = bytearray(b"\0")
        path = tmp_path / "mutant"
        path.write_bytes(data)
        try:
            image = read_guarded(path)
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            seen["read"] += 1
        except StoreError as error:
            assert "\n" not in str(error) and "mutant" in str(error)
            seen["refused"] += 1
        if trial % len(seeds) == 0:
            path_of(home, file).write_bytes(data)
            if bytes(data) != original:
                with pytest.raises(StoreError, match="is damaged"):
                    load(home, file)
    assert min(seen.values()) > 50


def dark_scene(rng: np.random.Generator, kind: int, size: int) -> Picture:
    """A valid dark picture: a dim gradient, stars, a lamp, a faint shape, or a moonlit noise texture."""
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.full((size, size, 3), rng.uniform(0, 6), float)
    if kind == 0:
        image += (rng.uniform(6, 16) * y)[..., None]
    elif kind == 1:
        stars = rng.choice(size * size, max(12, size * size // 800), replace=False)
        image.reshape(-1, 3)[stars] = rng.uniform(80, 255, (len(stars), 3))
    elif kind == 2:
        image += (rng.uniform(40, 200) * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.004))[..., None]
    elif kind == 3:
        image += (rng.uniform(9, 20) * ((x - 0.5) ** 2 + (y - 0.5) ** 2 < rng.uniform(0.02, 0.1)))[..., None]
    else:
        coarse = np.kron(rng.uniform(0, 25, (8, 8)), np.ones((size // 8, size // 8)))
        image += coarse[..., None]
    return np.clip(image + rng.normal(0, 0.8, image.shape), 0, 255).astype(np.uint8)


def empty_scene(rng: np.random.Generator, kind: int, size: int) -> Picture:
    """A picture of nothing: black, near black, one colour, one colour with grain, two colours, black with a stray."""
    image = np.zeros((size, size, 3), np.uint8)
    if kind == 1:
        image[:] = rng.integers(0, 5, image.shape)
    elif kind == 2:
        image[:] = rng.integers(0, 256, 3)
    elif kind == 3:
        image[:] = np.clip(rng.integers(20, 236, 3) + rng.normal(0, rng.uniform(0.5, 2), image.shape), 0, 255)
    elif kind == 4:
        image[rng.random((size, size)) < rng.uniform(0, 1)] = rng.integers(6, 256, 3)
    elif kind == 5:
        image[rng.integers(size), rng.integers(size)] = rng.integers(0, 256, 3)
    return image


def test_the_empty_are_told_from_the_dark() -> None:
    rng = np.random.default_rng(3)
    missed = [k % 6 for k in range(400) if not is_degenerate(empty_scene(rng, k % 6, int(rng.choice([32, 64, 128]))))]
    assert missed == []
    flagged = [k % 5 for k in range(500) if is_degenerate(dark_scene(rng, k % 5, int(rng.choice([64, 128]))))]
    assert flagged == []
    assert is_degenerate(noise()) is None and is_degenerate(noise(height=4, width=3)) is None
    assert is_degenerate(np.zeros((5, 3, 3), np.uint8)) == "all black"


def test_thumbnails(tmp_path: Path) -> None:
    home = Home(tmp_path)
    file, _ = save(noise(height=64, width=128), home, RECIPE)
    path = thumbnail(home, file, side=32)
    assert path == thumbnail(home, file, side=32) and home.thumbs in path.parents
    with Pillow.open(path) as image:
        assert (image.format, image.size) == ("WEBP", (32, 16))
