"""What the README and the studies say is true: commands exist, code runs, contrasts name what probes measure."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from judges import random_clip, random_parser
from places import ROOT
from promptlab import plugins
from promptlab.cli import app
from promptlab.run import RunOptions, run_study
from promptlab.store import Store
from promptlab.study import ProbeUse, Study, load_study

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"<!-- test -->\s*```python\n(.*?)```", README, re.DOTALL)
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


def commands(command: Any, path: str = "promptlab") -> Iterator[tuple[str, Any]]:
    """Every command that is not hidden, with its full name."""
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield f"{path} {name}", inner
            yield from commands(inner, f"{path} {name}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_readme_names_every_command() -> None:
    missing = [name for name in COMMANDS if not re.search(rf"\b{name}\b", README)]
    assert not missing, "say in README.md what these are for"


def test_the_readme_names_no_other_command() -> None:
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", README, re.DOTALL))
    known = {name.split()[1] for name in COMMANDS}
    assert set(re.findall(r"(?:^|`|\$ |uv run )promptlab ([a-z]+)\b", code, re.MULTILINE)) <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help and len(command.help) > 15
    assert not [p.name for p in command.params if not getattr(p, "help", None)], "every option and argument has help"


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `data/` is the home of a flagship study that the renderer drew, three prompt families of it."""
    folder = tmp_path_factory.mktemp("readme")
    study = load_study(ROOT / "studies" / "attribute_binding.yaml")
    pairs = study.axes["pair"]
    few = {**study.axes, "pair": pairs.model_copy(update={"zip": pairs.zip[:3]})}  # type: ignore[attr-defined]
    probes = tuple(ProbeUse.model_validate({"name": use.name, **judge(use.name)}) for use in study.probes)
    small = study.model_copy(
        update={"axes": few, "probes": probes, "backend": "renderer", "model": "swap=0.3,neglect=0.2"}
    )
    summary = run_study(small, Store(folder / "data"), RunOptions(passports_n=0))
    assert not summary.failed and summary.scores
    return folder


def judge(probe: str) -> dict[str, str]:
    """Judges of random weights, which are there before anything is trained."""
    options = {"model": f"local-dir:{random_clip()}", "parser": str(random_parser())}
    wanted = inspect.signature(import_module(f"promptlab.analyzer.probes.{probe}").load).parameters
    return {name: value for name, value in options.items() if name in wanted}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0][:40])
def test_the_code_in_the_readme_runs(block: str, answered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(answered)
    monkeypatch.setenv("PROMPTLAB_HOME", str(answered / "data"))
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_compare_what_their_probes_measure(path: Path) -> None:
    study: Study = load_study(path)
    assert study.name == path.stem
    measures = {
        use.name: {m.name for m in plugins.load("probe", use.name, **use.options).measures} for use in study.probes
    }
    for contrast in study.contrasts:
        probe, measure = contrast.measure.split(".", 1)
        assert probe in measures, f"{contrast.name}: {probe} is not among the probes"
        assert measure in measures[probe], f"{contrast.name}: {probe} measures {', '.join(measures[probe])}"
