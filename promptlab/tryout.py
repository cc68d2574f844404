"""A prompt tried at once: a few pictures and what the scene parser sees in them. Nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from promptlab.backends import Backend, Job
from promptlab.errors import ModelError
from promptlab.records import Settings

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["try_prompt"]


def try_prompt(
    backend: Backend, prompt: str, guidance_scale: float, seeds: int = 4
) -> Iterator[tuple[Image.Image, str]]:
    """Pictures of `prompt` at seeds 0 to seeds - 1 in 25 steps, each with the parser's words, "red cup, blue chair".

    Raises ModelError where a picture did not become one.
    """
    from PIL import Image

    from promptlab.miniature.parser import load_parser, parse
    from promptlab.miniature.shipped import shipped_folder

    settings = Settings(guidance_scale=guidance_scale, num_inference_steps=25)
    jobs = [Job(f"try{seed}", {}, prompt, settings, seed) for seed in range(seeds)]
    parser = load_parser(shipped_folder() / "parser")
    for made in backend.generate(jobs):
        if made.pixels is None:
            raise ModelError(f"no picture: {made.status}, {made.reason}")
        found = parse(np.asarray(made.pixels)[None], parser)[0]
        seen = ", ".join(f"{thing.colour} {thing.noun}" for thing in found) or "nothing it knows"
        yield Image.fromarray(made.pixels), seen
