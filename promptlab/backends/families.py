"""How each pipeline class of diffusers takes its conditioning: what the generator must know of a model, and no more.

    prompt --encode_prompt--> states --as arguments--> pipeline(states, negative states, guidance)

References:
    Ho and Salimans 2022, Classifier-Free Diffusion Guidance (arXiv 2207.12598). Meng et al. 2023, On Distillation of
    Guided Diffusion Models (arXiv 2210.03142): guidance as an input of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from promptlab.errors import ModelError, nearest

__all__ = ["FAMILIES", "Family", "family_of"]

GuidanceKind = Literal["true", "embedded", "none"]


@dataclass(frozen=True)
class Family:
    """One pipeline class.

    Attributes:
        pipeline: its name in diffusers, as in `model_index.json`.
        encodes: what `encode_prompt(texts, device, 1, False)` returns, in order, by the argument of the call that
            takes it; "" for what is not passed on. The negative prompt's arguments are the same after "negative_".
        guidance: the argument that carries w.
        guidance_kind: true, u + w (c - u) of two passes; embedded, an input of a distilled model; none.
    """

    pipeline: str
    encodes: tuple[str, ...]
    guidance: str = "guidance_scale"
    guidance_kind: GuidanceKind = "true"


FAMILIES = {
    family.pipeline: family
    for family in (
        # Stable Diffusion 1.x and 2.x, and the miniature
        Family("StableDiffusionPipeline", ("prompt_embeds", "")),
    )
}
"""Every class that can be run, by name."""


def family_of(pipeline: str) -> Family:
    """The family of a pipeline class. Raises ModelError for a class that is not in the table."""
    if pipeline not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ModelError(
            f"models of class {pipeline!r} cannot be run yet: known are {known}{nearest(pipeline, FAMILIES)}"
        )
    return FAMILIES[pipeline]
