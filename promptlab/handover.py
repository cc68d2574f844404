"""A picture's recipe in the words of other programs: A1111's text with an X/Y/Z plot, and ComfyUI's graph.

    A1111     what its own pictures carry: prompt, `Negative prompt:`, facts. Pasted into the prompt field and taken
              over with the arrow button it fills the form, the script X/Y/Z plot included.
    ComfyUI   the "API format": nodes by number, {class_type, inputs}, where an input [number, k] is output k of
              another node. One checkpoint file, so Stable Diffusion 1, 2 and XL alone.

To both programs ( and ) weigh words, and to A1111 [ and ] do, which promptlab and diffusers draw as they stand: they
are escaped by a backslash. What could not be said in a program's words is in `Written.unsaid`; a seed is handed over,
but its noise is made differently, so no picture will be the same. `promptlab.picture_notes` reads both back.

References:
    AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py, modules/prompt_parser.py, scripts/xyz_grid.py.
    Comfy-Org/ComfyUI, nodes.py, comfy/sd1_clip.py (escape_important), script_examples/basic_api_example.py.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptlab.errors import PromptlabError
from promptlab.pictures import parameters
from promptlab.samplers import Sampler

__all__ = ["AXES", "Written", "a1111", "comfyui", "plot_lines"]

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
    given = {name: levels for name, levels in (axes or {}).items() if len(levels) > 1}
    unsaid += [f"an X/Y/Z plot has three axes: {name} is left out" for name in list(given)[3:]]
    lines = plot_lines({name: given[name] for name in list(given)[:3]})
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
        told = {"model": model, "sampling": sampler.prediction or "eps", "zsnr": sampler.zero_snr}
        graph["10"] = {"class_type": "ModelSamplingDiscrete", "inputs": told}
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
