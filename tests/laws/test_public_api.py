"""What `from promptlab import ...` offers: every name, lazily, with types that a user's checker sees."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import promptlab
from places import ROOT
from promptlab.results import Results, load
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study

SCRIPT = """\
from promptlab import Store, load, load_study, run_study
study = load_study("study.yaml")
summary = run_study(study, Store("home"))
results = load(study.name)
reveal_type((results, results.outcomes(), summary.effects, summary.failed))
"""
SKIPPED = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "open_clip",
    "scipy",
    "sklearn",
    "duckdb",
    "PIL",
    "openai",
)
"""Libraries that no public type is made of: to read them took mypy two minutes."""


def test_the_list_of_names_is_what_dir_shows_and_all_can_be_imported() -> None:
    assert dir(promptlab) == sorted(promptlab.__all__) and len(set(promptlab.__all__)) == len(promptlab.__all__)
    for name in promptlab.__all__:
        one = getattr(promptlab, name)
        assert one.__name__ == name and one.__module__.startswith("promptlab.") and one.__doc__, name
    assert promptlab.load is load
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = promptlab.nonsense  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from promptlab import nonsense")


def test_import_loads_nothing_else() -> None:
    code = """
import sys
before = set(sys.modules)
import promptlab
dir(promptlab)
loaded = {name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names}
assert loaded == {"promptlab"}, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_users_script_is_typed(tmp_path: Path) -> None:
    assert (ROOT / "promptlab" / "py.typed").is_file()
    (tmp_path / "script.py").write_text(SCRIPT + "from promptlab import nonsense\n")
    skipped = ",".join(f"{name}.*" for name in SKIPPED)
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nstrict = True\n[mypy-{skipped}]\nfollow_imports = skip\nignore_missing_imports = True\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    types = "tuple[promptlab.results.Results, pandas.core.frame.DataFrame, tuple[promptlab.records.ContrastEffect, ...]"
    assert f'Revealed type is "{types}, int]"' in done.stdout.replace("builtins.", ""), done.stdout + done.stderr
    assert 'error: Module "promptlab" has no attribute "nonsense"' in done.stdout
    assert "Found 1 error" in done.stdout


STUDY = """\
name: shown
question: What does a repr show?
backend: renderer
model: swap=0.0
prompt: {template: "{lead} {cup}", objects: {cup: {noun: cup, colour: red}}, phrases: {lead: "{x}"}}
axes:
  x: ["<script>alert(1)</script>", "a & b"]
  guidance_scale: [1, 2, 3, 4, 5, 6, 7]
probes: [exposure]
"""


class Texts(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


def test_results_show_what_they_hold_and_escape_it(tmp_path: Path) -> None:
    run_study(parse_study(STUDY), Store(tmp_path), options=RunOptions(passports_n=0))
    results = load("shown", tmp_path)
    lines = repr(results).splitlines()
    assert lines[0] == "Results of shown"
    facts = dict(line.strip().split("  ", 1) for line in lines[1:])
    assert {name: text.strip() for name, text in facts.items()} == {
        "tier": "T0",
        "images": "14 of 14 ok",
        "prompts": "2",
        "probes": "exposure",
        "axis guidance_scale": "7 levels: 1; 2; 3; 4; 5; 6, …",
        "axis x": "2 levels: <script>alert(1)</script>; a & b",
    }
    page = Texts()
    page.feed(results._repr_html_())
    assert page.tags == {"table", "caption", "tbody", "tr", "th", "td"}
    assert "2 levels: <script>alert(1)</script>; a & b" in page.text and "14 of 14 ok" in page.text


def test_a_repr_never_fails(tmp_path: Path) -> None:
    nowhere = Results(Store(tmp_path), "shown")
    assert repr(nowhere).startswith("Results of shown\n  database  ") and "<table>" in nowhere._repr_html_()
    assert repr(Results(Store(tmp_path))).startswith("Results without a study\n  database  ")
