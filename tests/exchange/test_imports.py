"""Every layout of pictures made elsewhere becomes a study; nothing is guessed, and what cannot be used is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elsewhere import levels, picture, run, take_in
from promptlab.errors import PromptlabError, StudyError
from promptlab.exchange.imports import import_pictures
from promptlab.run.plan import plan_study
from promptlab.store import Store, pictures
from promptlab.study.grid import expand

GENEVAL = [
    {"tag": "color_attr", "prompt": "a photo of a red cup and a blue chair"},
    {"tag": "two_object", "prompt": "a photo of a cup and a chair"},
]


def geneval(folder: Path) -> None:
    for i, row in enumerate(GENEVAL):
        colours = ("red", "blue") if i == 0 else (None, None)
        include = [
            {"class": n, "count": 1, **({"color": c} if c else {})}
            for n, c in zip(("cup", "chair"), colours, strict=True)
        ]
        (folder / f"{i:05}" / "samples").mkdir(parents=True)
        (folder / f"{i:05}" / "metadata.jsonl").write_text(json.dumps({**row, "include": include}))
        for k in range(4 - i):
            picture(folder / f"{i:05}" / "samples" / f"{k:04}.png", 10 * i + k)
        picture(folder / f"{i:05}" / "grid.png")


def test_genevals_folders(tmp_path: Path) -> None:
    geneval(tmp_path / "made")
    done = take_in(tmp_path / "made", tmp_path, model="sd2")
    assert (done.layout, done.pictures, done.prompts, done.declared, done.seeds_kept) == ("geneval", 7, 2, 2, True)
    cells = list(expand(done.study))
    assert [cell.seeds(done.study.seeds) for cell in cells] == [(0, 1, 2, 3), (0, 1, 2)]
    assert [dict(cell.levels)["tag"] for cell in cells] == ["color_attr", "two_object"]
    assert [(b.noun, b.attribute) for b in cells[0].prompt.bindings] == [("cup", "red"), ("chair", "blue")]
    assert [(b.noun, b.attribute) for b in cells[1].prompt.bindings] == [("cup", None), ("chair", None)]
    plan = plan_study(done.study, None)
    assert (plan.planned, plan.images, len(plan.missing)) == (7, 7, 7)
    summary = run(done.study, tmp_path)
    assert summary.made == {"ok": 7} and summary.scores == 7 * 6 and summary.failed == 0
    again = run(done.study, tmp_path)
    assert not again.made and again.plan.made == 7
    store = Store(tmp_path / "home")
    kept = store.query("SELECT * FROM cell")
    assert kept["guidance_scale"].isna().all() and kept["num_inference_steps"].isna().all()  # nobody knows them
    assert set(kept["model"]) == {"sd2"} and set(kept["tier"]) == {"T2"}
    images = store.query("SELECT prompt, seed, width, height, recipe ->> 'file' AS made FROM image ORDER BY made")
    assert images["made"].tolist()[0] == "00000/samples/0000.png" and set(images["width"]) == {48}
    assert store.query("SELECT sum(planned) AS n, sum(missing) AS m FROM completeness").to_numpy().tolist() == [[7, 0]]


def test_names_of_t2i_compbench(tmp_path: Path) -> None:
    names = ["a red cup and a blue chair_000000", "a red cup and a blue chair_000003", "a cat asleep_000001"]
    for i, name in enumerate(names):
        picture(tmp_path / "made" / f"{name}.png", i)
    picture(tmp_path / "made" / "cover.png")
    (tmp_path / "list.txt").write_text("A red cup and a blue chair.\nA blue cup and a red chair.\n")
    done = take_in(tmp_path / "made", tmp_path, prompts=tmp_path / "list.txt")
    assert (done.pictures, done.prompts, done.declared) == (3, 2, 1)
    assert done.skipped == (("cover.png", "its name is not <prompt>_<six digits>"),)
    first = next(cell for cell in expand(done.study) if cell.prompt.bindings)
    assert first.prompt.text == "A red cup and a blue chair." and first.seeds(range(9)) == (0, 1)


A1111 = """a red cup and a blue chair,
in the rain
Negative prompt: blurry, bad
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 965400086, Size: 512x512, Model: "a, b: c", Version: v1.6"""
INVOKE = {
    **{"positive_prompt": "a green cup", "negative_prompt": "", "seed": 4, "cfg_scale": 6, "steps": 30},
    **{"scheduler": "euler", "model": {"name": "sdxl", "base": "sdxl"}},
}
OLD_INVOKE = {
    "model_weights": "sd-1.5",
    "image": {
        "prompt": [{"prompt": "a pink cup", "weight": 1}],
        "steps": 50,
        "cfg_scale": 7,
        "seed": 9,
        "sampler": "k_lms",
    },
}
COMFY: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            **{"seed": 2**40, "steps": 12, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal"},
            **{"model": ["10", 0], "positive": ["8", 0], "negative": ["7", 0], "latent_image": ["5", 0]},
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["9", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["4", 1]}},
    "8": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["6", 0], "guidance": 3.5}},
    "9": {"class_type": "PrimitiveString", "inputs": {"value": "a blue cup"}},
    "10": {"class_type": "LoraLoader", "inputs": {"model": ["4", 0], "lora_name": "x"}},
}


def test_notes_of_image_tools(tmp_path: Path) -> None:
    made = tmp_path / "made"
    picture(made / "1.png", 1, parameters=A1111)
    picture(made / "2.png", 2, invokeai_metadata=json.dumps(INVOKE))
    picture(made / "3.png", 3, sd__metadata=json.dumps(OLD_INVOKE))
    picture(made / "4.png", 4, prompt=json.dumps(COMFY), workflow="{}")
    two = {**COMFY, "20": {"class_type": "KSampler", "inputs": {**COMFY["3"]["inputs"], "positive": ["7", 0]}}}
    circle = {**COMFY, "8": {"inputs": {"conditioning": ["6", 0]}}, "6": {"inputs": {"conditioning": ["8", 0]}}}
    picture(made / "5.png", 5, prompt=json.dumps(two))
    picture(made / "6.png", 6, prompt=json.dumps(circle))
    picture(made / "7.png", 7, parameters="only words, no facts")
    picture(made / "8.png", 8, prompt="[" * 5000)
    swarm = {"prompt": "a white cup", "seed": 3, "steps": 20, "cfgscale": 7, "sampler": "euler", "model": "flux"}
    picture(made / "A.png", 10, parameters=json.dumps({"sui_image_params": swarm}))
    picture(made / "B.png", 11, parameters='{"prompt": "a cup", "tool": "another"}')
    picture(made / "9.png", 9)
    done = take_in(made, tmp_path)
    assert done.layout == "notes" and [name for name, _ in done.skipped] == [
        "5.png",
        "6.png",
        "8.png",
        "9.png",
        "B.png",
    ]
    assert not done.seeds_kept  # one has none, and one is beyond 32 bits
    found = {row["text"]: row for row in levels(done)}
    web = found["a red cup and a blue chair,\nin the rain"]
    assert (web["guidance_scale"], web["num_inference_steps"], web["scheduler"]) == (7.5, 20, "DPM++ 2M Karras")
    assert (web["negative_prompt"], web["model"]) == ("blurry, bad", "a, b: c")
    assert (found["a green cup"]["guidance_scale"], found["a green cup"]["model"]) == (6.0, "sdxl")
    assert (found["a pink cup"]["scheduler"], found["a pink cup"]["num_inference_steps"]) == ("k_lms", 50)
    comfy = found["a blue cup"]
    assert (comfy["guidance_scale"], comfy["scheduler"], comfy["model"]) == (8.0, "euler normal", "sd15.safetensors")
    swarmed = found["a white cup"]
    assert (swarmed["guidance_scale"], swarmed["num_inference_steps"], swarmed["model"]) == (7.0, 20, "flux")
    assert found["only words, no facts"]["guidance_scale"] is None
    assert found["only words, no facts"]["model"] == "unknown"
    original = json.loads((tmp_path / "studies" / "taken.pictures.jsonl").read_text().splitlines()[0])
    assert (original["seed"], original["original_seed"]) == (0, 965400086)
    summary = run(done.study, tmp_path)
    assert summary.made == {"ok": 6}
    rows = Store(tmp_path / "home").query("SELECT guidance_scale FROM cell WHERE prompt = 'only words, no facts'")
    assert rows["guidance_scale"].isna().all()


def test_a_table_of_pictures_and_a_contact_sheet(tmp_path: Path) -> None:
    whole = picture(tmp_path / "made" / "grid.png", 1, (64, 48))
    picture(tmp_path / "made" / "one.png", 2)
    table = "file,prompt,row,col,grid,seed,guidance_scale\n" + "".join(
        f"grid.png,a red cup and a blue chair,{r},{c},,," + "\n" for r in (1, 2) for c in (1, 2)
    )
    (tmp_path / "map.csv").write_text(table + "one.png,a cat,,,,7,5\n", encoding="utf-8-sig")
    done = take_in(tmp_path / "made", tmp_path, manifest=tmp_path / "map.csv", model="midjourney")
    assert (done.layout, done.pictures, done.prompts) == ("manifest", 5, 2)
    run(done.study, tmp_path)
    store = Store(tmp_path / "home")
    tiles = [i for i in store.images().values() if "tile" in i.recipe]
    corner = {tuple(i.recipe["tile"][:2]): pictures.load(store.home, i.file or "") for i in tiles}
    assert np.array_equal(corner[1, 2], whole[:24, 32:]) and np.array_equal(corner[2, 1], whole[24:, :32])
    assert len(tiles) == 4 and sorted(i.recipe["seed"] for i in tiles) == [0, 1, 2, 3]


def test_objects_of_a_jsonl_table_are_declared(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "1.png")
    row = {"file": "1.png", "prompt": "a cup that is red", "objects": [{"noun": "cup", "colour": "red"}], "seed": 5}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    (cell,) = expand(take_in(tmp_path / "made", tmp_path, manifest=tmp_path / "m.jsonl").study)
    assert [(b.noun, b.attribute) for b in cell.prompt.bindings] == [("cup", "red")] and not cell.prompt.swapped
    assert cell.seeds((5,)) == (5,)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.png,,", r"m.csv:2: prompt is missing"),
        ("2.png,a,", r"there is no 2.png in .*; did you mean '1.png'"),
        ("../m.csv,a,", r"'../m.csv' lies outside"),
        ("1.png,a,x", r"seed is 'x': a whole number"),
        ("1.png,a", r"m.csv:2: the line has more or fewer fields"),
        ("1.png,a,-1", r"seed is '-1'"),
    ],
)
def test_a_table_that_cannot_be_used(row: str, message: str, tmp_path: Path) -> None:
    picture(tmp_path / "made" / "1.png")
    (tmp_path / "m.csv").write_text(f"file,prompt,seed\n{row}\n")
    with pytest.raises(PromptlabError, match=message):
        take_in(tmp_path / "made", tmp_path, manifest=tmp_path / "m.csv")
    assert not (tmp_path / "studies" / "taken.yaml").exists()


def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "1.png")
    (tmp_path / "m.csv").write_text("file,prompt,cfg\n1.png,a,7\n")
    (tmp_path / "g.csv").write_text("file,prompt,row,col,grid\n1.png,a,3,1,2x2\n")
    for more, message in (
        ({}, "says its prompt"),
        ({"layout": "geneval2"}, "did you mean 'geneval'"),
        ({"layout": "manifest"}, "add --manifest"),
        ({"manifest": tmp_path / "m.csv"}, "no column 'cfg'"),
        ({"manifest": tmp_path / "g.csv"}, "row and col"),
        ({"manifest": tmp_path / "no.csv"}, "cannot be read"),
    ):
        with pytest.raises(PromptlabError, match=message):
            take_in(tmp_path / "made", tmp_path, **more)
    with pytest.raises(PromptlabError, match="is no folder"):
        take_in(tmp_path / "nowhere", tmp_path)
    with pytest.raises(StudyError, match="study name"):
        import_pictures(tmp_path / "made", "Bad Name", tmp_path)
