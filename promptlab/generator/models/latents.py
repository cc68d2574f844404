"""From what a pipeline returns as latents to what its autoencoder decodes.

    packed --unpacked--> (n, channels, height, width) --denormalised--> z --vae.decode--> x in about [-1, 1]

Transformer architectures hand out latents as sequences of 2x2 patches. The pipelines undo this by their own functions,
which are called here; what they do inline between (scale, shift, mean, deviation) is repeated in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["decoded", "unpacked"]

GROUP = 4
"""Small pictures that are decoded together."""
SMALL = 16 * 16
"""Places of the latents of a picture that is small."""


def unpacked(pipe: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Latents as pictures of (n, channels, ...), for pictures of height x width pixels."""
    import torch

    factor = pipe.vae_scale_factor
    match type(pipe).__name__:
        case "FluxPipeline" | "QwenImagePipeline":
            picture: Tensor = pipe._unpack_latents(latents, height, width, factor)
            return picture
        case "Flux2Pipeline":
            grid = torch.empty(len(latents), 1, height // (2 * factor), width // (2 * factor))
            places = pipe._prepare_latent_ids(grid).to(latents.device)
            picture = pipe._unpack_latents_with_ids(latents, places)
            return picture
    return latents


def _denormalised(pipe: Any, latents: Tensor) -> Tensor:
    """What the autoencoder was trained to decode, from the latents that the denoiser works on."""
    import torch

    config = pipe.vae.config

    def stated(values: list[float], *shape: int) -> Tensor:
        return torch.tensor(values).view(1, -1, *shape).to(latents.device, latents.dtype)

    match type(pipe).__name__:
        case "Flux2Pipeline":
            norm = pipe.vae.bn
            mean = norm.running_mean.view(1, -1, 1, 1).to(latents.device, latents.dtype)
            deviation = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + config.batch_norm_eps)
            picture: Tensor = pipe._unpatchify_latents(latents * deviation.to(latents.device, latents.dtype) + mean)
            return picture
        case "Flux2KleinPipeline":
            return latents  # its pipeline has done it, even for output_type="latent"
        case "QwenImagePipeline":
            inverse = 1.0 / stated(config.latents_std, 1, 1, 1)
            picture = latents / inverse + stated(config.latents_mean, 1, 1, 1)
            return picture
        case "StableDiffusionXLPipeline":
            # Only some checkpoints state them; None is said for the others.
            if getattr(config, "latents_mean", None) and getattr(config, "latents_std", None):
                scaled = latents * stated(config.latents_std, 1, 1) / config.scaling_factor
                picture = scaled + stated(config.latents_mean, 1, 1)
                return picture
    picture = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    return picture


def decoded(pipe: Any, latents: Tensor) -> Tensor:
    """What the decoder makes of unpacked latents, float32 (n, 3, height, width), nothing cut off.

    Large pictures are decoded one by one, since decoding takes the most memory; small ones in groups of one size.
    """
    import torch

    with torch.no_grad():
        z = _denormalised(pipe, latents.to(pipe.vae.dtype))
        size = GROUP if z.shape[-2] * z.shape[-1] <= SMALL else 1
        short = -len(z) % size
        # The last group is padded: the bits of a picture do not depend on its company.
        padded = torch.cat([z, z[-1:].expand(short, *z.shape[1:])])
        groups = (padded[at : at + size] for at in range(0, len(padded), size))
        values = torch.cat([pipe.vae.decode(group, return_dict=False)[0] for group in groups])[: len(z)]
    if values.ndim == 5:
        values = values[:, :, 0]  # Qwen's autoencoder knows time: a picture is a film of one frame
    return values.float()
