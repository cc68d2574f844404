"""Study files: the shipped ones, every kind of mistake with its line, and 2,000 mutations."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from full_study import FULL
from places import STUDIES
from promptlab.errors import StudyError
from promptlab.records import Settings
from promptlab.study import axes
from promptlab.study.grid import count, expand
from promptlab.study.study import (
    GivenSettings,
    Study,
    commented_study,
    load_study,
    parse_study,
    study_schema,
    write_schema,
)

FILES = sorted(STUDIES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_studies(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert study.source == path.read_text(encoding="utf-8")
    images = count(study) * len(study.seeds)
    assert images <= (8 if study.name == "smoke" else 500)
    assert any(contrast.family == "confirmatory" for contrast in study.contrasts) or study.name in (
        "smoke",
        "attention",
    )


def test_the_flagship() -> None:
    study = load_study(STUDIES / "attribute_binding.yaml")
    cells = list(expand(study))
    assert len({cell.group for cell in cells}) == 24
    texts = {cell.prompt.text for cell in cells}
    assert {"a photo of a red cup and a blue chair", "a photo of a red cup", "a photo of a blue chair"} <= texts
    twins = {cell.prompt.text: cell.prompt.swapped for cell in cells if cell.prompt.swapped}
    assert all(twins[foil] == text for text, foil in twins.items() if foil)


def test_everything_that_a_study_may_say() -> None:
    study = parse_study(FULL)
    assert study.seeds == (0, 7, 11)
    assert study.settings.settings() == Settings(
        height=64, width=128, scheduler="DDIMScheduler", negative_prompt="blurry"
    )
    probes = [(probe.name, probe.options) for probe in study.probes]
    assert probes == [("binding", {}), ("clip_contrast", {"prefix": "seen"})]
    assert study.contrasts[0].probe == "binding"
    assert str(study.error(("contrasts", 0, "margin"), "no")).startswith("study.yaml:48:13: no\n")
    assert len(list(expand(study))) == count(study)


def test_defaults() -> None:
    study = parse_study("name: a\nquestion: b\nprompt: {template: c}\n")
    assert (study.seeds, study.model, study.backend, study.settings.settings()) == (
        (0,),
        "miniature",
        "diffusion",
        Settings(),
    )
    assert parse_study("name: a\nquestion: b\nprompt: {template: c}\nseeds: 3\n").seeds == (0, 1, 2)
    made: Any = {"name": "a", "question": "b", "prompt": {"template": "c"}}
    assert Study.model_validate(made).source == ""


def test_settings_are_those_of_the_records() -> None:
    assert list(GivenSettings.model_fields) == [field.name for field in fields(Settings)]


def test_schema_is_current_and_accepts_every_study(tmp_path: Path) -> None:
    write_schema(tmp_path / "study.schema.json")
    assert (tmp_path / "study.schema.json").read_text() == (STUDIES / "study.schema.json").read_text()
    schema = study_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    assert not [word for word in ("prefixItems", "unevaluated", "$dynamicRef") if word in json.dumps(schema)]
    validator = jsonschema.Draft7Validator(schema)
    for text in (*(path.read_text(encoding="utf-8") for path in FILES), FULL, commented_study("a")):
        assert not list(validator.iter_errors(yaml.safe_load(text)))
    assert list(validator.iter_errors({"name": "a", "question": "b", "prompt": {"template": "c"}, "axis": {}}))


def test_init_writes_a_valid_study() -> None:
    study = parse_study(commented_study("my_first-study"))
    assert study.name == "my_first-study"
    assert count(study) == 24
    assert load_study(Path(axes.__file__).parent.parent / "template.yaml").name == "my_study"
    for name in ("con", "lpt1", "", "A", "a b", "../a", "a/b", "a\x00", "-a", "é", "a" * 65, "\ud800", "a\n"):
        with pytest.raises(StudyError, match="name of the study"):
            commented_study(name)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("[0, 4294967296]", "seed 4294967296 is too large; the largest seed is 4294967295"),
        ("[-1]", "seed -1 is negative; allowed: at least 0"),
    ],
)
def test_seeds_are_32_bits(seeds: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        parse_study(f"name: a\nquestion: b\nprompt: {{template: c}}\nseeds: {seeds}\n")


def test_study_files_load_nothing_heavy() -> None:
    code = (
        "import sys, promptlab.study, promptlab.study.grid;"
        "heavy = {'torch', 'diffusers', 'transformers', 'duckdb', 'streamlit', 'tokenizers'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
