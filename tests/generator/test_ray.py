"""A real Ray cluster of two nodes on this machine: the pictures of one process, though a node is killed on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from promptlab.errors import PromptlabError
from promptlab.generator.workers import Cluster, cluster
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study

installed = find_spec("ray") is not None
STUDY = """\
name: spread
question: Does a cluster make what one process makes?
backend: renderer
prompt:
  template: "a photo of {first} and {second}"
  objects: {first: {noun: cup, colour: "{colour}"}, second: {noun: chair, colour: blue}}
axes: {colour: [red, green]}
seeds: 48
"""
DRIVER = """
import sys
from ray.cluster_utils import Cluster
from promptlab.run import RunOptions, Silent, run_study
from promptlab.store import Store
from promptlab.study import load_study

class Kills(Silent):
    steps = 0

    def step(self, count=1):
        self.steps += count
        if self.steps == 16:
            there.remove_node(second, allow_graceful=False)
            print("killed a node", flush=True)

    def say(self, line):
        print("said:", line, flush=True)

there = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = there.add_node(num_cpus=1)
options = RunOptions(passports_n=0, ray=there.address)
made = run_study(load_study(sys.argv[1]), Store(sys.argv[2]), options, Kills()).made
print("made", dict(made), flush=True)
there.shutdown()
"""


def at_work_in(folder: Path) -> list[psutil.Process]:
    """Living processes with a file open in `folder`, as all of a Ray have their logs; no other Ray's are touched."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended meanwhile
            if any(Path(file.path).is_relative_to(folder) for file in process.open_files()):
                found.append(process)
    return found


@contextmanager
def private_ray(folder: Path) -> Iterator[dict[str, str]]:
    """An environment in which Ray keeps its files in a folder of its own; whatever it left running is ended after.

    The path of a socket is at most 107 bytes long, so the folder is a link from /tmp.
    """
    link = Path("/tmp") / f"pl{os.getpid()}"
    folder.mkdir()
    link.symlink_to(folder)
    try:
        yield {
            **os.environ,
            "RAY_TMPDIR": str(link),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Under `uv run`, Ray would send the whole folder to every node and build an environment there.
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            # More threads than a node here has CPUs, as where the driver's machine is the larger one.
            "OMP_NUM_THREADS": "2",
        }
    finally:
        for process in at_work_in(folder):
            process.kill()
        link.unlink()


@pytest.mark.skipif(not installed, reason="Ray is not installed: pip install 'promptlab-t2i[ray]'")
def test_a_node_killed_mid_run_loses_nothing(tmp_path: Path) -> None:
    study = tmp_path / "spread.yaml"
    study.write_text(STUDY)
    command = [sys.executable, "-c", DRIVER, study, tmp_path / "many"]
    with private_ray(tmp_path / "ray") as env:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=360, check=False)
        assert done.returncode == 0, done.stderr
        assert "killed a node" in done.stdout and "made {'ok': 96}" in done.stdout
        psutil.wait_procs(at_work_in(tmp_path / "ray"), timeout=30)
        assert not at_work_in(tmp_path / "ray"), "a process of the cluster outlives it"
    one, many = Store(tmp_path / "one"), Store(tmp_path / "many")
    run_study(parse_study(STUDY), one, RunOptions(passports_n=0))
    assert {key: image.file for key, image in many.images().items()} == {
        key: image.file for key, image in one.images().items()
    }
    assert many.query("SELECT value FROM fact WHERE name = 'workers.count'")["value"].tolist() == ["2"]


@pytest.mark.skipif(installed, reason="this is what is said where Ray is not installed")
def test_without_ray_the_command_that_installs_it() -> None:
    with pytest.raises(PromptlabError, match=r"pip install 'promptlab-t2i\[ray\]'"), cluster("auto"):
        pass


def test_a_worker_a_gpu_or_else_a_node() -> None:
    assert Cluster("x", nodes=2, cpus=64, gpus=8).workers == 8
    assert Cluster("x", nodes=3, cpus=12, gpus=0).workers == 3


def test_no_worker_asks_for_more_than_a_node_has() -> None:
    """Two nodes of one CPU and OMP_NUM_THREADS=2: a worker that reserves two is never placed, and the run waits."""
    narrow = Cluster("x", nodes=2, cpus=2, gpus=0, widest=1)
    assert narrow.reserved(2) == 1
    assert Cluster("x", nodes=2, cpus=72, gpus=0, widest=64).reserved(4) == 4
