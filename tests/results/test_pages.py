"""The queries behind the dashboard's pages, on a study of six cells whose every image is known."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from driver import cells
from promptlab.results import pages
from promptlab.store import Store

STUDY = "tiny"
DESIGN = list(cells(STUDY, 6))
"""Two prompt families of three cells each, at guidance 0, 1, 2 and seeds 0 and 1."""


@pytest.fixture
def store(finished: Path) -> Store:
    return Store(finished)


def scores_of(store: Store, image: str) -> dict[str, float]:
    """The brightness of an image by target: of all channels and of red."""
    scores = pages.image_scores(store, image)
    return dict(zip(scores["target"], scores["value"], strict=True))


def test_a_study_its_families_and_axes(store: Store) -> None:
    assert pages.study_tiers(store) == {STUDY: ["T0"]}
    assert pages.study_text(store, STUDY) == "study: tiny" and pages.study_text(store, "other") is None
    assert pages.model_names(store, STUDY) == ("fake",)
    assert pages.prompt_families(store, STUDY) == {f"group {i}": DESIGN[3 * i].prompt.text for i in range(2)}
    assert pages.compared_axes(store, STUDY) == ["count", "guidance_scale"]
    assert pages.varies(store, STUDY, "count") and not pages.varies(store, STUDY, "order")
    levels = pages.axis_levels(store, STUDY)
    guidance = levels[levels["axis"] == "guidance_scale"]
    assert guidance["cells"].tolist() == [2, 2, 2] and len(levels) == 6 + 3


def test_measures_and_runs(store: Store) -> None:
    measures = pages.measure_names(store, STUDY)
    assert measures == ["brightness"] and pages.measure_names(store, "other") == []
    assert set(measures) <= set(pages.measure_names(store, STUDY, with_labels=True))
    assert pages.described_measure(store, "brightness")["name"].tolist() == ["brightness"]
    assert len(pages.described_measure(store, "no measure")) == 0
    assert pages.last_run(store, STUDY)["status"].tolist() == ["complete"]
    facts = pages.run_facts(store, STUDY)
    assert "numpy" in set(facts["name"]) and set(facts["versions"]) == {1}
    assert pages.recent_seconds(store, "other") is None
    assert not len(pages.damaged_journals(store)) and not len(pages.unmeasured(store, STUDY))


def test_images_in_the_order_of_the_study(store: Store) -> None:
    wanted = [cell.image_id(seed) for cell in DESIGN for seed in (0, 1)]
    assert pages.images_of_study(store, STUDY)["image"].tolist() == wanted
    assert set(pages.newest_images(store, STUDY)["image"]) == set(wanted)
    ends = [None, *wanted, None]
    for place, image in enumerate(wanted, start=1):
        (near,) = pages.neighbours(store, STUDY, image).to_dict("records")
        assert (near["place"], near["total"]) == (place, len(wanted))
        neighbours = [one if isinstance(one, str) else None for one in (near["before"], near["after"])]
        assert neighbours == [ends[place - 1], ends[place + 1]]
    assert not len(pages.neighbours(store, "other", wanted[0]))


def test_one_image(store: Store) -> None:
    image = DESIGN[4].image_id(1)
    (record,) = pages.image_record(store, image).to_dict("records")
    assert record["prompt"] == DESIGN[4].prompt.text and record["seed"] == 1
    assert pages.gallery_image(store, image)["file"].tolist() == [record["file"]]
    assert pages.image_files(store, (image, "unknown")) == {image: record["file"]}
    assert dict(pages.image_levels(store, STUDY, image).to_numpy().tolist()).keys() == {"count", "guidance_scale"}
    assert pages.image_phrases(store, STUDY, image)["text"].tolist() == ["red cup"]
    assert set(pages.image_scores(store, image)["measure"]) == {"brightness"}
    siblings = pages.same_prompt_images(store, image, DESIGN[4].prompt.text, "fake")
    assert siblings["image"].tolist() == [DESIGN[4].image_id(0)]


def test_cells_beside_each_other(store: Store) -> None:
    known = pages.cells_with_images(store, STUDY, None, 100)
    assert len(known) == 6 and known["made"].tolist() == [2] * 6
    assert len(pages.cells_with_images(store, STUDY, None, 4)) == 4
    a, b = pages.cells_with_images(store, STUDY, "group 1", 100)["cell"].iloc[:2]
    images = pages.images_of_cells(store, STUDY, a, b)
    assert set(images["image"]) == {cell.image_id(seed) for cell in DESIGN[3:5] for seed in (0, 1)}
    means = pages.compared_means(store, STUDY, a, b)
    assert means["target"].tolist() == ["", "red"] and set(means["measure"]) == {"brightness"}
    for row in means.to_dict("records"):
        for side, cell in (("a", DESIGN[3]), ("b", DESIGN[4])):
            values = [scores_of(store, cell.image_id(seed))[row["target"]] for seed in (0, 1)]
            assert row[side] == pytest.approx(sum(values) / 2) and row[f"n_{side}"] == 2
    assert not len(pages.cell_outcomes(store, STUDY, a, b))


def test_a_family_on_the_grid(store: Store) -> None:
    rows = pages.images_of_family(store, STUDY, "group 0")
    assert len(rows) == 3 * 2 * 2 and set(rows["axis"]) == {"count", "guidance_scale"}
    captions = pages.captions_of_family(store, STUDY, "group 0", "brightness")
    scores = [scores_of(store, cell.image_id(seed)) for cell in DESIGN[:3] for seed in (0, 1)]
    assert sorted(captions["caption"]) == sorted(f"{sum(one.values()) / 2:.3g}" for one in scores)
    assert not len(pages.images_along_axis(store, STUDY, "guidance_scale")), "no prompt has every guidance"


def test_exports(store: Store) -> None:
    assert set(pages.exported_means(store, STUDY)["n"]) == {2}
    assert list(pages.exported_outcomes(store, STUDY)) == [
        *("study", "prompt", "seed", "guidance_scale", "num_inference_steps", "outcome", "tier", "image", "file")
    ]


def test_every_query_takes_the_store_first(store: Store) -> None:
    """So that the dashboard can keep its answer."""
    for name in pages.__all__:
        assert next(iter(inspect.signature(getattr(pages, name)).parameters)) == "store", name
