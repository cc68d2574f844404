"""How pipelines are opened: precision, variants of weights, and who waits outside the card."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from promptlab.checkpoints.files import quiet
from promptlab.generator.backends.diffusion import load
from promptlab.generator.models.capabilities import ENCODER_SHARE
from promptlab.generator.models.loading import pays, vae_dtype, variant_of
from tiny import job, pictures
from tiny_families import BUILDERS

Folders = Callable[[str], Path]


@pytest.mark.parametrize("kind", BUILDERS)
def test_half_precision_is_close(kind: str, family_folder: Folders) -> None:
    wanted = [job(f"a {word} cup", seed=seed, scale=2.0) for seed, word in enumerate(("red", "blue"))]
    shown = []
    for dtype in ("float32", "bfloat16"):
        backend = load(str(family_folder(kind)), batch_size=2, dtype=dtype)
        others = (backend.pipe.vae, *(getattr(backend.pipe, r.encoder) for r in backend.able.readers))
        assert {str(part.dtype) for part in others} == {"torch.float32"}, "a CPU has room for them"
        facts = backend.provenance()
        assert facts["dtype"] == str(backend.denoiser.dtype).removeprefix("torch.") == dtype
        assert facts["vae_dtype"] == facts["text_dtype"] == "float32" and facts["encoders_parked"] is False
        shown.append(np.stack(pictures(backend, wanted)).astype(int))
        backend.close()
    full, half = shown
    # the same noise, so the same picture: differences within one seed are small beside those between seeds
    assert np.abs(full - half).mean() < np.abs(full[0] - full[1]).mean() / 3


def test_an_autoencoder_that_asks_for_it_stays_precise(family_folder: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family_folder("sdxl"), tmp_path / "model"))
    config = folder / "vae" / "config.json"
    settings = json.loads(config.read_text())
    for asks, half, wanted in (
        (True, torch.float16, torch.float32),
        (False, torch.float16, torch.float16),
        (True, torch.bfloat16, torch.bfloat16),
        (True, torch.float32, torch.float32),
    ):
        config.write_text(json.dumps(settings | {"force_upcast": asks}))
        assert vae_dtype(folder, half) == wanted


def test_weights_that_come_in_half_precision_alone(family_folder: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family_folder("sd"), tmp_path / "model"))
    assert variant_of(folder) is None
    for file in list(folder.glob("*/*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert variant_of(folder) == "fp16"
    ours, theirs = (pictures(load(str(path), batch_size=1), [job()])[0] for path in (folder, family_folder("sd")))
    assert np.array_equal(ours, theirs)


def test_an_encoder_that_was_left_out_is_zeros(family_folder: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family_folder("sd3"), tmp_path / "model"))
    index = json.loads((folder / "model_index.json").read_text())
    none = {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index | none))
    backend = load(str(folder), batch_size=1)
    (ours,) = pictures(backend, [job("a red cup", 4.0, 3)])
    with quiet():
        theirs = backend.pipe(
            "a red cup",
            num_inference_steps=3,
            guidance_scale=4.0,
            height=16,
            width=16,
            generator=torch.Generator("cpu").manual_seed(3),
        ).images[0]
    assert np.array_equal(ours, np.asarray(theirs))


def test_encoders_come_once_for_many_texts(family_folder: Folders) -> None:
    backend = load(str(family_folder("flux-dev")), batch_size=2)
    visits: list[int] = []
    at_work = backend.encoders.at_work

    def counted() -> Any:
        visits.append(1)
        return at_work()

    backend.encoders.at_work = counted  # type: ignore[method-assign]
    wanted = [job(f"a {word} {thing}") for word in ("red", "blue", "pink") for thing in ("cup", "dog", "box")]
    assert len(pictures(backend, wanted)) == 9 and len(visits) == 1


def test_a_closed_backend_holds_no_weights(family_folder: Folders) -> None:
    backend = load(str(family_folder("z-image")))
    held = [weakref.ref(part) for part in (backend.denoiser, backend.pipe.vae, backend.pipe.text_encoder)]
    backend.close()
    backend.close()
    assert [part() for part in held] == [None] * 3


def test_encoders_wait_where_they_would_take_much_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = torch.nn.Linear(10, 10, bias=False)
    for total, wait in ((400 / ENCODER_SHARE - 1, True), (400 / ENCODER_SHARE + 1, False)):
        card = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, card=card: card)
        assert pays([encoder], torch.device("cuda")) is wait
    assert pays([encoder], torch.device("cpu")) is False
