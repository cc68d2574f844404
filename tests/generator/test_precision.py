"""The precision that a denoiser computes in: how it is chosen, where it is kept, and what it changes in images."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.errors import PromptlabError
from promptlab.generator.backends import Job
from promptlab.generator.backends.diffusion import load, planned_rows, split_jobs
from promptlab.generator.models import speed
from promptlab.generator.models.batches import rows_at_once
from promptlab.generator.models.speed import chosen_dtype, cpu_speeds, repays_on_cpu
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store
from promptlab.study.study import parse_study
from tiny import job, pictures

Folders = Callable[[str], Path]
SLOW = {"float32": 100e9, "bfloat16": 100e9}
FAST = {"float32": 100e9, "bfloat16": 300e9}


def speeds(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, float]) -> list[None]:
    """This CPU is so fast; what is returned grows with each measurement."""
    measured: list[None] = []

    def measure() -> Mapping[str, float]:
        measured.append(None)
        return found

    monkeypatch.setattr(speed, "_measured", measure)
    speed._measured_once.cache_clear()
    return measured


@pytest.fixture(autouse=True)
def fresh() -> Any:
    """No measurement stays for other tests."""
    yield
    speed._measured_once.cache_clear()


@pytest.mark.parametrize(
    ("requested", "device", "found", "wanted"),
    [
        (None, "cpu", FAST, "float32"),
        (None, "cuda", FAST, "bfloat16"),
        ("auto", "cuda", SLOW, "bfloat16"),
        ("auto", "cpu", FAST, "bfloat16"),
        ("auto", "cpu", SLOW, "float32"),
        ("auto", "cpu", {"float32": 100e9, "bfloat16": 110e9}, "float32"),  # may be chance
        ("bfloat16", "cpu", SLOW, "bfloat16"),
        ("float16", "cuda", SLOW, "float16"),
    ],
)
def test_the_choice(
    requested: str | None, device: str, found: dict[str, float], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, found)
    assert chosen_dtype(requested, device) == wanted


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(PromptlabError, match=r"no dtype 'bf16': choose from auto, float32, bfloat16, float16"):
        load("miniature", dtype="bf16")
    with pytest.raises(PromptlabError, match=r"float16 does not run on a CPU: choose auto, float32 or bfloat16"):
        load("miniature", dtype="float16", device="cpu")


def test_a_measurement_is_made_once_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = speeds(monkeypatch, FAST)
    assert cpu_speeds(tmp_path) == cpu_speeds(tmp_path) == FAST and len(measured) == 1
    speed._measured_once.cache_clear()  # as in another process
    assert cpu_speeds(tmp_path) == FAST and len(measured) == 1
    kept = json.loads((tmp_path / speed.FILE).read_text())
    assert list(kept.values()) == [FAST] and f"torch {torch.__version__}" in next(iter(kept))
    monkeypatch.setattr(speed, "_cpu", lambda: "another CPU")  # beside, on a disk that machines share
    speeds(monkeypatch, SLOW)
    assert cpu_speeds(tmp_path) == SLOW and len(json.loads((tmp_path / speed.FILE).read_text())) == 2


@pytest.mark.parametrize("damage", ["", "[]", '{"a": 1}', '{"a": {"float32": "x"}}'])
def test_a_damaged_measurement_is_made_again(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / speed.FILE).write_text(damage)
    speeds(monkeypatch, SLOW)
    assert cpu_speeds(tmp_path) == SLOW == next(iter(json.loads((tmp_path / speed.FILE).read_text()).values()))


def test_a_home_that_cannot_be_written_to_costs_a_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    speeds(monkeypatch, SLOW)
    assert cpu_speeds(tmp_path / "file" / "cache") == SLOW


def test_the_real_measurement() -> None:
    found = speed._measured()
    assert set(found) == {"float32", "bfloat16"} and all(value > 1e6 for value in found.values())


KINDS = ("sd", "sdxl", "sd3", "flux-dev", "flux2-dev", "klein", "qwen-image", "z-image")


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_denoiser_is_in_bfloat16(kind: str, family_folder: Folders) -> None:
    folder = family_folder(kind)
    whole, half = load(str(folder), 2, "float32"), load(str(folder), 2, "bfloat16")
    facts = half.provenance()
    assert [facts[name] for name in ("dtype", "vae_dtype", "text_dtype")] == ["bfloat16", "float32", "float32"]
    seen: set[torch.dtype] = set()
    half.denoiser.register_forward_hook(lambda module, args, out: seen.update({first_of(out).dtype}))
    wanted = [job(f"a {word} cup", seed=i) for i, word in enumerate(("red", "blue"))]
    a, b = (np.stack(pictures(backend, wanted)).astype(int) for backend in (whole, half))
    assert seen == {torch.float32}, "the scheduler steps in float32"
    assert 0 < np.abs(a - b).mean() < 4 < np.abs(a[0] - a[1]).mean(), "rounding, and no other images"


def first_of(value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else first_of(value[0])


def test_float32_uncompiled_gives_the_bits_of_a_plain_load(family_folder: Folders) -> None:
    wanted = [job(f"a {word} cup", seed=i) for i, word in enumerate(("red", "blue", "green"))]
    plain = pictures(load(str(family_folder("sd")), batch_size=4), wanted)
    chosen = pictures(load(str(family_folder("sd")), None, "float32", compile="off", pictures=10**9), wanted)
    assert all(np.array_equal(a, b) for a, b in zip(plain, chosen, strict=True))


# Compiling on a CPU.


def test_what_repays_compiling_on_a_cpu() -> None:
    flop = 1.3e10  # of an image of the miniature, 25 steps in two passes
    assert not repays_on_cpu(480, flop, 880e9, "bfloat16", again=False)
    assert repays_on_cpu(10_000, flop, 880e9, "bfloat16", again=False)
    assert repays_on_cpu(1_000, flop, 880e9, "bfloat16", again=True)


def test_without_a_compiler_a_run_goes_on_in_silence(
    family_folder: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed.shutil, "which", lambda name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend = load(str(family_folder("sd")), pictures=10**9, cache=tmp_path)
        assert len(pictures(backend, [job()])) == 1
    assert backend.provenance()["speed"]["compile"] == "off"
    assert capfd.readouterr() == ("", "")
    with pytest.raises(PromptlabError, match="no C\\+\\+ compiler here that works"):
        load(str(family_folder("sd")), compile="on")


def test_a_compiler_that_does_not_work_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("Python.h: no such file")

    monkeypatch.setattr(torch, "compile", broken)
    assert not speed.compiler_here()


def test_images_that_repay_it_are_made_by_compiled_code(
    family_folder: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    speeds(monkeypatch, FAST)
    monkeypatch.setattr(speed, "compiler_here", lambda cache: True)
    inductor = torch.compile
    options: list[Any] = []

    def traced(function: Any, dynamic: bool, backend: str) -> Any:
        options.append(backend)
        return inductor(function, dynamic=dynamic, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", traced)
    (tmp_path / "compiled").mkdir()
    backend = load(str(family_folder("sd")), dtype="auto", pictures=10**9, cache=tmp_path)
    facts = backend.provenance()
    assert (facts["dtype"], facts["speed"]) == (
        "bfloat16",
        {"channels_last": True, "attention": "default", "compile": "whole"},
    )
    assert options == ["inductor"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
        compiled = pictures(backend, [job()])[0].astype(int)
    usual = pictures(load(str(family_folder("sd")), dtype="bfloat16"), [job()])[0]
    assert np.abs(compiled - usual).mean() < 4, "rounding"
    backend.close()
    assert [file.suffix for file in (tmp_path / "compiled").iterdir()] == [".done"]
    torch.compiler.reset()


# Rows of a batch.


@pytest.mark.parametrize(("rows", "wanted"), [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (16, 16), (17, 16), (1000, 16)])
def test_rows_at_once(rows: int, wanted: int) -> None:
    assert rows_at_once(rows, 16) == wanted


def test_a_small_group_sends_no_more_rows_than_it_has(family_folder: Folders) -> None:
    backend = load(str(family_folder("sd")))
    rows: list[int] = []
    backend.denoiser.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    made = list(backend.generate([job(seed=0), job(seed=1)]))
    assert set(rows) == {4} and {one.batch_size for one in made} == {2}
    assert backend.batch_size == 16


def test_what_is_left_of_a_group_is_made_in_batches_of_its_planned_size(family_folder: Folders) -> None:
    folder = str(family_folder("sd"))
    every = [job(f"a {word} cup", seed=seed) for word in ("red", "blue", "green") for seed in range(2)]
    every += [job(scale=1.0, seed=seed) for seed in range(2)]
    planned = planned_rows(folder, every)
    assert sorted(planned.values()) == [2, 6]
    whole = {one.image_id: one for one in load(folder, planned=planned).generate(every)}
    assert {one.batch_size for one in whole.values()} == {2, 8}
    resumed = load(folder, planned=planned)
    left = [every[1], every[4], every[7]]
    for one in resumed.generate(left):
        assert one.batch_size == whole[one.image_id].batch_size
        assert np.array_equal(one.pixels, whole[one.image_id].pixels)
    assert [len(batch) for batch in split_jobs(resumed, every)] == [6, 2]


def test_texts_are_encoded_once(family_folder: Folders) -> None:
    backend = load(str(family_folder("sd")), batch_size=2)
    encoded: list[str] = []
    encode = backend.texts._encode
    backend.texts._encode = lambda texts: encoded.extend(dict.fromkeys(texts)) or encode(texts)
    wanted = [job(f"a {word} cup", seed=seed) for seed in range(3) for word in ("red", "blue", "green")]
    pictures(backend, wanted)
    assert sorted(encoded) == sorted({"", *(one.prompt for one in wanted)})


STUDY = """
name: told
question: Does a run that goes on give the same bits?
model: {model}
prompt: {{template: "{{thing}}", objects: {{thing: {{noun: cup, colour: "{{colour}}"}}}}}}
axes: {{colour: [red, green, blue]}}
settings: {{guidance_scale: 5, num_inference_steps: 2, height: 64, width: 64}}
seeds: 1
"""


def test_a_run_chooses_for_itself_and_goes_on_with_the_same_bits(
    family_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(monkeypatch, FAST)
    study = parse_study(STUDY.format(model=family_folder("sd")))
    once, twice = Store(tmp_path / "once"), Store(tmp_path / "twice")
    run_study(study, once, RunOptions(passports_n=0))
    facts = dict(once.query("SELECT name, value FROM fact").itertuples(index=False))
    assert facts["diffusion.dtype"] == "bfloat16" and facts["diffusion.vae_dtype"] == "float32"
    assert (tmp_path / "once" / "cache" / speed.FILE).exists()

    generate = backend_class().generate

    def killed(self: Any, jobs: list[Job]) -> Any:
        coming = generate(self, jobs)
        yield next(coming)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(backend_class(), "generate", killed)
        run_study(study, twice, RunOptions(passports_n=0))
    assert len(Store(tmp_path / "twice").images()) == 1
    run_study(study, twice, RunOptions(passports_n=0))
    found = [{(image.id, image.pixels, image.batch_size) for image in s.images().values()} for s in (once, twice)]
    assert found[0] == found[1] and {size for _, _, size in found[0]} == {4}


def backend_class() -> Any:
    from promptlab.generator.backends.diffusion import Diffusion

    return Diffusion


def test_a_backend_without_dtypes_refuses_one(tmp_path: Path) -> None:
    drawn = parse_study(STUDY.format(model="swap=0.0").replace("prompt:", "backend: renderer\nprompt:"))
    with pytest.raises(PromptlabError, match="the backend renderer has no choice of dtype: leave --dtype out"):
        run_study(drawn, Store(tmp_path), RunOptions(passports_n=0, dtype="bfloat16"))
