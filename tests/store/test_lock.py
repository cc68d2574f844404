"""One holder at a time, and who it is. Deaths of holders are in test_crash.py."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from promptlab.errors import DiskError, LockedError
from promptlab.store.home import hold, holder

OWNER = """
import sys, pathlib
from promptlab.store.home import hold
with hold(pathlib.Path(sys.argv[1]), "study 'x'"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_holder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x" / "lock"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None and owner.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match="study 'x' is in use by process") as caught, hold(path, "study 'x'"):
        raise AssertionError("held twice")
    assert f"process {owner.pid} on {socket.gethostname()} since 20" in str(caught.value)
    assert caught.value.exit_code == 4
    owner.kill()
    owner.communicate()
    with hold(path, "study 'x'"):
        assert f"process {os.getpid()} on" in holder(path)
    with hold(path, "study 'x'"):
        pass


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": 1}', "\0"])
def test_a_broken_note_harms_nobody(tmp_path: Path, note: str) -> None:
    path = tmp_path / "lock"
    (tmp_path / "lock.json").write_text(note)
    assert holder(path) == "another process"
    with hold(path, "it"):
        assert "process" in holder(path)


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), hold(tmp_path / "lock", "it"):
        raise KeyError
    with hold(tmp_path / "lock", "it"):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot write"), hold(tmp_path / "file" / "lock", "it"):
        pass
