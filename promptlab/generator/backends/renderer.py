"""Tier T0: draws what the prompt claims and makes mistakes at set rates. The truth is known; no model is involved.

The model's name sets the rates: "miniature" makes no mistakes, "swap=0.2,leak=0.1" makes these two kinds at these rates
(`promptlab.miniature.drawing`). The seed alone decides places and texture, for all prompts, as the noise does in a
diffusion model. Seed and prompt together decide what goes wrong. Settings other than the size have no effect.

The renderer knows the nouns, colours, sizes and poses of the miniature's world. An object without a colour gets a
random one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from promptlab.errors import PromptlabError, nearest
from promptlab.generator.backends import Job, Made

if TYPE_CHECKING:
    import numpy as np

    from promptlab.miniature.drawing import FaultRates
    from promptlab.miniature.world import Thing
    from promptlab.records import Binding

__all__ = ["SHARE", "Renderer", "load", "split_jobs"]

SHARE = 16
"""Images of one batch for a worker."""


def load(model: str = "miniature", **rates: float) -> Renderer:
    """Create a renderer with the fault rates in `model`, overridden by `rates`, each 0..1.

    A study sets rates by `model`, because the model is part of its images' ids; `rates` are not.
    Raises PromptlabError for an unknown fault or a rate that is not allowed.
    """
    from promptlab.miniature.drawing import FAULTS, FaultRates

    fault_rates: dict[str, float] = {}
    for name, value in (_named(model) | rates).items():
        if name not in FAULTS:
            raise PromptlabError(
                f"the renderer has no fault {name!r}: choose from {', '.join(FAULTS)}{nearest(name, FAULTS)}"
            )
        try:
            fault_rates[name] = float(value)
        except ValueError:
            raise PromptlabError(f"the rate of {name!r} must be a number, given {value!r}") from None
    try:
        return Renderer(FaultRates(**fault_rates), model)
    except ValueError as error:
        raise PromptlabError(str(error)) from error


def split_jobs(backend: Renderer, jobs: Sequence[Job]) -> list[list[Job]]:
    """Split `jobs` into batches of SHARE. An image does not depend on the others in its batch."""
    return [list(jobs[at : at + SHARE]) for at in range(0, len(jobs), SHARE)]


def _named(model: str) -> dict[str, str | float]:
    """The fault rates that a model's name sets. Raises PromptlabError for a name of another form."""
    if model == "miniature":
        return {}
    pairs = [part.partition("=") for part in model.split(",")]
    if any(not sign for _, sign, _ in pairs):
        raise PromptlabError(f"the renderer's model is miniature or rates such as swap=0.2,leak=0.1; given {model!r}")
    return {name.strip(): value for name, _, value in pairs}


class Renderer:
    """Draws jobs one after the other."""

    name = "renderer"

    def __init__(self, rates: FaultRates, model: str = "miniature") -> None:
        self.rates = rates
        self.model = model

    def provenance(self) -> dict[str, Any]:
        """The model, its fault rates and the versions."""
        import numpy

        import promptlab

        versions = {"promptlab": promptlab.__version__, "numpy": numpy.__version__}
        return {"backend": self.name, "model": self.model, "rates": asdict(self.rates), "versions": versions}

    def generate(self, jobs: Sequence[Job]) -> Iterator[Made]:
        """Draw every job, in order."""
        return map(self._draw, jobs)

    def close(self) -> None:
        """Does nothing: no memory is held."""

    def _draw(self, job: Job) -> Made:
        import numpy as np

        from promptlab.miniature.drawing import render_with_faults
        from promptlab.miniature.world import CANVAS, Scene, place

        began = time.perf_counter()
        size = (job.settings.width, job.settings.height)
        if size != (CANVAS, CANVAS):
            return Made(
                job.image_id, status="error", reason=f"the renderer draws {CANVAS}x{CANVAS}, not {size[0]}x{size[1]}"
            )
        layout = np.random.default_rng([job.seed])
        texture = int(layout.integers(2**31))
        try:
            things = _things(job.bindings, np.random.default_rng([job.seed, 1]))
        except ValueError as error:
            return Made(job.image_id, status="error", reason=str(error))
        prompt = int.from_bytes(hashlib.sha256(job.prompt.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        scene = Scene(place(things, None, layout), seed=texture)
        picture, _, _ = render_with_faults(scene, self.rates, np.random.default_rng([job.seed, prompt]))
        return Made(job.image_id, picture.image, seconds=time.perf_counter() - began, batch_size=1)


def _things(bindings: tuple[Binding, ...], rng: np.random.Generator) -> tuple[Thing, ...]:
    """The things that the bindings name, one an object, in order of mention. Raises ValueError for unknown words."""
    from promptlab.miniature.world import COLOURS, NOUNS, POSES, SIZES, Thing

    known = {"colour": tuple(COLOURS), "size": tuple(SIZES), "pose": POSES}
    objects: dict[str, dict[str, str]] = {}
    for binding in bindings:
        if binding.noun not in NOUNS:
            raise ValueError(f"the renderer draws no {binding.noun!r}{nearest(binding.noun, NOUNS)}")
        traits = objects.setdefault(binding.object, {"noun": binding.noun})
        if binding.attribute is None:
            continue
        if binding.attribute not in known.get(binding.kind, ()):
            raise ValueError(f"the renderer knows no {binding.kind} {binding.attribute!r}")
        traits[binding.kind] = binding.attribute
    if not 1 <= len(objects) <= 3:
        raise ValueError(f"the renderer draws one to three objects, not {len(objects)}")
    things = []
    for traits in objects.values():
        colour = str(rng.choice(list(COLOURS)))  # drawn for every thing, so that one colour given moves no other
        pose = traits.get("pose", POSES[0]) if traits["noun"] == "dog" else None
        things.append(Thing(traits["noun"], traits.get("colour", colour), traits.get("size", "medium"), pose))
    return tuple(things)
