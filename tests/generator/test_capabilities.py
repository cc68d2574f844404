"""What a model can do, read from its folder; and plans that hold a study against it, without loading anything."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from promptlab.checkpoints.architectures import architecture_of
from promptlab.checkpoints.files import quiet
from promptlab.errors import ModelError, StudyError
from promptlab.generator.backends.diffusion import _text_length, load
from promptlab.generator.models.batches import group
from promptlab.generator.models.capabilities import capability, chat_frame, defaults_of, denoising_flop, open_reader
from promptlab.records import Prompt, Settings
from promptlab.run.plan import plan_study
from promptlab.study.study import Study, parse_study, with_model
from tiny import job
from tiny_families import BUILDERS
from tiny_tokenizers import WORDS

LONG = " ".join((WORDS.split() * 40)[:1200])

Folders = Callable[[str], Path]


@pytest.mark.parametrize(
    ("kind", "guidance", "argument", "limits", "multiple", "steps", "scale", "distilled", "side"),
    [
        ("sd", "true", "guidance_scale", [77], 8, 50, 7.5, None, 16),
        ("lcm", "embedded", "guidance_scale", [77], 8, 50, 1.0, 7.5, 16),
        ("sdxl", "true", "guidance_scale", [77, 77], 8, 50, 5.0, None, 16),
        ("sd3", "true", "guidance_scale", [77, 77, 256], 4, 28, 7.0, None, 16),
        ("flux-dev", "embedded", "guidance_scale", [77, 512], 4, 28, 1.0, 3.5, 1024),
        ("flux-schnell", "none", "guidance_scale", [77, 256], 4, 4, 1.0, None, 1024),
        ("flux2-dev", "embedded", "guidance_scale", [512], 4, 50, 1.0, 4.0, 1024),
        ("klein-base", "true", "guidance_scale", [512], 4, 50, 4.0, None, 1024),
        ("klein", "none", "guidance_scale", [512], 4, 4, 1.0, None, 1024),
        ("qwen-image", "true", "true_cfg_scale", [512], 4, 50, 4.0, None, 1024),
        ("z-image", "true", "guidance_scale", [512], 4, 50, 6.0, None, 1024),  # w = g + 1
        ("z-image-turbo", "none", "guidance_scale", [512], 4, 8, 1.0, None, 1024),
    ],
)
def test_what_a_folder_says(
    kind: str,
    guidance: str,
    argument: str,
    limits: list[int],
    multiple: int,
    steps: int,
    scale: float,
    distilled: float | None,
    side: int,
    family_folder: Folders,
) -> None:
    able = capability(family_folder(kind))
    assert (able.guidance_kind, able.guidance, able.negative_prompt) == (guidance, argument, guidance == "true")
    assert [reader.limit for reader in able.readers] == limits
    assert (able.multiple, able.channels, able.factor) == (multiple, 4, 2)
    assert able.settings == Settings(scale, steps, side, side, distilled_guidance_scale=distilled)
    assert able.zeros == (kind == "sdxl") and able.mixes == (kind != "lcm")


def edited(folder: Path, tmp_path: Path, file: str, **changes: Any) -> Path:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    path = copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return copy


def test_a_consistency_model_is_grouped_by_its_guidance(family_folder: Folders) -> None:
    able = capability(family_folder("lcm"))
    jobs = [job("a cup", seed=seed, distilled_guidance_scale=w) for w in (2.0, 8.0) for seed in range(3)]
    assert [(shape.scale, len(rows)) for shape, rows in group(jobs, able).items()] == [(2.0, 3), (8.0, 3)]


def test_an_encoder_that_was_left_out_reads_nothing(family_folder: Folders, tmp_path: Path) -> None:
    folder = edited(family_folder("sd3"), tmp_path, "model_index.json", text_encoder_3=[None, None])
    assert [reader.name for reader in capability(folder).readers] == ["CLIP", "CLIP 2"]


def test_the_miniature_keeps_promptlabs_settings() -> None:
    assert defaults_of("miniature") == defaults_of("miniature-bag") == Settings()


# Tokens: ours are those that the pipeline gives its encoders.


@pytest.mark.parametrize("kind", BUILDERS)
def test_tokens_are_those_that_the_encoders_are_given(kind: str, family_folder: Folders) -> None:
    folder = family_folder(kind)
    backend = load(str(folder))
    for reader in backend.able.readers:
        tokens, limit = open_reader(folder, reader)
        received: list[list[int]] = []
        handle = getattr(backend.pipe, reader.encoder).register_forward_pre_hook(
            lambda module, args, kwargs, received=received: received.extend(
                (args[0] if args else kwargs["input_ids"]).tolist()
            ),
            with_kwargs=True,
        )
        for text in ("", "a red cup", "A very old dog, 3 blue chairs!", "müde  zebra 🏆", LONG):
            received.clear()
            with quiet():
                backend._encode([text])
            (theirs,) = received[:1]
            before, after = tokens._frame
            ours = tokens._tokenizer.encode(before + text + after, add_special_tokens=tokens._marked).ids
            spans = tokens.spans(Prompt(text), limit)
            assert spans.total == len(ours) and (spans.cut > 0) == (text == LONG)
            read = min(spans.total, limit) - (spans.total > limit) * (tokens.marks - tokens.start)
            # Qwen-Image's tokenizer leaves room for 1024 tokens; what is beyond 512 its pipeline drops later.
            assert theirs[:read] == ours[:read]
            assert len(theirs) == limit or len(set(theirs[spans.total :])) <= 1 or kind == "qwen-image"
            if text == LONG and tokens.marks == 0:
                lost = len(tokens._tokenizer.encode(" " + spans.cut_text, add_special_tokens=False).ids)
                assert lost == spans.cut
        handle.remove()


def test_states_of_a_long_text_end_at_the_limit(family_folder: Folders) -> None:
    backend = load(str(family_folder("qwen-image")))
    with quiet():
        assert len(backend._encode([LONG])["prompt_embeds"][0]) == 512
        (short,) = backend._encode(["a red cup"])["prompt_embeds"]
    assert len(short) == 3 + 5 and _text_length(backend.folders[0], backend.able, "a red cup") == 32
    assert torch.equal(short, backend.texts.rows(["a red cup"])[0]["prompt_embeds"])


def test_frames_come_from_the_folders_own_template(family_folder: Folders, tmp_path: Path) -> None:
    before, after = chat_frame(family_folder("flux2-dev") / "tokenizer", (), "Be brief.")
    assert (before, after) == ("<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]", "[/INST]")
    for template, message in (
        ("{{ messages }", "cannot be rendered"),
        ("{{ ''.__class__.__mro__ }}{{ messages[0].content }}", "cannot be rendered"),
        ("{{ raise_exception('no') }}", "cannot be rendered"),
        ("nothing", "does not show the prompt once"),
        ("{{ messages[0].content * 2 }}", "does not show the prompt once"),
    ):
        (tmp_path / "chat_template.jinja").write_text(template)
        with pytest.raises(ModelError, match=message) as caught:
            chat_frame(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        chat_frame(tmp_path)


# Plans.

HEAD = """\
name: small
question: Is it so?
prompt: {template: "%s"}
settings: {%s}
axes: {%s}
seeds: 2
model: "%s"
"""


def study(folder: Path | str, axes: str = "", settings: str = "", template: str = "a red cup") -> Study:
    return parse_study(HEAD % (template, settings, axes, folder))


def test_each_encoder_says_what_it_cuts(family_folder: Folders) -> None:
    words = " ".join(WORDS.split()[:24] * 5)
    clip, t5 = plan_study(study(family_folder("flux-dev"), template=f"{words} lamp"), None).truncations
    assert (clip.encoder, clip.limit, clip.truncated) == ("CLIP", 77, 1) and clip.longest == 123
    assert clip.lost.endswith("lamp") and len(clip.lost.split()) == 123 - 77
    assert (t5.encoder, t5.limit, t5.truncated, t5.lost) == ("T5", 512, 0, "") and 77 < t5.longest < 512


@pytest.mark.parametrize(
    ("kind", "axes", "settings", "message"),
    [
        (
            "flux-dev",
            "guidance_scale: [1, 5]",
            "",
            r"^study.yaml:5:\d+: guidance_scale .* CFG.* vary distilled_guidance",
        ),
        ("flux2-dev", "guidance_scale: [0, 1]", "", "its own is 4"),
        ("flux-schnell", "guidance_scale: [1, 5]", "", "vary num_inference_steps, the words or the seeds"),
        ("klein", "", "guidance_scale: 4.0", r"^study.yaml:4:\d+: guidance_scale .* takes no guidance"),
        ("klein", "distilled_guidance_scale: [1, 4]", "", "has no such input here; vary num_inference_steps"),
        ("sdxl", "distilled_guidance_scale: [1, 4]", "", "has no such input here; vary guidance_scale instead"),
        ("flux-dev", "negative_prompt: ['', dark]", "", "reads none here"),
        ("flux-schnell", "", "negative_prompt: dark", r"^study.yaml:4:\d+: negative_prompt"),
    ],
)
def test_an_axis_without_effect_is_refused(
    kind: str, axes: str, settings: str, message: str, family_folder: Folders
) -> None:
    with pytest.raises(StudyError, match=message):
        plan_study(study(family_folder(kind), axes, settings), None)


def test_a_size_that_the_pipeline_would_round_is_refused(family_folder: Folders, tmp_path: Path) -> None:
    folder = edited(family_folder("z-image"), tmp_path, "vae/config.json", block_out_channels=[8, 8, 8, 8])
    with pytest.raises(StudyError, match=r"height .*given 72; allowed: multiples of 16, such as 64 or 80"):
        plan_study(study(folder, "height: [64, 72]"), None)


def test_what_has_an_effect_is_planned(family_folder: Folders) -> None:
    cells = plan_study(study(family_folder("flux-dev"), "distilled_guidance_scale: [1, 4.5]"), None).cells
    assert [cell.settings.distilled_guidance_scale for cell in cells] == [1.0, 4.5]
    assert {(c.settings.height, c.settings.num_inference_steps, c.settings.guidance_scale) for c in cells} == {
        (1024, 28, 1.0)
    }
    assert plan_study(study(family_folder("flux-dev"), "guidance_scale: [1]"), None).planned == 2
    mixed = f"model: [{family_folder('sdxl')}, {family_folder('klein')}]"
    text = HEAD.replace('model: "%s"\n', "") % ("a red cup", "num_inference_steps: 3", mixed)
    plan = plan_study(parse_study(text), None)
    assert [cell.settings.height for cell in plan.cells] == [16, 1024]
    assert {one.model for one in plan.truncations} == {str(family_folder(k)) for k in ("sdxl", "klein")}


def test_a_study_that_varies_the_model_takes_no_other(family_folder: Folders) -> None:
    text = HEAD.replace('model: "%s"\n', "") % ("a red cup", "", "model: [miniature, miniature-bag]")
    with pytest.raises(StudyError, match="varies the model itself"):
        with_model(parse_study(text), "miniature")


@pytest.mark.parametrize(
    ("pipeline", "parameters", "side", "tera"),
    [
        ("StableDiffusionPipeline", 0.86e9, 512, 0.803),
        ("StableDiffusionXLPipeline", 2.57e9, 1024, 6.76),
        ("StableDiffusion3Pipeline", 8.06e9, 1024, 31.1),
        ("FluxPipeline", 11.9e9, 1024, 74.4),
        ("Flux2Pipeline", 32.2e9, 1024, 282.6),
    ],
)
def test_estimates_meet_counted_operations(
    pipeline: str, parameters: float, side: int, tera: float, family_folder: Folders
) -> None:
    architecture = architecture_of(pipeline)
    able = replace(capability(family_folder("sd")), architecture=architecture, factor=8, readers=architecture.readers)
    one = Settings(1.0, 1, side, side)
    assert 1 / 1.6 < denoising_flop(able, int(parameters), one) / (tera * 1e12) < 1.6
    assert denoising_flop(able, 10, replace(one, guidance_scale=5.0)) == 2 * denoising_flop(able, 10, one)


def test_a_plan_says_that_an_estimate_is_one(family_folder: Folders) -> None:
    plan = plan_study(study(family_folder("klein-base")), None)
    assert plan.seconds and plan.memory and plan.basis.startswith("an estimate by arithmetic, for ")
    assert plan_study(study("miniature"), None).memory is None


def test_planning_loads_nothing_heavy(family_folder: Folders, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(HEAD % ("a red cup", "", "", family_folder("flux2-dev")))
    code = """
import sys
from promptlab.cli import app
for arguments in (["plan", "small.yaml"], ["validate", "small.yaml"], ["models", sys.argv[1]]):
    app(arguments, standalone_mode=False)
heavy = ("torch", "diffusers", "transformers", "safetensors", "accelerate", "huggingface_hub")
assert not [name for name in heavy if name in sys.modules]
"""
    command = [sys.executable, "-c", code, str(family_folder("flux2-dev"))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "distilled guidance" in done.stdout and "Mistral" in done.stdout
