"""The flagship study, small, on a tiny model of every family, from the command line to scores and an answer."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import promptlab.run
from judges import random_clip, random_parser
from places import STUDIES
from promptlab.cli import app
from promptlab.cli.terminal import console
from promptlab.errors import ModelError, StudyError
from promptlab.store import Store
from tiny_families import BUILDERS

STUDY = STUDIES / "attribute_binding.yaml"
WITHOUT = ("--without", "guidance_scale")
EMBEDDED, NONE = ("lcm", "flux-dev", "flux2-dev"), ("flux-schnell", "klein", "z-image-turbo")


def judge(probe: str) -> dict[str, str]:
    """Judges of random weights."""
    options = {"model": f"local-dir:{random_clip()}", "parser": str(random_parser())}
    wanted = inspect.signature(import_module(f"promptlab.analyzer.probes.{probe}").load).parameters
    return {name: value for name, value in options.items() if name in wanted}


def small(path: Path, kind: str, side: int) -> Path:
    """A copy of the study: one pair, one seed, two steps. Distilled guidance gets an axis that follows it."""
    study: dict[str, Any] = yaml.safe_load(STUDY.read_text("utf-8"))
    study["axes"]["pair"]["zip"] = study["axes"]["pair"]["zip"][:1]
    for axis in ("objects", "order"):
        del study["axes"][axis]
    study.pop("exclude")
    study["settings"] = {"num_inference_steps": 2, "height": side, "width": side}
    study["axes"] |= {"guidance_scale": [1, 5]} | ({"distilled_guidance_scale": [1, 4]} if kind in EMBEDDED else {})
    study["contrasts"] = [
        {"name": "swapping", "measure": "binding.accuracy", "axis": "assignment", "levels": ["swapped", "as_written"]}
    ]
    study["seeds"] = 1
    study["probes"] = [{"name": name, **judge(name)} for name in study["probes"]]
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def cli(*arguments: str) -> str:
    """What a command prints."""
    with console.capture() as output:
        app([*arguments], standalone_mode=False)
    return output.get()


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_study_ends_with_scores(kind: str, family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    side = 64 if kind == "sdxl" else 128  # the scene parser reads pictures of 128 pixels
    study = small(tmp_path / "small.yaml", kind, side)
    folder = str(family_folder(kind))
    home = ["--home", str(tmp_path / "home"), "--model", folder]
    if kind in (*EMBEDDED, *NONE):
        home += WITHOUT
    output = cli("run", str(study), *home, "--batch-size", "2", "--passports", "0")
    pictures = 2 if kind in NONE else 4
    assert f"{pictures} pictures made" in output and f"model {folder}" in output
    store = Store(tmp_path / "home")
    images = store.query("SELECT status, width, batch_size, distilled_guidance_scale AS w FROM image")
    assert images["status"].tolist() == ["ok"] * pictures and set(images["width"]) == {side}
    assert set(images["w"].dropna()) == ({1.0, 4.0} if kind in EMBEDDED else set())
    scores = store.query("SELECT probe, value, label, reason FROM scored")
    requested = {use["name"] for use in yaml.safe_load(study.read_text("utf-8"))["probes"]}
    assert set(scores["probe"]) == requested
    empty = scores[scores["value"].isna() & scores["label"].isna()]
    assert empty["reason"].notna().all() and (empty["reason"] != "").all()
    assert scores.loc[scores["probe"] == "exposure", "value"].notna().all()
    outcomes = scores[scores["probe"] == "binding"]
    assert len(outcomes) and (outcomes["value"].isna().all() if side == 64 else outcomes["value"].notna().any())
    assert store.query("SELECT DISTINCT tier FROM cell")["tier"].tolist() == ["T2"]
    facts = dict(store.query("SELECT name, value FROM fact").to_numpy().tolist())
    assert facts["diffusion.weights"] and facts["diffusion.schedulers.default.class"].endswith("Scheduler")
    assert (facts["diffusion.speed.attention"], facts["diffusion.speed.compile"]) == ("default", "off")
    again = cli("run", str(study), *home, "--batch-size", "2", "--passports", "0", "--compile", "off")
    assert "0 pictures made" in again


def test_a_cfg_axis_is_refused_with_advice(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    for kind, advice in (("flux-dev", "vary distilled_guidance_scale instead"), ("klein", "vary num_inference_steps")):
        for command in ("plan", "validate", "run"):
            home = [] if command == "validate" else ["--home", str(tmp_path)]
            with pytest.raises(StudyError, match=advice) as caught:
                cli(command, str(STUDY), "--model", str(family_folder(kind)), *home)
            first = str(caught.value).splitlines()[0]
            assert first.startswith(f"{STUDY}:45:19: guidance_scale with the model") and "CFG" in first
            assert first.endswith("; or leave the axis out: --without guidance_scale")
        output = cli("plan", str(STUDY), "--model", str(family_folder(kind)), "--home", str(tmp_path), *WITHOUT)
        assert "144 cells x 2 seeds" in output and f"--model {family_folder(kind)} --without guidance_scale" in output
    assert not (tmp_path / "promptlab.duckdb").exists()


def test_pictures_are_measured_where_their_model_is_not(
    family_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promptlab.run, "_passports", lambda *_: None)
    study = small(tmp_path / "small.yaml", "sd", 64)
    folder = Path(shutil.copytree(family_folder("sd"), tmp_path / "model"))
    options = [str(study), "--home", str(tmp_path / "home"), "--model", str(folder)]
    text = study.read_text()
    study.write_text(text.replace("- name: exposure\n", ""))
    cli("run", *options, "--passports", "0")
    shutil.rmtree(folder)
    study.write_text(text)
    output = cli("score", *options)
    assert "0 pictures made" in output and ", 0 scores" not in output and "4 pictures were there" in output
    with pytest.raises(ModelError, match="no model"):
        cli("run", *options)
    study.write_text(text.replace("num_inference_steps: 2", "scheduler: null"))
    with pytest.raises(ModelError, match="no model"):  # whose steps are not known without it
        cli("score", *options)
