"""Pictures made elsewhere, taken in and scored: bad files are counted, a changed file is a new picture."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from elsewhere import levels, picture, run, take_in
from judges import random_clip, random_parser
from places import BENCHMARKS, LISTS
from promptlab import plugins
from promptlab.errors import PromptlabError, StudyError
from promptlab.exchange.imports import import_prompts
from promptlab.generator.backends import Job
from promptlab.records import Cell, Prompt, Settings, Source
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store, pictures
from promptlab.study.grid import expand
from promptlab.study.study import ProbeUse, load_study, parse_study


def test_pixels_come_as_they_are(tmp_path: Path) -> None:
    original = picture(tmp_path / "made" / "a red cup_000007.png", 3, (40, 24))
    summary = run(take_in(tmp_path / "made", tmp_path).study, tmp_path)
    store = Store(tmp_path / "home")
    (image,) = store.images().values()
    assert np.array_equal(pictures.load(store.home, image.file or ""), original) and summary.made == {"ok": 1}
    assert store.query("SELECT * FROM binding")[["noun", "attribute"]].to_numpy().tolist() == [["cup", "red"]]


def test_our_own_pictures_come_back_with_their_seeds(tmp_path: Path) -> None:
    drawn = parse_study(
        "name: drawn\nquestion: what?\nbackend: renderer\n"
        "prompt: {template: '{x}', objects: {x: {noun: cup, colour: red}}}\n"
        "axes: {guidance_scale: [1, 5]}\nseeds: [3, 8]"
    )
    run(drawn, tmp_path)
    done = take_in(tmp_path / "home" / "images", tmp_path)
    assert done.seeds_kept and done.study.seeds == (3, 8) and done.study.model == "miniature"
    assert sorted(row["guidance_scale"] for row in levels(done)) == [1.0, 5.0]


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
    reasons = " ".join(failures[failures["status"] == "invalid_image"]["reason"])
    for why in ("no whole PNG", "megapixels", "cannot be read"):
        assert why in reasons
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
    stale = run_study(load_study(first.path), Store(tmp_path / "other"), RunOptions(passports_n=0))
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
    done = import_prompts(LISTS / "metadata.jsonl", "mine", tmp_path, only={"tag": ["color_attr"]}, seeds=2, probes=())
    assert (done.prompts, done.declared, done.layout) == (2, 2, "geneval") and len(done.study.seeds) == 2
    with pytest.raises(StudyError, match="did you mean 'color_attr'"):
        import_prompts(LISTS / "metadata.jsonl", "other", tmp_path, only={"tag": ["colour_attr"]})
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
    by_probe = {name: part for name, part in scores.groupby("probe")}
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

    done = cli("import", "made", "--name", "x", "--probes", "")
    assert (
        done.returncode == 0
        and "1 pictures of 1 prompts" in done.stdout
        and "promptlab run studies/x.yaml" in done.stdout
    )
    assert cli("import", "made", "--name", "x").returncode == 2
    (tmp_path / "made" / "a red cup_000000.png").write_bytes(b"no more")
    ran = cli("run", "studies/x.yaml", "--home", "home")
    assert ran.returncode == 3 and "invalid_image" in ran.stderr and "Traceback" not in ran.stderr
