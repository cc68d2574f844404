"""Probes, backends and findings from outside: listed, run, put into a contrast, and never named by path in a study."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from outside_package import install, write_metadata
from promptlab import PromptlabError, Store, load, load_study, parse_study, plugins, run_study
from promptlab.analyzer.passports import passports
from promptlab.analyzer.probes import checked_id
from promptlab.claims import load_claims, run_claims
from promptlab.errors import StudyError
from promptlab.results.findings import FIRST, findings
from promptlab.results.queries import study_scores
from promptlab.run.options import RunOptions

STUDY = """\
name: brighter
question: Does guidance make stripes sharper?
backend: stripes
model: red
prompt: {template: "a {thing}", phrases: {thing: stripe}}
axes: {guidance_scale: [5, 1]}
settings: {height: 64, width: 64}
probes: [sharp]
contrasts: [{name: more, measure: sharp.sharpness, axis: guidance_scale, levels: [5, 1]}]
"""
FIVE, ONE = 128 / 255, 26 / 255
"""What the backend draws at guidance 5 and 1, and so the sharpness there."""
CLAIM = """\
id: C1
claim: Guidance makes stripes sharper.
source: the test
study: brighter.yaml
contrast: more
expects: more
margin: 0.1
design: two levels
size: one prompt
comparator: guidance 1
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package."""
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package can be imported, and its entry points are found, in this process."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv(plugins.VARIABLE, "")
    yield site
    forget("striped")


@pytest.fixture
def bare(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package can be imported, but has no entry points."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "striped").symlink_to(site / "striped")
    monkeypatch.syspath_prepend(tmp_path / "bare")
    monkeypatch.setenv(plugins.VARIABLE, "")
    yield tmp_path / "bare"
    forget("striped")


def forget(package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def command(*arguments: str, path: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """`promptlab` in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(path), "PROMPTLAB_HOME": str(home), plugins.VARIABLE: ""}
    argv = [sys.executable, "-m", "promptlab", *arguments]
    return subprocess.run(argv, cwd=home, env=env, capture_output=True, text=True, check=False)


def test_an_installed_plugin_is_listed_with_its_source_and_not_imported(installed: Path) -> None:
    for kind, name, module in (
        ("backend", "stripes", "stripes"),
        ("probe", "sharp", "sharp"),
        ("finding", "gain", "gain"),
    ):
        one = plugins.registry(kind)[name]
        assert (one.name, one.module, one.source) == (name, f"striped.{module}", "promptlab-stripes 1.0")
        assert name in plugins.names(kind) and list(plugins.names(kind)) == sorted(plugins.names(kind))
    assert not any(name.startswith("striped") for name in sys.modules)
    assert "sharp" not in plugins.names("backend") and "sharp" not in plugins.names("finding")


def test_an_installed_plugin_runs_and_stands_in_a_contrast(installed: Path, tmp_path: Path) -> None:
    study, store = parse_study(STUDY), Store(tmp_path / "home")
    summary = run_study(study, store, options=RunOptions(passports_n=20))
    assert dict(summary.made) == {"ok": 2} and summary.scores == 2
    (effect,) = summary.effects
    assert effect.estimate == pytest.approx(FIVE - ONE) and effect.n_pairs == effect.n_groups == 1
    results = load("brighter", store.home.path)
    assert results.effects()[["contrast", "measure"]].to_numpy().tolist() == [["more", "sharpness"]]
    assert results.curve("sharp.sharpness", "guidance_scale")["mean"].tolist() == pytest.approx([FIVE, ONE])
    assert results.passports()["kind"].tolist() == ["burn.sharpness"]
    assert "sharp" in repr(results)
    (row,) = findings(store, "brighter").query("module == 'gain'").to_dict("records")
    assert row["finding"] == "sharpness per step of guidance" and row["estimate"] == pytest.approx((FIVE - ONE) / 4)
    assert (row["axis"], row["measure"], row["n"]) == ("guidance_scale", "sharp.sharpness", 2)
    held = findings(store, "brighter", {"guidance_scale": 5}).query("module == 'gain'")
    assert held["reason"].tolist() == ["one level of guidance: a gain needs at least 2"]
    scores = study_scores(store, "brighter").scores("sharp.sharpness", "guidance_scale")
    assert sorted(scores["value"]) == pytest.approx([ONE, FIVE])


def test_every_finding_has_both_functions_and_those_that_ship_have_a_place(installed: Path) -> None:
    names = plugins.names("finding")
    assert set(names) == {*FIRST, "gain"}
    for name in names:
        shipped = plugins.module("finding", name)
        assert callable(shipped.applies) and callable(shipped.find)


def test_a_finding_that_is_no_finding_is_a_mistake_in_one_line(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hollow.py").write_text('kind = "finding"\n')
    monkeypatch.syspath_prepend(tmp_path)
    store = Store(tmp_path / "home")
    run_study(parse_study(STUDY), store, options=RunOptions(passports_n=0))
    monkeypatch.setenv(plugins.VARIABLE, "hollow")
    with pytest.raises(PromptlabError, match=r"finding 'hollow' .* has no function applies\(\.\.\.\)"):
        findings(store, "brighter")
    (tmp_path / "hollow.py").write_text(
        'kind = "finding"\ndef applies(axes): return False\ndef find(data, rng): 1 / 0\n'
    )
    forget("hollow")
    assert "hollow" not in set(findings(store, "brighter")["module"])
    lost = "def applies(axes): return True\ndef find(data, rng):\n    raise ValueError('why')\n    yield\n"
    (tmp_path / "hollow.py").write_text(f'kind = "finding"\n{lost}')
    forget("hollow")
    (row,) = findings(store, "brighter").query("module == 'hollow'").to_dict("records")
    assert row["reason"] == "why"
    forget("hollow")


def test_a_claim_rests_on_a_probe_from_outside(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "brighter.yaml").write_text(STUDY)
    (tmp_path / "c1_brighter.yaml").write_text(CLAIM)
    (settled,) = run_claims(Store(tmp_path / "home"), load_claims(tmp_path))
    assert settled.effect.estimate == pytest.approx(FIVE - ONE) and settled.verdict == "not testable here"


def test_the_command_lists_and_workers_know_what_is_named_on_the_command_line(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "brighter.yaml").write_text(STUDY)
    named = ("--plugin", "striped.stripes", "--plugin", "striped.sharp")
    listed = command(*named, "list", "probes", "--json", path=bare, home=tmp_path)
    assert {"name": "sharp", "source": plugins.VARIABLE, "module": "striped.sharp"} in json.loads(listed.stdout)
    refused = command("validate", "brighter.yaml", path=bare, home=tmp_path)
    assert refused.returncode == 2 and "no backend is called 'stripes'" in refused.stderr
    done = command(*named, "run", "brighter.yaml", "--workers", "2", "--passports", "0", path=bare, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Store(tmp_path).effects("brighter")[0].estimate == pytest.approx(FIVE - ONE)


def test_a_name_stands_for_processes_started_later(bare: Path) -> None:
    plugins.name_modules(["striped.sharp"])
    plugins.name_modules(["striped.stripes", "striped.sharp"])
    assert os.environ[plugins.VARIABLE] == "striped.sharp,striped.stripes"
    assert plugins.registry("backend")["stripes"].source == plugins.VARIABLE
    assert plugins.load("probe", "sharp", channel=1).channel == 1


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("probes: [sharp]", "probes: [striped.sharp]", "a study runs no code that it names: write 'sharp'"),
        ("backend: stripes", "backend: striped.stripes", "promptlab --plugin striped.stripes"),
        ("backend: stripes", "backend: stripe", "did you mean 'stripes'?"),
        ("probes: [sharp]", "probes: [shrp]", "did you mean 'sharp'?"),
        ("probes: [sharp]", "probes: [{name: sharp, chanel: 1}]", "did you mean 'channel'?"),
        ("sharp.sharpness", "sharp.sharpnes", "did you mean 'sharpness'?"),
        ("sharp.sharpness", "striped.sharp.sharpness", "does not use the probe 'striped'"),
        ("probes: [sharp]", "probes: [{name: sharp, channel: [a]}]", None),
    ],
)
def test_a_study_can_only_choose_what_is_known(good: str, bad: str, message: str | None, installed: Path) -> None:
    if message is None:
        parse_study(STUDY.replace(good, bad))  # the plugin itself decides about values
        return
    with pytest.raises(StudyError) as caught:
        parse_study(STUDY.replace(good, bad))
    assert message in str(caught.value)


def test_a_study_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("open('sprung', 'w').close()\ndef load(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for good, bad in (("probes: [sharp]", "probes: [trap]"), ("backend: stripes", "backend: trap")):
        with pytest.raises(StudyError, match="is called 'trap'"):
            parse_study(STUDY.replace(good, bad).replace("backend: stripes", "backend: renderer"))
    for text in ("probes: [a.trap]", "probes: [trap.load]"):
        with pytest.raises(StudyError):
            parse_study(STUDY.replace("probes: [sharp]", text))
    assert not (tmp_path / "sprung").exists() and "trap" not in sys.modules


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def load(): ...", 'does not say its kind: write kind = "probe"'),
        ('kind = "prob"', "its kind is 'prob'; allowed: backend, finding, probe"),
        ('kind = "analysis"', "its kind is 'analysis'"),
        ("kind = (", "line 1 is not Python"),
    ],
)
def test_a_named_module_says_its_kind(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, "")
    with pytest.raises(PromptlabError, match="--plugin mine: ") as caught:
        plugins.name_modules(["mine"])
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert os.environ[plugins.VARIABLE] == ""


@pytest.mark.parametrize("name", ["nowhere", "striped.nowhere", "striped.sharp.load", "json.decoder"])
def test_a_named_module_has_to_be_there(name: str, bare: Path) -> None:
    with pytest.raises(PromptlabError, match=rf"--plugin {name}: ") as caught:
        plugins.name_modules([name])
    assert "\n" not in str(caught.value) and "striped" not in sys.modules


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('raise KeyError("a\\nb")', "cannot be imported (KeyError: 'a"),
        ("import nowhere_at_all", "cannot be imported (ModuleNotFoundError: No module named 'nowhere_at_all')"),
        ("import math", "has no function load(...)"),
        ("class load:\n    name = 'other'", "calls itself 'other': give both the same name"),
        ("def load():\n    raise KeyError('key')", "cannot take these options ('key')"),
    ],
)
def test_a_broken_plugin_is_a_mistake_in_one_line(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(f'kind = "probe"\n{source}\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, "broken")
    text = STUDY.replace("backend: stripes", "backend: renderer").replace("probes: [sharp]", "probes: [broken]")
    with pytest.raises(StudyError) as caught:
        parse_study(text.replace("model: red", 'model: "swap=0.0"'))
    assert message in str(caught.value)
    assert "Traceback" not in str(caught.value)
    forget("broken")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("binding", "two plugins have one name, probe 'binding' (promptlab.analyzer.probes.binding, from promptlab)"),
        ("sharp.er", "cannot have this name; allowed: small letters, digits and _"),
        ("sharp-er", "cannot have this name"),
    ],
)
def test_clashes_and_names_that_cannot_be_are_refused(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = f'[project]\nname = "other"\nversion = "2"\nentry-points."promptlab.probes"."{name}" = "other.module"\n'
    monkeypatch.syspath_prepend(write_metadata(project, tmp_path / "site"))
    with pytest.raises(PromptlabError) as caught:
        plugins.names("probe")
    assert message in str(caught.value) and "from other 2" in str(caught.value) and "\n" not in str(caught.value)
    assert "renderer" in plugins.names("backend")


def test_one_module_may_be_installed_and_named(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, "striped.sharp")
    assert plugins.registry("probe")["sharp"].source == "promptlab-stripes 1.0"


def test_a_probe_brings_its_own_questions_or_has_no_passport(installed: Path) -> None:
    probe = plugins.load("probe", "sharp")
    (one,) = passports(probe, 20)
    assert one.kind == "burn.sharpness" and one.n == 40
    probe.questions = ()
    assert passports(probe, 20) == ()


def test_an_id_begins_with_the_name(installed: Path) -> None:
    probe = plugins.load("probe", "sharp")
    assert checked_id(probe) == probe.id
    probe.id = "sharpness"
    with pytest.raises(PromptlabError, match="has the id 'sharpness'"):
        checked_id(probe)


def test_a_plan_reads_a_study_file_with_a_plugin(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "brighter.yaml").write_text(STUDY)
    assert load_study(tmp_path / "brighter.yaml").contrasts[0].probe == "sharp"
