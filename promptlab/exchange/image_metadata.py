"""What a picture's file says about its making: the notes that image tools leave in text chunks of PNG files.

    promptlab           chunk `promptlab`: our own recipe, JSON
    A1111               chunk `parameters`: the prompt, `Negative prompt: ...`, then `Steps: 20, Sampler: Euler a, ...`
    SwarmUI             chunk `parameters` too: JSON with `sui_image_params`
    InvokeAI            chunk `invokeai_metadata`, formerly `sd-metadata`: JSON
    ComfyUI             chunk `prompt`: the graph that ran, JSON; from each sampler with the inputs `positive` and
                        `steps` (KSampler and its kin) the text is followed back to its encoder

Settings get diffusers' names; their values stay in the tool's words ("DPM++ 2M Karras" is nobody's scheduler class).
A note is somebody else's text: what is not of the expected form is left out, and two samplers that disagree say
nothing. The chunk `workflow` of ComfyUI is the drawing of a graph, not what ran, and is not read.

References:
    AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py (how the web UI reads its own text back).
    Comfy-Org/ComfyUI, nodes.py (KSampler, CLIPTextEncode). invoke-ai/InvokeAI, docs on image metadata.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptlab.study.prompt_lists import KNOWN_SETTINGS

__all__ = ["Notes", "read_notes"]


@dataclass(frozen=True)
class Notes:
    """Who wrote the notes, and what they say; `settings` hold those of `prompt_lists.KNOWN_SETTINGS` that are given."""

    tool: str
    prompt: str
    seed: int | None = None
    model: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def read_notes(path: Path) -> Notes | None:
    """The notes of a picture's file, or None where there are none that can be used. Never raises for a bad file."""
    from PIL import Image as Pillow

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture of any size may be asked for its notes, nothing is decoded
            with Pillow.open(path, formats=("PNG",)) as image:
                chunks = {name: text for name, text in image.info.items() if isinstance(text, str)}
    except Exception:  # OSError, SyntaxError, ValueError, struct.error and more; the run says what is wrong with it
        return None
    for chunk, read in _READERS.items():
        if chunk in chunks and (notes := read(chunks[chunk])) is not None and notes.prompt.strip():
            return notes
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _notes(tool: str, prompt: Any, seed: Any, model: Any, **settings: Any) -> Notes | None:
    if not isinstance(prompt, str):
        return None
    kept = {}
    for name, value in settings.items():
        number = _number(value) if float in KNOWN_SETTINGS[name] else value
        if type(number) in KNOWN_SETTINGS[name] and number != "" and (type(number) is not int or number >= 0):
            kept[name] = number
    whole = seed if type(seed) is int and seed >= 0 else None
    return Notes(tool, prompt.strip(), whole, model if isinstance(model, str) and model else None, kept)


def _number(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,20}", text) else None


def _promptlab(text: str) -> Notes | None:
    recipe = _json(text)
    if not isinstance(recipe, dict):
        return None
    settings = {name: recipe.get(name) for name in KNOWN_SETTINGS}
    return _notes("promptlab", recipe.get("prompt"), recipe.get("seed"), recipe.get("model"), **settings)


_FACT = re.compile(r'\s*([\w][\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')


def _parameters(text: str) -> Notes | None:
    data = _json(text) if text.lstrip().startswith("{") else None
    if data is None and (not text.lstrip().startswith("{") or "\nSteps: " in text):
        return _a1111(text)  # its prompts may begin with {; of other tools' JSON nothing is taken for a prompt
    swarm = data.get("sui_image_params") if isinstance(data, dict) else None
    if not isinstance(swarm, dict):
        return None
    return _notes(
        "SwarmUI",
        swarm.get("prompt"),
        swarm.get("seed"),
        swarm.get("model"),
        guidance_scale=swarm.get("cfgscale"),
        num_inference_steps=swarm.get("steps"),
        scheduler=swarm.get("sampler"),
        negative_prompt=swarm.get("negativeprompt") or "",
    )


def _a1111(text: str) -> Notes | None:
    lines = text.strip().split("\n")
    facts = dict(_FACT.findall(lines[-1]))
    if len(facts) < 3 or "Steps" not in facts:  # then the last line is prompt like the others
        facts = {}
    else:
        lines.pop()
    at = next((i for i, line in enumerate(lines) if line.startswith("Negative prompt:")), len(lines))
    negative = "\n".join(lines[at:]).removeprefix("Negative prompt:").strip()
    model = facts.get("Model")
    return _notes(
        "A1111",
        "\n".join(lines[:at]),
        _whole(facts.get("Seed")),
        _json(model) if model and model.startswith('"') else model,
        guidance_scale=facts.get("CFG scale"),
        num_inference_steps=_whole(facts.get("Steps")),
        scheduler=facts.get("Sampler"),
        negative_prompt=negative,
    )


def _invokeai(text: str) -> Notes | None:
    data = _json(text)
    if not isinstance(data, dict):
        return None
    model = data.get("model")
    if isinstance(model, dict):
        model = model.get("name") or model.get("model_name")
    return _notes(
        "InvokeAI",
        data.get("positive_prompt"),
        data.get("seed"),
        model,
        guidance_scale=data.get("cfg_scale"),
        num_inference_steps=data.get("steps"),
        scheduler=data.get("scheduler"),
        negative_prompt=data.get("negative_prompt") or "",
    )


def _sd_metadata(text: str) -> Notes | None:
    data = _json(text)
    image = data.get("image") if isinstance(data, dict) else None
    if not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], dict):
        prompt = prompt[0].get("prompt")
    return _notes(
        "InvokeAI",
        prompt,
        image.get("seed"),
        data.get("model_weights"),
        guidance_scale=image.get("cfg_scale"),
        num_inference_steps=image.get("steps"),
        scheduler=image.get("sampler"),
    )


def _comfyui(text: str) -> Notes | None:
    graph = _json(text)
    if not isinstance(graph, dict):
        return None
    nodes = {key: node["inputs"] for key, node in graph.items() if isinstance(node, dict) and _is_node(node)}
    found = [_sampled(nodes, inputs) for inputs in nodes.values() if {"positive", "steps"} <= inputs.keys()]
    known = [notes for notes in found if notes is not None]
    if not known or any(notes.prompt != known[0].prompt for notes in known):
        return None
    first, same = known[0], {k: v for k, v in known[0].settings.items() if all(n.settings.get(k) == v for n in known)}
    seed = first.seed if all(n.seed == first.seed for n in known) else None
    return Notes(first.tool, first.prompt, seed, first.model if len({n.model for n in known}) == 1 else None, same)


def _is_node(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("inputs"), dict)


def _sampled(nodes: Mapping[str, Mapping[str, Any]], inputs: Mapping[str, Any]) -> Notes | None:
    words = ("text", "string", "value")
    return _notes(
        "ComfyUI",
        _followed(nodes, inputs["positive"], words, ("conditioning", "positive")),
        inputs.get("seed", inputs.get("noise_seed")),
        _followed(nodes, inputs.get("model"), ("ckpt_name", "unet_name"), ("model",)),
        guidance_scale=inputs.get("cfg"),
        num_inference_steps=inputs.get("steps"),
        scheduler=_sampler(inputs),
        negative_prompt=_followed(nodes, inputs.get("negative"), words, ("conditioning", "negative")) or "",
    )


def _sampler(inputs: Mapping[str, Any]) -> Any:
    names = [inputs.get("sampler_name"), inputs.get("scheduler")]
    return " ".join(name for name in names if isinstance(name, str)) or None


def _followed(nodes: Mapping[str, Mapping[str, Any]], link: Any, texts: tuple[str, ...], ways: tuple[str, ...]) -> Any:
    """The text at the end of a chain of nodes: in an input named in `texts`, going on along those named in `ways`."""
    for _ in range(len(nodes) + 1):  # a graph that runs in a circle ends too
        if not (isinstance(link, list) and link and isinstance(link[0], str) and link[0] in nodes):
            return None
        inputs = nodes[link[0]]
        text = next((inputs[name] for name in texts if isinstance(inputs.get(name), str)), None)
        if text is not None:
            return text
        link = next((inputs[name] for name in (*texts, *ways) if isinstance(inputs.get(name), list)), None)
    return None


_READERS = {
    "promptlab": _promptlab,
    "parameters": _parameters,
    "invokeai_metadata": _invokeai,
    "sd-metadata": _sd_metadata,
    "prompt": _comfyui,
}
"""By chunk, the first that can be read wins."""
