"""Colour against the published CIEDE2000 pairs, scikit-image, and pictures whose answers are computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from skimage import color as skimage_color

from promptlab.analyzer.judges import colour

# Sharma, Wu and Dalal 2005, Table 1: L, a, b of both colours, CIEDE2000 to four decimals.
SHARMA = np.array(
    [
        [50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425],
        [50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615],
        [50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412],
        [50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669],
        [50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461],
        [50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065],
        [50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492],
        [50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977],
        [50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030],
        [50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000],
        [60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644],
        [63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630],
        [61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731],
        [35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645],
        [22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373],
        [36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146],
        [90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441],
        [90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381],
        [6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377],
        [2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082],
    ]
)

PALETTE = {"red": (216, 38, 40), "green": (46, 158, 66), "blue": (40, 96, 214), "black": (34, 34, 38)}


@pytest.fixture
def picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, size=(5, 7, 3), dtype=np.uint8)


def test_the_34_sharma_pairs_both_ways() -> None:
    assert len(SHARMA) == 34
    first, second, expected = SHARMA[:, :3], SHARMA[:, 3:6], SHARMA[:, 6]
    np.testing.assert_allclose(colour.ciede2000(first, second), expected, atol=5.1e-5)
    np.testing.assert_allclose(colour.ciede2000(second, first), expected, atol=5.1e-5)


def test_ciede2000_equals_scikit_image_on_random_colours() -> None:
    rng = np.random.default_rng(1)
    low, high = [0, -110, -110], [100, 110, 110]
    first, second = rng.uniform(low, high, size=(2, 20_000, 3))
    twin: Any = skimage_color.deltaE_ciede2000(first, second)  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(colour.ciede2000(first, second), twin, atol=1e-9)


def test_ciede2000_broadcasts_and_knows_greys() -> None:
    lab = colour.rgb_to_lab(np.array([[0, 0, 0], [255, 255, 255]]))
    assert colour.ciede2000(lab[:, None], lab).shape == (2, 2)
    assert colour.ciede2000(lab[0], lab[1]) == pytest.approx(100, abs=1e-3)
    assert colour.ciede2000([50, -0.0, 0], [50, 3, 4]) == colour.ciede2000([50, 0, 0], [50, 3, 4])
    assert colour.ciede2000([50, 7, 4], [50, 7, 4]) == 0


def test_lab_equals_scikit_image_within_its_rounded_constants(picture: Any) -> None:
    # scikit-image has the same matrix to six digits and CIELAB's constants to four.
    np.testing.assert_allclose(colour.rgb_to_lab(picture), skimage_color.rgb2lab(picture), atol=1e-2)
    np.testing.assert_allclose(colour.rgb_to_linear(picture) * [1, 1, 1], _linear_by_formula(picture), atol=1e-12)


def _linear_by_formula(rgb: Any) -> Any:
    v = rgb / 255.0
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def test_greys_have_no_chroma_and_white_is_100() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    lab = colour.rgb_to_lab(greys)
    assert colour.chroma(lab).max() < 1e-10
    assert lab[0] == pytest.approx([0, 0, 0], abs=1e-12)
    assert lab[-1, 0] == pytest.approx(100, abs=1e-10)
    assert (np.diff(lab[:, 0]) > 0).all()


def test_lab_of_primaries_from_the_literature() -> None:
    lab = colour.rgb_to_lab([[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    expected = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab, expected, atol=0.02)
    assert colour.chroma(lab).max() == pytest.approx(133.8, abs=0.1)


def test_round_trips_are_exact() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    np.testing.assert_array_equal(colour.lab_to_rgb(colour.rgb_to_lab(cube)), cube)
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    np.testing.assert_array_equal(colour.linear_to_rgb(colour.rgb_to_linear(every)), every)
    xyz = colour.linear_to_xyz(colour.rgb_to_linear(cube))
    np.testing.assert_allclose(colour.lab_to_xyz(colour.xyz_to_lab(xyz)), xyz, atol=1e-12)


def test_colours_outside_the_gamut_are_clipped() -> None:
    assert colour.linear_to_rgb([-0.5, 0.5, 1.5]).tolist() == [0, 188, 255]


def test_names_are_the_nearest_by_ciede2000() -> None:
    lab = colour.rgb_to_lab([[[230, 20, 30], [20, 120, 60]], [[60, 110, 250], [0, 0, 0]]])
    names, distance = colour.name_colour(lab, PALETTE)
    assert names.tolist() == [["red", "green"], ["blue", "black"]]
    assert distance.shape == (2, 2)
    name, exact = colour.name_colour(colour.rgb_to_lab(PALETTE["blue"]), PALETTE)
    assert (name.item(), exact.item()) == ("blue", 0.0)


def test_m3_by_hand() -> None:
    # Half red (255, 0, 0), half green (0, 255, 0): rg = +-255, yb = 127.5 everywhere.
    half = np.zeros((2, 2, 3), dtype=np.uint8)
    half[0, :, 0] = half[1, :, 1] = 255
    assert colour.colourfulness(half) == pytest.approx(255 + 0.3 * 127.5)
    # Unsigned opponents would give rg = 255 everywhere, hence no spread at all: that is the mistake.
    unsigned = 0.3 * np.hypot(255, 127.5)
    assert abs(colour.colourfulness(half) - unsigned) > 200
    # One colour (200, 100, 50): no spread, rg = 100, yb = 100.
    plain = np.full((3, 4, 3), [200, 100, 50], dtype=np.uint8)
    assert colour.colourfulness(plain) == pytest.approx(0.3 * np.sqrt(2) * 100)
    # Quarter blue, the rest black: yb is -255 in a quarter: mean -63.75, sd 255 sqrt(3)/4.
    blue = np.zeros((2, 2, 3), dtype=np.uint8)
    blue[0, 0, 2] = 255
    assert colour.colourfulness(blue) == pytest.approx(255 * np.sqrt(3) / 4 + 0.3 * 63.75)
    assert colour.colourfulness(np.full((2, 3, 3), 77, dtype=np.uint8)) == 0


def test_clipping_contrast_and_chroma_by_hand() -> None:
    picture = np.array([[[0, 9, 9], [9, 255, 9], [9, 9, 9], [1, 254, 128]]], dtype=np.uint8)
    assert colour.clipped_share(picture) == 0.5
    board = np.zeros((2, 2, 3), dtype=np.uint8)
    board[0] = 255
    assert colour.rms_contrast(board) == pytest.approx(0.5)
    red = np.full((4, 6, 3), [255, 0, 0], dtype=np.uint8)
    assert colour.rms_contrast(red) == pytest.approx(0)
    assert colour.p95_chroma(red) == pytest.approx(104.55, abs=0.02)


@pytest.mark.parametrize("measure", ["colourfulness", "clipped_share", "rms_contrast", "p95_chroma"])
def test_a_batch_is_its_pictures_one_by_one(measure: str) -> None:
    batch = np.random.default_rng(2).integers(0, 256, size=(2, 3, 6, 4, 3), dtype=np.uint8)
    function = getattr(colour, measure)
    together = function(batch)
    assert together.shape == (2, 3)
    one_by_one = [[function(picture) for picture in row] for row in batch]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)


@pytest.mark.parametrize(
    ("rgb", "message"),
    [
        (np.zeros((2, 2, 3)), "integers 0..255"),
        (np.zeros((2, 2, 3), dtype=bool), "integers 0..255"),
        (np.zeros((2, 2, 4), dtype=np.uint8), "shape"),
        (np.zeros((3, 2, 2), dtype=np.uint8), "shape"),
        (np.full((2, 2, 3), 256), "0..255"),
        (np.full((2, 2, 3), -1), "0..255"),
        (np.uint8(3), "shape"),
    ],
)
def test_what_is_no_rgb_is_refused(rgb: Any, message: str) -> None:
    for function in (colour.rgb_to_linear, colour.rgb_to_lab, colour.colourfulness, colour.clipped_share):
        with pytest.raises(ValueError, match=message):
            function(rgb)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (0, 4, 3), (4, 0, 3)])
def test_a_picture_needs_height_width_and_pixels(shape: tuple[int, ...]) -> None:
    for function in (colour.colourfulness, colour.clipped_share, colour.rms_contrast, colour.p95_chroma):
        with pytest.raises(ValueError, match="height, width"):
            function(np.zeros(shape, dtype=np.uint8))


def test_bad_lab_and_palettes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        colour.ciede2000([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="NaN"):
        colour.chroma([np.nan, 0, 0])
    with pytest.raises(ValueError, match="empty"):
        colour.name_colour([50, 0, 0], {})
    with pytest.raises(ValueError, match="integers"):
        colour.name_colour([50, 0, 0], {"red": (0.9, 0.1, 0.1)})  # type: ignore[dict-item]
