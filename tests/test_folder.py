"""Pictures made elsewhere: every layout becomes a study, what is bad is told and counted, nothing is guessed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judges import random_clip, random_parser
from PIL import Image as Pillow
from PIL import PngImagePlugin

from promptlab import pictures, plugins
from promptlab.backends import Job
from promptlab.errors import PromptlabError, StudyError
from promptlab.grid import expand
from promptlab.imports import Imported, import_pictures, import_prompts
from promptlab.plan import plan_study
from promptlab.records import Cell, Prompt, Settings, Source
from promptlab.run import Summary, run_study
from promptlab.store import Store
from promptlab.study import ProbeUse, Study, load_study, parse_study

BENCHMARKS = Path(__file__).parents[2] / "shared" / "benchmarks"


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (48, 32), **notes: str) -> np.ndarray:
    """A file of noise with text chunks; its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    chunks = PngImagePlugin.PngInfo()
    for name, text in notes.items():
        chunks.add_text(name.replace("__", "-"), text)
    Pillow.fromarray(pixels).save(path, pnginfo=chunks)
    return pixels


def take_in(folder: Path, tmp_path: Path, probes: tuple[str, ...] = ("exposure",), **more: Any) -> Imported:
    return import_pictures(folder, "taken", tmp_path / "studies", probes=probes, **more)


def run(study: Study, tmp_path: Path) -> Summary:
    return run_study(study, Store(tmp_path / "home"), passports_n=0)


def levels(done: Imported) -> list[dict[str, Any]]:
    return [dict(cell.levels) for cell in expand(done.study)]


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
    assert (done.layout, done.pictures, done.prompts, done.declared, done.own_seeds) == ("geneval", 7, 2, 2, False)
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


def test_pixels_come_as_they_are(tmp_path: Path) -> None:
    original = picture(tmp_path / "made" / "a red cup_000007.png", 3, (40, 24))
    summary = run(take_in(tmp_path / "made", tmp_path).study, tmp_path)
    store = Store(tmp_path / "home")
    (image,) = store.images().values()
    assert np.array_equal(pictures.load(store.home, image.file or ""), original) and summary.made == {"ok": 1}
    assert store.query("SELECT * FROM binding")[["noun", "attribute"]].to_numpy().tolist() == [["cup", "red"]]


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
    picture(made / "9.png", 9)
    done = take_in(made, tmp_path)
    assert done.layout == "notes" and [name for name, _ in done.skipped] == ["5.png", "6.png", "8.png", "9.png"]
    assert not done.own_seeds  # one has none, and one is beyond 32 bits
    found = {row["text"]: row for row in levels(done)}
    web = found["a red cup and a blue chair,\nin the rain"]
    assert (web["guidance_scale"], web["num_inference_steps"], web["scheduler"]) == (7.5, 20, "DPM++ 2M Karras")
    assert (web["negative_prompt"], web["model"]) == ("blurry, bad", "a, b: c")
    assert (found["a green cup"]["guidance_scale"], found["a green cup"]["model"]) == (6.0, "sdxl")
    assert (found["a pink cup"]["scheduler"], found["a pink cup"]["num_inference_steps"]) == ("k_lms", 50)
    comfy = found["a blue cup"]
    assert (comfy["guidance_scale"], comfy["scheduler"], comfy["model"]) == (8.0, "euler normal", "sd15.safetensors")
    assert found["only words, no facts"]["guidance_scale"] is None
    assert found["only words, no facts"]["model"] == "unknown"
    original = json.loads((tmp_path / "studies" / "taken.pictures.jsonl").read_text().splitlines()[0])
    assert (original["seed"], original["original_seed"]) == (0, 965400086)
    summary = run(done.study, tmp_path)
    assert summary.made == {"ok": 5}
    rows = Store(tmp_path / "home").query("SELECT guidance_scale FROM cell WHERE prompt = 'only words, no facts'")
    assert rows["guidance_scale"].isna().all()


def test_our_own_pictures_come_back_with_their_seeds(tmp_path: Path) -> None:
    drawn = parse_study(
        "name: drawn\nquestion: what?\nbackend: renderer\n"
        "prompt: {template: '{x}', objects: {x: {noun: cup, colour: red}}}\n"
        "axes: {guidance_scale: [1, 5]}\nseeds: [3, 8]"
    )
    run(drawn, tmp_path)
    done = take_in(tmp_path / "home" / "images", tmp_path)
    assert done.own_seeds and done.study.seeds == (3, 8) and done.study.model == "miniature"
    assert sorted(row["guidance_scale"] for row in levels(done)) == [1.0, 5.0]


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


def test_bad_files_are_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for i in range(6):
        picture(made / f"a red cup_{i:06}.png", i, (16, 16) if i else (48, 32))
    (made / "a red cup_000001.png").write_bytes((made / "a red cup_000000.png").read_bytes()[:500])
    (made / "a red cup_000002.png").write_text("no picture")
    Pillow.new("1", (9000, 9000)).save(made / "a red cup_000003.png")  # 81 megapixels in a few kB
    Pillow.fromarray(np.zeros((16, 16, 3), np.uint8)).save(made / "a red cup_000005.png")
    done = take_in(made, tmp_path)
    (made / "a red cup_000004.png").unlink()
    summary = run(done.study, tmp_path)
    assert summary.made == {"ok": 1, "invalid_image": 4, "degenerate": 1}
    failures = Store(tmp_path / "home").query("SELECT status, reason FROM failures")
    told = " ".join(failures[failures["status"] == "invalid_image"]["reason"])
    for why in ("no whole PNG", "megapixels", "cannot be read"):
        assert why in told
    assert run(done.study, tmp_path).made == {"invalid_image": 4}  # asked again, and no score is invented
    assert len(Store(tmp_path / "home").query("SELECT DISTINCT image FROM score")) == 1


def test_a_changed_file_is_a_new_picture(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for i in range(2):
        picture(made / f"a red cup_{i:06}.png", i)
    first = take_in(made, tmp_path)
    run(first.study, tmp_path)
    ids = {cell.image_id(seed) for cell in expand(first.study) for seed in cell.seeds(first.study.seeds)}
    picture(made / "a red cup_000001.png", 99)
    stale = run_study(load_study(first.path), Store(tmp_path / "other"), passports_n=0)
    assert stale.made == {"ok": 1, "invalid_image": 1}
    with pytest.raises(StudyError, match="--again"):
        take_in(made, tmp_path)
    second = take_in(made, tmp_path, again=True)
    assert run(second.study, tmp_path).made == {"ok": 1}
    now = {cell.image_id(seed) for cell in expand(second.study) for seed in cell.seeds(second.study.seeds)}
    assert len(ids & now) == 1 and len(now) == 2
    made.rename(tmp_path / "moved")  # the pictures stay what they are
    text = first.path.read_text().replace("../made", "../moved")
    first.path.write_text(text)
    assert not run(load_study(first.path), tmp_path).made


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 1", "seeds: 1\nsettings: {num_inference_steps: 9}", "come with their list"),
        ('"{text}"', '"{text}, sharp"', "have their prompts already"),
        ("seeds: 1", "seeds: 1\nunits: [text]\ncontrasts: []", None),
        ('model: "unknown"\n', "", "say which model"),
    ],
)
def test_a_study_of_a_folder_varies_nothing(old: str, new: str, message: str | None, tmp_path: Path) -> None:
    picture(tmp_path / "made" / "a red cup_000000.png")
    done = take_in(tmp_path / "made", tmp_path)
    text = done.path.read_text()
    assert old in text
    done.path.write_text(text.replace(old, new))
    if message is None:
        load_study(done.path)
        return
    with pytest.raises(StudyError, match=message):
        load_study(done.path)
    done.path.write_text(text.replace("seeds:", "  guidance_scale: [1, 5]\nseeds:"))
    with pytest.raises(StudyError, match="the only axis is their list"):
        load_study(done.path)


def test_the_backend_refuses_jobs_without_files(tmp_path: Path) -> None:
    cell = Cell("x", (), Prompt("a"), Settings(), "g", "folder", "m")
    backend = plugins.load("backend", "folder", model="m", batch_size=8)
    with pytest.raises(PromptlabError, match="promptlab import"):
        list(backend.generate([Job.of(cell, 0)]))
    picture(tmp_path / "1.png", 0, (3, 3))
    tile = replace(cell, sources=(Source(0, str(tmp_path / "1.png"), "1.png", "0" * 64, (1, 1, 4, 4)),))
    (made,) = backend.generate([Job.of(tile, 0)])
    assert made.status == "invalid_image" and "has changed" in str(made.reason)
    assert backend.provenance()["model"] == "m"


def test_a_list_of_prompts_becomes_a_study(tmp_path: Path) -> None:
    lists = Path(__file__).parent / "lists"
    done = import_prompts(lists / "metadata.jsonl", "mine", tmp_path, only={"tag": ["color_attr"]}, seeds=2, probes=())
    assert (done.prompts, done.declared, done.layout) == (2, 2, "geneval") and len(done.study.seeds) == 2
    with pytest.raises(StudyError, match="did you mean 'color_attr'"):
        import_prompts(lists / "metadata.jsonl", "other", tmp_path, only={"tag": ["colour_attr"]})
    assert not (tmp_path / "other.yaml").exists()
    drawn = done.study.model_copy(update={"backend": "renderer"})
    assert run(drawn, tmp_path).made == {"ok": 4}


def test_the_four_samples_of_t2i_compbench(tmp_path: Path) -> None:
    samples = BENCHMARKS / "t2i_compbench" / "samples"
    if not samples.is_dir():
        pytest.skip(f"no samples at {samples}")
    done = take_in(samples, tmp_path, prompts=samples.parent / "color_val.txt", probes=("exposure",))
    judges = [
        ProbeUse.model_validate({"name": "exposure"}),
        ProbeUse.model_validate({"name": "clip_similarity", "model": f"local-dir:{random_clip()}"}),
        ProbeUse.model_validate({"name": "binding", "parser": str(random_parser())}),
    ]
    summary = run(done.study.model_copy(update={"probes": tuple(judges)}), tmp_path)
    assert summary.made == {"ok": 4}
    scores = Store(tmp_path / "home").query("SELECT prompt, probe, measure, value, reason FROM scored")
    by_probe = {name: part for name, part in scores.groupby(scores["probe"].str.split("-").str[0])}
    assert by_probe["exposure"]["value"].notna().sum() == 24
    assert by_probe["clip_similarity"]["value"].between(-1, 1).sum() == 4
    assert by_probe["binding"]["value"].isna().all()
    reasons = Counter(by_probe["binding"]["reason"].str.replace(r"\d{3,}x\d{3,}$", "SIZE", regex=True))
    assert "the prompt declares no object" in reasons
    assert (
        "the scene parser reads 128x128 pictures of the miniature, this one has SIZE" in reasons and len(reasons) == 2
    )


def test_the_command_line(tmp_path: Path) -> None:
    picture(tmp_path / "made" / "a red cup_000000.png")

    def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "promptlab", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    done = cli("import", "made", "--name", "x", "--probes", "exposure")
    assert (
        done.returncode == 0
        and "1 pictures of 1 prompts" in done.stdout
        and "promptlab run studies/x.yaml" in done.stdout
    )
    assert cli("import", "made", "--name", "x").returncode == 2
    (tmp_path / "made" / "a red cup_000000.png").write_bytes(b"no more")
    ran = cli("run", "studies/x.yaml", "--home", "home")
    assert ran.returncode == 3 and "invalid_image" in ran.stderr and "Traceback" not in ran.stderr
