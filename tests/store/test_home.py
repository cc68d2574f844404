"""Where runs, pictures and the database live."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.errors import DiskError, PromptlabError
from promptlab.store import Store
from promptlab.store.home import Home, find_home, safe_name


def test_where_home_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from promptlab.store import home as module

    env = {"PROMPTLAB_HOME": str(tmp_path / "env"), "XDG_DATA_HOME": str(tmp_path / "xdg")}
    assert find_home(tmp_path / "given", env).path == tmp_path / "given"
    assert find_home(None, env).path == tmp_path / "env"
    assert find_home(None, {}).path == Path(module.__file__).resolve().parents[2] / "data"
    monkeypatch.setattr(module, "_clone", lambda folder: None)
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert find_home(None, {"XDG_DATA_HOME": str(tmp_path / "xdg")}).path == tmp_path / "xdg" / "promptlab"
    assert find_home(None, {"XDG_DATA_HOME": "relative"}).path == Path.home() / ".local" / "share" / "promptlab"
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert find_home(None, {}).path == Path.home() / "Library" / "Application Support" / "promptlab"
    monkeypatch.setattr(module.sys, "platform", "win32")
    assert find_home(None, {"LOCALAPPDATA": str(tmp_path)}).path == tmp_path / "promptlab"


def test_room_on_the_disk(tmp_path: Path) -> None:
    home = Home(tmp_path / "not" / "yet")
    assert home.check_space(1) > 1
    with pytest.raises(DiskError, match="must stay free; make room and run again") as caught:
        home.check_space(10**18)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("name", ["", "..", "a/b", "/a", "A", "con", "lpt1", "a" * 65, "-a", "a\n", "a\0", "é", "a.b"])
def test_names_that_become_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(PromptlabError, match="cannot name a study"), Store(tmp_path).open_run(name):
        pass
    assert safe_name("attribute_binding-2") == "attribute_binding-2"
