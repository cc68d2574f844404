"""An image's recipe for other programs: A1111's text with an X/Y/Z plot, ComfyUI's graph, and their names of samplers.

    A1111     what its own images carry: prompt, `Negative prompt:`, facts. Pasted into the prompt field and taken
              over with the arrow button it fills the form, the script X/Y/Z plot included.
    ComfyUI   the "API format": nodes by number, {class_type, inputs}, where an input [number, k] is output k of
              another node. One checkpoint file, so Stable Diffusion 1, 2 and XL alone.

In both programs ( and ) weigh words, and in A1111 [ and ] do too; promptlab and diffusers read them as plain text. So a
backslash escapes them. `Written.unsaid` lists what the program has no words for. The seed is handed over, but the
program makes its noise differently, so no image will be the same. `promptlab.exchange.image_metadata` reads both back.

Two things make a sampler: the rule that takes a step (Euler, DPM++ 2M), and the spacing of the steps. diffusers keeps
both in one class and its configuration; the others name the second "schedule type" (A1111) or "scheduler" (ComfyUI).

    rule      class, `algorithm_type`, `solver_order`, `solver_type`
    spacing   `use_karras_sigmas`, `use_exponential_sigmas`, `use_beta_sigmas`, else `timestep_spacing`:
              linspace (both ends), trailing (from the noisiest on), leading (from the cleanest on)

A1111 gives DDIM, PLMS and UniPC a fixed spacing, always leading.

References:
    AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py, modules/prompt_parser.py, scripts/xyz_grid.py,
    modules/sd_schedulers.py, modules/sd_samplers_timesteps.py.
    Comfy-Org/ComfyUI, nodes.py, comfy/sd1_clip.py (escape_important), script_examples/basic_api_example.py,
    comfy/samplers.py (KSAMPLER_NAMES; simple_scheduler, ddim_scheduler, normal_scheduler).
    diffusers, docs/source/en/api/schedulers/overview.md (the table of names in A1111 and k-diffusion).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptlab.errors import PromptlabError
from promptlab.store.pictures import parameters

__all__ = ["AXES", "Sampler", "Written", "a1111", "comfyui", "named_elsewhere", "plot_lines"]

AXES = {
    "prompt": "Prompt S/R",
    "guidance_scale": "CFG Scale",
    "num_inference_steps": "Steps",
    "scheduler": "Sampler",
    "seed": "Seed",
}
"""What an X/Y/Z plot can vary, the first three that a study varies; in its words."""

_GRAPHS = (None, "StableDiffusionPipeline", "StableDiffusionXLPipeline")
_NOISE = "the seed is the same, its noise is not: expect another picture"


@dataclass(frozen=True)
class Written:
    """A text to paste or to save, and what it could not say."""

    text: str
    unsaid: tuple[str, ...] = ()


def a1111(recipe: Mapping[str, Any], sampler: Sampler, axes: Mapping[str, Sequence[str]] | None = None) -> Written:
    """The recipe as A1111 writes it, with an X/Y/Z plot over `axes` (names of `AXES`; the first level is the recipe's).

    Line breaks in prompts become spaces, since they part the lines of this format. Raises PromptlabError for a prompt
    that begins with "Negative prompt:".
    """
    unsaid = [*sampler.unsaid.get("a1111", ()), _NOISE]
    texts = {name: _line(str(recipe.get(name) or "")) for name in ("prompt", "negative_prompt")}
    if texts["prompt"].strip().startswith("Negative prompt:"):
        raise PromptlabError("A1111 takes a prompt that begins with 'Negative prompt:' for the negative prompt")
    if any(re.search(r"\b(AND|BREAK)\b|<\w+:", text) for text in texts.values()):
        unsaid.append("AND, BREAK and <name:...> are commands here, and the prompt holds one")
    plain = {name: _escaped(text, r"\()[]") for name, text in texts.items()}
    if plain != texts:
        unsaid.append("( ) [ ] \\ are escaped, since they weigh words here")
    more: dict[str, str] = {"Schedule type": sampler.schedule_type} if sampler.schedule_type else {}
    varied = {name: levels for name, levels in (axes or {}).items() if len(levels) > 1}
    unsaid += [f"an X/Y/Z plot has three axes: {name} is left out" for name in list(varied)[3:]]
    lines = plot_lines({name: varied[name] for name in list(varied)[:3]})
    if lines:
        more["Script"] = "X/Y/Z plot"
        for letter, (kind, values) in zip("XYZ", lines, strict=False):
            more |= {f"{letter} Type": kind, f"{letter} Values": values}
    return Written(parameters({**recipe, **plain, "scheduler": sampler.sampler}, more), tuple(unsaid))


def plot_lines(axes: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """(type, values) of an X/Y/Z plot for each axis of `AXES`: values are one row of CSV, as its fields take them."""
    lines = []
    for name, levels in axes.items():
        row = [_escaped(_line(level), r"\()[]") for level in levels] if name == "prompt" else list(levels)
        out = io.StringIO()
        csv.writer(out, lineterminator="").writerow(row)
        lines.append((AXES[name], out.getvalue()))
    return lines


def comfyui(recipe: Mapping[str, Any], sampler: Sampler, pipeline: str | None = None) -> Written:
    """The recipe as a graph in ComfyUI's API format, JSON. `pipeline` is diffusers' class, None where nothing tells it.

    Raises PromptlabError for a family that one checkpoint node does not load, and for a picture whose settings are not
    known.
    """
    if recipe.get("backend") == "hosted" or pipeline not in _GRAPHS:
        what = pipeline or f"{recipe.get('model')}, a closed system"
        raise PromptlabError(f"a graph is written for Stable Diffusion 1, 2 and XL; this is {what}. See: --as a1111")
    needed = ("seed", "num_inference_steps", "guidance_scale", "width", "height")
    if missing := [name for name in needed if recipe.get(name) is None]:
        raise PromptlabError(f"a graph needs {', '.join(missing)}, which did not come with this picture")
    unsaid = [*sampler.unsaid.get("comfyui", ()), _NOISE]
    if not (sampler.sampler_name and sampler.scheduler):
        unsaid.append("euler and normal stand in for what has no name")
    texts = [str(recipe.get(name) or "") for name in ("prompt", "negative_prompt")]
    plain = [_escaped(text, "()") for text in texts]
    if plain != texts:
        unsaid.append("( ) are escaped, since they weigh words here")
    if any(re.search(r"[{}]|//|/\*|embedding:", text) for text in texts):
        unsaid.append("{ | }, comments and embedding: are commands here, and the prompt holds one")
    file = re.split(r"[/\\@]", str(recipe.get("model")).partition("@")[0].rstrip("/\\"))[-1]
    unsaid.append(f"{file}.safetensors stands for the model: choose your checkpoint file in CheckpointLoaderSimple")
    model = ["4", 0]
    graph: dict[str, dict[str, Any]] = {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": f"{file}.safetensors"}},
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": recipe["width"], "height": recipe["height"], "batch_size": 1},
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": plain[0], "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": plain[1], "clip": ["4", 1]}},
    }
    if sampler.prediction or sampler.zero_snr:
        inputs = {"model": model, "sampling": sampler.prediction or "eps", "zsnr": sampler.zero_snr}
        graph["10"] = {"class_type": "ModelSamplingDiscrete", "inputs": inputs}
        model = ["10", 0]
    graph["3"] = {
        "class_type": "KSampler",
        "inputs": {
            "seed": recipe["seed"],
            "steps": recipe["num_inference_steps"],
            "cfg": recipe["guidance_scale"],
            "sampler_name": (sampler.sampler_name or "euler"),
            "scheduler": (sampler.scheduler or "normal"),
            "denoise": 1.0,
            "model": model,
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    }
    graph["8"] = {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}}
    graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "promptlab"}}
    for node in graph.values():
        node["_meta"] = {"title": node["class_type"]}
    graph["3"]["_meta"]["unsaid"] = unsaid
    ordered = {number: graph[number] for number in sorted(graph, key=int)}
    return Written(json.dumps(ordered, indent=2, ensure_ascii=False), tuple(unsaid))


def _escaped(text: str, signs: str) -> str:
    return "".join(f"\\{sign}" if sign in signs else sign for sign in text)


def _line(text: str) -> str:
    return " ".join(text.splitlines())


_RULES: dict[str, tuple[str | None, str | None]] = {
    "DDIMScheduler": ("DDIM", "ddim"),
    "DDPMScheduler": (None, "ddpm"),
    "DEISMultistepScheduler": (None, "deis"),
    "DPMSolverSDEScheduler": ("DPM++ SDE", "dpmpp_sde"),
    "EulerAncestralDiscreteScheduler": ("Euler a", "euler_ancestral"),
    "EulerDiscreteScheduler": ("Euler", "euler"),
    "FlowMatchEulerDiscreteScheduler": ("Euler", "euler"),
    "HeunDiscreteScheduler": ("Heun", "heun"),
    "KDPM2AncestralDiscreteScheduler": ("DPM2 a", "dpm_2_ancestral"),
    "KDPM2DiscreteScheduler": ("DPM2", "dpm_2"),
    "LCMScheduler": ("LCM", "lcm"),
    "LMSDiscreteScheduler": ("LMS", "lms"),
}
_MULTISTEP = {"dpmsolver++": ("DPM++ 2M", "dpmpp_2m"), "sde-dpmsolver++": ("DPM++ 2M SDE", "dpmpp_2m_sde")}
_SPACINGS = {
    "use_karras_sigmas": ("Karras", "karras"),
    "use_exponential_sigmas": ("Exponential", "exponential"),
    "use_beta_sigmas": ("Beta", "beta"),
    "linspace": ("Uniform", "normal"),
    "trailing": ("Simple", "simple"),
    "leading": ("DDIM", "ddim_uniform"),
}
_FIXED_SPACING = ("DDIM", "PLMS", "UniPC")


@dataclass(frozen=True)
class Sampler:
    """Names in A1111 (`sampler`, `schedule_type`) and ComfyUI (`sampler_name`, `scheduler`); None where there is none.

    `prediction` is what ComfyUI calls the model's output, where it has to be told: v_prediction; `zero_snr` likewise.
    `unsaid` says for each program (a1111, comfyui) what could not be said in its words.
    """

    sampler: str | None = None
    schedule_type: str | None = None
    sampler_name: str | None = None
    scheduler: str | None = None
    prediction: str | None = None
    zero_snr: bool = False
    unsaid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def named_elsewhere(name: str | None, config: Mapping[str, Any]) -> Sampler:
    """The scheduler class `name` of diffusers, with its configuration (values may be texts, as facts of a run are).

    None is a scheduler that nothing tells of.
    """
    if name is None:
        reason = "the scheduler is not recorded"
        return Sampler(unsaid={"a1111": (reason,), "comfyui": (reason,)})
    options = {key: str(value).lower() for key, value in config.items()}
    sampler, sampler_name = _rule(name, options)
    place = next((one for one in _SPACINGS if options.get(one) == "true"), options.get("timestep_spacing", ""))
    schedule_type, scheduler = _SPACINGS.get(place, (None, None))
    notes: dict[str, list[str]] = {"a1111": [], "comfyui": []}
    for program, rule, places in (("a1111", sampler, schedule_type), ("comfyui", sampler_name, scheduler)):
        if rule is None:
            notes[program].append(f"{name}{_kind(options)} has no name here")
        elif places is None:
            notes[program].append(f"where {name} puts its steps is not recorded")
    if sampler in _FIXED_SPACING:
        schedule_type = None
        if place != "leading":
            notes["a1111"].append(f"{sampler} puts its steps elsewhere here: leading, not {place or 'as recorded'}")
    if name == "FlowMatchEulerDiscreteScheduler":
        notes["a1111"].append("the shift of the noise levels is the program's own")
    return Sampler(
        sampler,
        schedule_type if sampler else None,
        sampler_name,
        scheduler,
        "v_prediction" if options.get("prediction_type") == "v_prediction" else None,
        options.get("rescale_betas_zero_snr") == "true",
        {program: tuple(texts) for program, texts in notes.items()},
    )


def _rule(name: str, options: Mapping[str, str]) -> tuple[str | None, str | None]:
    if name == "DPMSolverMultistepScheduler":
        second = options.get("solver_order", "2") == "2"
        return _MULTISTEP.get(options.get("algorithm_type", "dpmsolver++"), (None, None)) if second else (None, None)
    if name == "UniPCMultistepScheduler":
        return "UniPC", "uni_pc" if options.get("solver_type") == "bh1" else "uni_pc_bh2"
    if name == "PNDMScheduler":
        return ("PLMS", None) if options.get("skip_prk_steps") == "true" else (None, None)
    return _RULES.get(name, (None, None))


def _kind(options: Mapping[str, str]) -> str:
    kind = [options[key] for key in ("algorithm_type", "solver_order") if key in options]
    return f" ({', order '.join(kind)})" if kind else ""
