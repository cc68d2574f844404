"""What a scheduler of diffusers is called in A1111 and ComfyUI, and what has no name there.

Two things make a sampler: the rule that takes a step (Euler, DPM++ 2M), and where the steps lie. diffusers keeps both
in one class and its configuration; the other programs name the second "schedule type" (A1111) or "scheduler" (ComfyUI).

    rule     class, `algorithm_type`, `solver_order`, `solver_type`
    places   `use_karras_sigmas`, `use_exponential_sigmas`, `use_beta_sigmas`, else `timestep_spacing`:
             linspace (both ends), trailing (from the noisiest on), leading (from the cleanest on)

A1111 gives DDIM, PLMS and UniPC places of its own, always leading.

References:
    diffusers, docs/source/en/api/schedulers/overview.md (the table of names in A1111 and k-diffusion).
    Comfy-Org/ComfyUI, comfy/samplers.py (KSAMPLER_NAMES; simple_scheduler, ddim_scheduler, normal_scheduler).
    AUTOMATIC1111/stable-diffusion-webui, modules/sd_schedulers.py, modules/sd_samplers_timesteps.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Sampler", "named_elsewhere"]

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
_PLACES = {
    "use_karras_sigmas": ("Karras", "karras"),
    "use_exponential_sigmas": ("Exponential", "exponential"),
    "use_beta_sigmas": ("Beta", "beta"),
    "linspace": ("Uniform", "normal"),
    "trailing": ("Simple", "simple"),
    "leading": ("DDIM", "ddim_uniform"),
}
_OWN_PLACES = ("DDIM", "PLMS", "UniPC")


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
        said = "the scheduler is not recorded"
        return Sampler(unsaid={"a1111": (said,), "comfyui": (said,)})
    told = {key: str(value).lower() for key, value in config.items()}
    sampler, sampler_name = _rule(name, told)
    place = next((one for one in _PLACES if told.get(one) == "true"), told.get("timestep_spacing", ""))
    schedule_type, scheduler = _PLACES.get(place, (None, None))
    notes: dict[str, list[str]] = {"a1111": [], "comfyui": []}
    for program, rule, places in (("a1111", sampler, schedule_type), ("comfyui", sampler_name, scheduler)):
        if rule is None:
            notes[program].append(f"{name}{_kind(told)} has no name here")
        elif places is None:
            notes[program].append(f"where {name} puts its steps is not recorded")
    if sampler in _OWN_PLACES:
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
        "v_prediction" if told.get("prediction_type") == "v_prediction" else None,
        told.get("rescale_betas_zero_snr") == "true",
        {program: tuple(said) for program, said in notes.items()},
    )


def _rule(name: str, told: Mapping[str, str]) -> tuple[str | None, str | None]:
    if name == "DPMSolverMultistepScheduler":
        second = told.get("solver_order", "2") == "2"
        return _MULTISTEP.get(told.get("algorithm_type", "dpmsolver++"), (None, None)) if second else (None, None)
    if name == "UniPCMultistepScheduler":
        return "UniPC", "uni_pc" if told.get("solver_type") == "bh1" else "uni_pc_bh2"
    if name == "PNDMScheduler":
        return ("PLMS", None) if told.get("skip_prk_steps") == "true" else (None, None)
    return _RULES.get(name, (None, None))


def _kind(told: Mapping[str, str]) -> str:
    kind = [told[key] for key in ("algorithm_type", "solver_order") if key in told]
    return f" ({', order '.join(kind)})" if kind else ""
