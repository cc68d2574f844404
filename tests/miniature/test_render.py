"""The renderer draws what the scene says, and its truth is where the thing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2lab

from promptlab.miniature.drawing import Picture, render
from promptlab.miniature.shapes import BODY, DEEP, LIGHT, SHADE, drawing
from promptlab.miniature.world import CANVAS, COLOURS, NOUNS, PAIRS, POSES, SETTINGS, STYLES, Scene, Thing, sample_scene

KINDS = [(noun, None) for noun in NOUNS if noun != "dog"] + [("dog", pose) for pose in POSES]


def _one(noun: str, colour: str, pose: str | None = None, setting: str = "plain", seed: int = 3) -> Scene:
    return Scene((Thing(noun, colour, pose=pose),), setting, seed=seed)


def _nearest_colour(rgb: np.ndarray) -> str:
    """The nominal colour nearest in CIELAB."""
    lab = rgb2lab(np.array([rgb, *COLOURS.values()]) / 255)
    return list(COLOURS)[int(np.linalg.norm(lab[1:] - lab[0], axis=1).argmin())]


def _nothing(scene: Scene) -> Picture:
    return render(replace(scene, things=()))


def test_same_scene_same_bytes() -> None:
    rng = np.random.default_rng(0)
    for scene in [sample_scene(rng) for _ in range(40)]:
        first, second = render(scene), render(scene)
        assert first.image.tobytes() == second.image.tobytes()
        assert first.image.shape == (CANVAS, CANVAS, 3) and first.image.dtype == np.uint8


def test_the_seed_changes_the_picture() -> None:
    scene = _one("cup", "red", setting="grass")
    assert render(scene).image.tobytes() != render(replace(scene, seed=4)).image.tobytes()


def test_a_picture_may_be_changed_without_changing_the_next() -> None:
    scene = _one("cup", "red")
    first = render(scene)
    before = first.image.copy()
    first.image[:] = 0
    assert np.array_equal(render(scene).image, before)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p[1]} {p[0]}")
def test_truth_lies_on_the_thing_and_shows_its_colour(pair: tuple[str, str]) -> None:
    noun, colour = pair
    for pose in POSES if noun == "dog" else (None,):
        picture = render(_one(noun, colour, pose))
        (truth,) = picture.ground_truth
        assert (truth.noun, truth.colour) == (noun, colour)
        left, top, right, bottom = truth.box
        rows, columns = np.nonzero(truth.mask)
        assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (top, bottom, left, right)
        pixels = picture.image[truth.mask].astype(float)
        assert _nearest_colour(pixels.mean(0)) == colour
        assert _nearest_colour(np.median(pixels, 0)) == colour


@pytest.mark.parametrize(("noun", "pose"), KINDS)
def test_the_asked_colour_covers_most_of_a_drawing(noun: str, pose: str | None) -> None:
    label = drawing(noun, pose).label
    painted = label[label > 0]
    assert np.isin(painted, (BODY, SHADE, DEEP, LIGHT)).mean() >= 0.65
    assert np.bincount(painted).argmax() == BODY


def test_silhouettes_differ_at_36_pixels() -> None:
    masks = {}
    for noun, pose in KINDS:
        scene = Scene((Thing(noun, "red", pose=pose, side=36 / CANVAS),))
        masks[noun, pose] = render(scene).ground_truth[0].mask
    kinds = list(masks)
    for i, a in enumerate(kinds):
        for b in kinds[:i]:
            union = (masks[a] | masks[b]).sum()
            assert (masks[a] & masks[b]).sum() / union < 0.88, (a, b)


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_change_the_background(setting: str) -> None:
    pictures = {s: _nothing(Scene((), s, seed=1)).image.astype(float) for s in SETTINGS}
    for other in set(SETTINGS) - {setting}:
        assert np.abs(pictures[setting] - pictures[other]).mean() > 8


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_styles_change_the_things(setting: str, style: str) -> None:
    scene = _one("cup", "blue", setting=setting)
    bare, styled = render(scene), render(replace(scene, style=style))
    mask = bare.ground_truth[0].mask
    assert np.abs(bare.image[mask].astype(float) - styled.image[mask]).mean() > 4
    assert np.array_equal(mask, styled.ground_truth[0].mask)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_can_be_seen_on_every_setting(colour: str, setting: str) -> None:
    for noun, style in (("cup", None), ("star", None), ("book", "flat"), ("dog", "glossy")):
        scene = replace(_one(noun, colour, setting=setting), style=style)
        picture = render(scene)
        mask = picture.ground_truth[0].mask
        ring = mask & ~ndimage.binary_erosion(mask, iterations=3)
        step = np.linalg.norm(picture.image.astype(float) - _nothing(scene).image, axis=-1)
        # Where the thing ends, some pixel within three of its border must stand out: the rim or the body.
        strongest = ndimage.maximum_filter(np.where(ring, step, 0), 5)[mask & ~ndimage.binary_erosion(mask)]
        assert np.quantile(strongest, 0.1) > 45, (noun, style)


def test_later_things_hide_earlier_ones() -> None:
    behind, before = Thing("box", "red", x=0.5), Thing("ball", "blue", x=0.6)
    both = render(Scene((behind, before))).ground_truth
    alone = render(Scene((behind,))).ground_truth[0]
    assert not (both[0].mask & both[1].mask).any()
    assert both[0].mask.sum() < alone.mask.sum()


def test_things_may_leave_the_canvas() -> None:
    for x, y in ((-0.1, 0.5), (1.1, 0.5), (0.5, -0.1), (0.5, 1.1)):
        assert render(Scene((Thing("box", "red", x=x, y=y),))).ground_truth[0].mask.any()
    (gone,) = render(Scene((Thing("box", "red", x=3, y=-2),))).ground_truth
    assert gone.box == (0, 0, 0, 0) and not gone.mask.any()


def test_fused_and_unknown_things() -> None:
    fused = render(Scene((Thing("cup+chair", "red+blue"),)))
    pixels, mask = fused.image.astype(float), fused.ground_truth[0].mask
    assert _nearest_colour(np.median(pixels[:, :64][mask[:, :64]], 0)) == "red"
    assert _nearest_colour(np.median(pixels[:, 64:][mask[:, 64:]], 0)) == "blue"
    blobs = [render(Scene((Thing("unknown", "green"),), seed=seed)).ground_truth[0].mask for seed in (1, 2)]
    assert all(b.sum() > 200 for b in blobs) and not np.array_equal(blobs[0], blobs[1])


@pytest.mark.parametrize(
    ("scene", "given"),
    [
        (Scene((Thing("zebra", "red"),)), "zebra"),
        (Scene((Thing("cup", "mauve"),)), "mauve"),
        (Scene((), "moon"), "moon"),
        (Scene((), style="cubist"), "cubist"),
    ],
)
def test_what_cannot_be_drawn_is_named(scene: Scene, given: str) -> None:
    with pytest.raises(ValueError, match=given):
        render(scene)
