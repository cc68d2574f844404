"""Models on this disk: the hub's cache by name and commit, what is missing and the command for it, hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from promptlab.checkpoints import files
from promptlab.checkpoints.files import fingerprint, header, inspect_model, models_here, parameters, resolve, verify
from promptlab.cli import app
from promptlab.cli.terminal import console
from promptlab.errors import ModelError
from promptlab.generator.backends.diffusion import load
from promptlab.run.plan import plan_study
from promptlab.study.study import parse_study
from tiny import job, pictures

COMMIT = "0123456789" * 4
NAME = "tiny-lab/klein-tiny"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def repository(family_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model in it, as huggingface_hub lays it out; its snapshot."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    root = tmp_path / "hub" / ("models--" + NAME.replace("/", "--"))
    snapshot = root / "snapshots" / COMMIT
    source = family_folder("klein")
    (root / "blobs").mkdir(parents=True)
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        content = file.read_bytes()
        large = file.suffix == ".safetensors"
        git = hashlib.sha1(b"blob %d\0" % len(content) + content)
        blob = root / "blobs" / (hashlib.sha256(content) if large else git).hexdigest()
        blob.write_bytes(content)
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * len(link.relative_to(root).parent.parts), "blobs", blob.name))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    return snapshot


def cli(*arguments: str) -> str:
    with console.capture() as said:
        app(["models", *arguments], standalone_mode=False)
    return said.get()


def test_a_name_is_found_in_the_cache_and_its_commit_recorded(
    repository: Path, family_folder: Callable[[str], Path]
) -> None:
    assert resolve(NAME) == (repository, False)
    assert resolve(f"{NAME}@{COMMIT}") == resolve(f"{NAME}@main") == resolve(NAME)
    backend = load(NAME)
    facts = backend.provenance()
    assert (facts["model"], facts["commit"]) == (NAME, COMMIT)
    # The fingerprint trusts the cache's names for large files, and is that of the same files elsewhere.
    assert facts["weights"] == fingerprint(family_folder("klein"))
    assert pictures(backend, [job(scale=1.0)])[0].shape == (16, 16, 3)
    backend.close()


def test_a_plan_pins_the_commit(repository: Path) -> None:
    study = parse_study(f"name: a\nquestion: b\nprompt: {{template: a cup}}\nmodel: {NAME}\nseeds: 1\n")
    (first,) = plan_study(study, None).cells
    assert first.model == f"{NAME}@{COMMIT}" and load(first.model).provenance()["commit"] == COMMIT
    other = repository.rename(repository.parent / ("f" * 40))
    (repository.parent.parent / "refs" / "main").write_text(other.name)
    (second,) = plan_study(study, None).cells
    assert second.id == first.id and second.image_id(0) != first.image_id(0)


def test_what_is_not_here_says_how_to_get_it(repository: Path) -> None:
    for name, message in (
        ("tiny-lab/klein-tini", r"is not on this disk .*hf download tiny-lab/klein-tini --include .* did you mean"),
        (f"{NAME}@v2", r"not its revision 'v2': `hf download tiny-lab/klein-tiny --revision v2 --include"),
        (f"{NAME}@{'f' * 40}", "not its revision"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            resolve(name)
        assert "\n" not in str(caught.value)
    assert not files.is_hub_name("a/b/c") and not files.is_hub_name("miniature") and not files.is_hub_name("../x/y")


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert files.cache_folder() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert files.cache_folder() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert files.cache_folder() == tmp_path / "cache" and list(files.cached()) == []


def test_all_models_are_listed(repository: Path) -> None:
    stocks = {stock.name: stock for stock in models_here()}
    assert list(stocks) == ["miniature", "miniature-bag", NAME]
    one = stocks[NAME]
    assert one.complete and one.architecture == "FLUX.2 klein" and one.commit == COMMIT and one.pull is None
    assert one.bytes == sum(file.stat().st_size for file in repository.glob("*/*"))
    said = cli()
    assert f"{NAME}: FLUX.2 klein" in said and f"commit {COMMIT}" in said and "safetensors only" in said
    assert "no guidance; reads Qwen3 512 tokens; 4 steps, 1024 px" in said
    # without a main branch, models are listed by their commits
    (repository.parent.parent / "refs" / "main").unlink()
    assert [name for name, _ in files.cached()] == [f"{NAME}@{COMMIT}"]


@pytest.mark.parametrize(
    ("lost", "pattern"),
    [
        ("transformer/*", '--include "transformer/config.json" --include "transformer/*.safetensors"'),
        (WEIGHTS, '--include "transformer/*.safetensors" --include "transformer/*.json"'),
        ("vae/config.json", '--include "vae/config.json"'),
        ("scheduler/*", '--include "scheduler/scheduler_config.json"'),
        ("tokenizer/tokenizer.json", '--include "tokenizer/*"'),
        ("model_index.json", '--include "model_index.json" --include "*/*.json"'),
    ],
)
def test_what_is_missing_comes_with_its_command(repository: Path, lost: str, pattern: str) -> None:
    for file in list(repository.glob(lost)):
        file.unlink()
    stock = inspect_model(NAME)
    assert not stock.complete and stock.pull == f"`hf download {NAME} --revision {COMMIT} {pattern}" + (
        "`" if not lost.startswith("model_index") else stock.pull.split(pattern)[1]
    )
    with pytest.raises(ModelError, match="1 of these models cannot be trusted"), console.capture() as said:
        app(["models", NAME], standalone_mode=False)
    assert "NOT complete" in said.get() and stock.pull in said.get()


def test_a_missing_shard_is_named(repository: Path) -> None:
    part = repository / "transformer"
    names = ("a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors")
    (repository / WEIGHTS).rename(part / names[0])
    first = next(iter(header(part / names[0])))
    index = {"weight_map": {first: names[0], "another": names[1]}}
    (part / "a.safetensors.index.json").write_text(json.dumps(index))
    assert inspect_model(NAME).missing == (f"transformer/{names[1]}",)
    index["weight_map"]["another"] = names[0]
    (part / "a.safetensors.index.json").write_text(json.dumps(index))
    (problem,) = inspect_model(NAME).problems
    assert "lacks the tensor another" in problem


def test_files_that_are_cut_short_or_unsafe(repository: Path) -> None:
    file = repository / WEIGHTS
    content = file.read_bytes()
    file.unlink()
    for held, message in (
        (content[:-10], "only partly there"),
        (content[:4], "damaged"),
        (b"\xff" * 100, "damaged"),
        (content + b"x", "only partly there"),
    ):
        file.write_bytes(held)
        (problem,) = inspect_model(NAME).problems
        assert message in problem
    file.write_bytes(content)
    (repository / "vae" / "old.bin").write_bytes(b"x")
    stock = inspect_model(NAME)
    assert stock.complete and stock.pickles == ("vae/old.bin",)
    assert "1 pickle files, never opened" in cli(NAME)


def test_parameters_are_counted_by_headers(family_folder: Callable[[str], Path]) -> None:
    backend = load(str(family_folder("klein")))
    counted = parameters(family_folder("klein") / "transformer")
    assert counted == sum(p.numel() for p in backend.pipe.transformer.parameters())
    backend.close()


def test_hashes_tell_what_was_changed(repository: Path) -> None:
    sound = verify(repository)
    assert sound.agree == sum(file.is_file() for file in repository.rglob("*")) > 8
    assert not sound.differ and not sound.unknown
    assert f"{sound.agree} files agree with their hash, 0 differ" in cli(NAME, "--verify")
    (repository / "own.json").write_text("{}")
    for name in (WEIGHTS, "vae/config.json"):
        blob = (repository / name).resolve()
        blob.write_bytes(blob.read_bytes()[:-1] + b"\x00")
    (repository / "scheduler/scheduler_config.json").resolve().unlink()
    found = verify(repository)
    assert found.differ == ("scheduler/scheduler_config.json", WEIGHTS, "vae/config.json")
    assert found.unknown == ("own.json",)
    with pytest.raises(ModelError), console.capture() as said:
        app(["models", NAME, "--verify"], standalone_mode=False)
    assert f"DIFFERS: {WEIGHTS}" in said.get()


def test_a_local_folder_is_verified_by_the_record_of_its_download(repository: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(repository, tmp_path / "local"))
    assert not verify(folder).agree and WEIGHTS in verify(folder).unknown
    record = folder / ".cache" / "huggingface" / "download" / f"{WEIGHTS}.metadata"
    record.parent.mkdir(parents=True)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    record.write_text(f"{COMMIT}\n{digest}\n1700000000.0\n")
    assert verify(folder).agree == 1
    (folder / WEIGHTS).write_bytes(b"other")
    assert verify(folder).differ == (WEIGHTS,)
    (folder / WEIGHTS).unlink()
    stock = inspect_model(str(folder))
    assert stock.pull and stock.pull.startswith('`hf download OWNER/NAME --include "transformer/*.safetensors"')
    assert stock.pull.endswith(f"--local-dir {folder}`")


def test_one_that_is_not_here_does_not_hide_the_others(repository: Path) -> None:
    with pytest.raises(ModelError), console.capture() as said:
        app(["models", "org/x", NAME], standalone_mode=False)
    assert "org/x is not on this disk" in said.get() and f"{NAME}: FLUX.2 klein" in said.get()
