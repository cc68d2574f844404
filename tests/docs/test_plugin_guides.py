"""The guides to a plugin of one's own say what is true: their files are written as shown, tested, and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from outside_package import write_metadata
from places import ROOT
from promptlab import Store

GUIDES = {
    "darkness": (ROOT / "promptlab/analyzer/probes/README.md", "dark", "darker"),
    "paint": (ROOT / "promptlab/generator/backends/README.md", "painted", "brighter"),
}


@pytest.mark.parametrize("name", GUIDES)
def test_the_guide_to_a_plugin_runs(name: str, tmp_path: Path) -> None:
    page, study, contrast = GUIDES[name]
    text = page.read_text("utf-8")
    blocks = re.findall(r"```(\w+)\n(?:# (\S+)\n)?(.*?)```", text, re.DOTALL)
    files = {file: body for _, file, body in blocks if file}
    assert set(files) == {f"{name}.py", f"test_{name}.py", f"{study}.yaml", "pyproject.toml"}
    for file, body in files.items():
        (tmp_path / file).write_text(body)
    env = {
        **os.environ,
        "PROMPTLAB_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }

    def run(argv: str, *, path: str) -> str:
        done = subprocess.run(
            argv.split(), cwd=tmp_path, env={**env, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(f"{sys.executable} -m pytest -q -p no:cacheprovider -c /dev/null --rootdir . test_{name}.py", path=".")
    commands = "".join(body for language, _, body in blocks if language == "sh").splitlines()
    assert len(commands) == 2
    for command in commands:
        prefix, _, argv = command.partition(" ")
        assert prefix == "PYTHONPATH=."
        said = run(f"{sys.executable} -m {argv}", path=".")
    assert f"{name}: PROMPTLAB_PLUGINS; {name}" in said
    (effect,) = Store(tmp_path / "home").effects(study)
    assert effect.contrast == contrast and effect.estimate is not None and effect.n_pairs == 4
    write_metadata(files["pyproject.toml"], tmp_path)
    kind = "probes" if "probes" in files["pyproject.toml"] else "backends"
    assert f"{name}: promptlab-{name} 0.1; {name}" in run(f"{sys.executable} -m promptlab list {kind}", path=".")
