"""What the READMEs and the studies say is true: paths and commands exist, code runs, contrasts name real measures."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from judges import random_clip, random_parser
from places import ROOT
from promptlab import plugins
from promptlab.cli import app, main
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import ProbeUse, Study, load_study

PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for folder in (".", ".github", "data", "dashboards", "promptlab", "studies", "tests")
    for path in sorted((ROOT / folder).glob("*.md" if folder == "." else "**/*.md"))
}
"""Every page of documentation by its path."""
BLOCKS = [
    block for text in PAGES.values() for block in re.findall(r"<!-- test -->\s*```python\n(.*?)```", text, re.DOTALL)
]
PLACEHOLDERS = ("NAME", "...")
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


def commands(command: Any, path: str = "promptlab") -> Iterator[tuple[str, Any]]:
    """Every command that is not hidden, with its full name."""
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield f"{path} {name}", inner
            yield from commands(inner, f"{path} {name}")


COMMANDS = dict(commands(typer.main.get_command(app)))
GROUPS: dict[str, list[str]] = {}
"""Names of commands under the headings of `promptlab --help`."""
for _name, _command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
    if not _command.hidden:
        GROUPS.setdefault(_command.rich_help_panel, []).append(_name)


def code_of(text: str) -> list[str]:
    """What stands in back ticks: blocks and spans."""
    return re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        path = (ROOT / page).parent / place if place else ROOT / page
        assert path.exists(), f"{page}: nothing lies at {target}"
        assert not anchor or anchor in anchors(path.read_text("utf-8")), f"{page}: no heading {target}"


@pytest.mark.parametrize("page", PAGES)
def test_every_path_in_back_ticks_exists(page: str) -> None:
    for code in code_of(PAGES[page]):
        for path in re.findall(r"(?<![\w./-])(?:promptlab|studies|dashboards|tests)/[\w./-]*", code):
            if not any(part in path for part in PLACEHOLDERS):
                assert (ROOT / path).exists(), f"{page}: nothing lies at {path}"


def test_every_folder_of_the_top_level_has_a_readme_and_it_is_linked() -> None:
    folders = ("data", "dashboards", "promptlab", "studies", "tests")
    assert not [name for name in folders if f"({name}/README.md)" not in PAGES["README.md"]]


def test_the_first_page_stays_short() -> None:
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 150 and len(PAGES["README.md"].split()) <= 1500
    assert len(PAGES[".github/CONTRIBUTING.md"].splitlines()) <= 50


def test_the_command_table_names_every_command_in_its_group() -> None:
    page = PAGES["promptlab/cli/README.md"]
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(GROUPS)
    for group, names in GROUPS.items():
        listed = re.findall(r"^\| `promptlab ([a-z-]+)", sections[group], re.MULTILINE)
        assert list(dict.fromkeys(listed)) == names, group
    assert not [name for name in COMMANDS if not re.search(rf"\b{name}\b", page)], "say what these are for"


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_command_that_does_not_exist(page: str) -> None:
    code = "\n".join(code_of(PAGES[page]))
    known = {name.split()[1] for name in COMMANDS}
    assert set(re.findall(r"(?:^|`|\$ |uv run )promptlab ([a-z][a-z-]*)", code, re.MULTILINE)) <= known


def test_the_diagram_of_the_packages_is_the_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = [c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    layers = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
    diagram = PAGES["promptlab/README.md"].split("```")[1]
    drawn = [set(re.findall(r"\w+", line.split("   ")[0])) for line in diagram.strip().splitlines()]
    assert drawn == [layer for layer in layers if layer != {"__main__"}]


def test_the_walk_of_a_study_is_short_and_joined() -> None:
    """Each module of the walk is imported by another one of it, or by its package; plugins are loaded by name."""
    page = PAGES["promptlab/README.md"]
    walk = re.findall(r"^\| \d+ \| `(promptlab/[\w/]+\.py)` \|", page, re.MULTILINE)
    assert 10 < len(set(walk)) == len(walk) <= 20
    for path in walk:
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        parent, _, name = module.rpartition(".")
        if parent.rpartition(".")[2] in ("axes", "backends", "probes"):
            continue
        uses = re.compile(rf"from {module} import|from {parent} import .*\b{name}\b")
        package = ROOT / parent.replace(".", "/") / "__init__.py"
        others = [package, *(ROOT / other for other in walk if other != path)]
        assert any(uses.search(other.read_text("utf-8")) for other in others), f"{path}: nobody on the walk imports it"


STUDIES_SHOWN = [
    (page, block)
    for page, text in PAGES.items()
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    if re.search(r"^name: ", block, re.MULTILINE) and "backend:" not in block
]


@pytest.mark.parametrize(("page", "block"), STUDIES_SHOWN, ids=[page for page, _ in STUDIES_SHOWN])
def test_a_study_that_a_page_shows_is_valid_and_can_be_planned(
    page: str, block: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Studies of a plugin's guide have a test of their own."""
    path = tmp_path / "shown.yaml"
    path.write_text(block, "utf-8")
    for command in ("validate", "plan"):
        monkeypatch.setattr("sys.argv", ["promptlab", command, str(path)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0, command
    study = load_study(path)
    printed = " ".join(capsys.readouterr().out.split())
    assert study.question in printed and "0 are made" in printed


def test_the_guide_to_a_study_names_its_own_file() -> None:
    page = PAGES["studies/README.md"]
    names = re.findall(r"^# (\w+)\.yaml\nname: (\w+)$", page, re.MULTILINE)
    assert names and all(file == name for file, name in names)
    assert re.findall(r"^promptlab (\w+) (\w+)\.yaml$", page, re.MULTILINE) == [
        (command, names[0][0]) for command in ("validate", "plan", "run")
    ]


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
def test_the_code_in_the_readmes_runs(block: str, answered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
