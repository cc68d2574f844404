"""The two networks of the miniature's pipeline that are trained here, and the folder that holds them.

The autoencoder: diffusers' `AutoencoderKL`, f8, four latent channels: 128x128x3 to 16x16x4, 48 times fewer numbers.

Its loss: SQUARED x squared error (colours) + ABSOLUTE x absolute error + GRADIENT x absolute error of horizontal and
vertical differences (keeps edges crisp; no network of pretrained features is needed) + KL x divergence from the unit
normal. Two things save hours of a CPU. The first 40 % of the steps sees images at half size, twice as many. As long,
ANCHOR x squared error ties three latent channels to the image's own colours, eight times smaller (else the network
takes thousands of steps to find out that colour is worth sending). Later the latents are free. The decoder alone can be
trained further (`decoder_only = true`): it draws sharper, and the latents stay as they are, and with them a denoiser
that has learned to make them.

The denoiser: diffusers' `UNet2DConditionModel` with cross-attention over the text encoder's 77 states. v-prediction on
a schedule whose last step is pure noise (so dark and light settings come out), weighted by (min(SNR, 5) + 1) / (SNR +
1). Captions are dropped at DROP, so that guidance works. A share of the rows reads the bag encoder instead of the
causal one, so one and the same denoiser serves both: what differs between them is the text encoder alone. A throw-away
head names the noun of every place while the denoiser learns.

The folder is one that `StableDiffusionPipeline.from_pretrained` loads with no line of ours.

References:
    Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models (arXiv 2112.10752). Salimans and
    Ho 2022, Progressive Distillation (arXiv 2202.00512): v-prediction. Hang et al. 2023, Min-SNR (arXiv 2303.09556).
    Lin et al. 2023, Common Diffusion Noise Schedules are Flawed (arXiv 2305.08891). Ho and Salimans 2022,
    Classifier-Free Diffusion Guidance (arXiv 2207.12598).
"""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.miniature.captions import describe
from promptlab.miniature.clip import WIDTH, ClipTokens
from promptlab.miniature.tokenizer import write_tokenizer
from promptlab.miniature.train.data import Pool
from promptlab.miniature.train.loop import Fit, Report, autocast, device, fit, shard_of, step_rng

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "build_denoiser",
    "build_scheduler",
    "build_vae",
    "encode_pool",
    "save_pipeline",
    "to_unit",
    "train_denoiser",
    "train_vae",
]

SQUARED = 2.0
ABSOLUTE = 0.5
GRADIENT = 0.5
KL = 1e-6
ANCHOR = 1.0
EARLY = 0.4


def build_vae(channels: tuple[int, ...]) -> Any:
    """An untrained AutoencoderKL with `channels` per resolution (four of them: f8)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
    )


def to_unit(pixels: np.ndarray) -> Tensor:
    """uint8 (n, h, w, 3) in 0..255 to float (n, 3, h, w) in -1..1, channels last in memory."""
    import torch

    return torch.tensor(pixels, device=device()).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(
    pool: Pool,
    channels: tuple[int, ...],
    plan: Fit,
    seed: int,
    work: Path,
    report: Report,
    *,
    decoder_only: bool = False,
) -> Any:
    """Train an autoencoder on the pool. Returns it in evaluation mode, its `scaling_factor` set to 1 / latent std.

    With `decoder_only` the encoder stays as it begins, which only makes sense from a warm start.
    """
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    torch.manual_seed(seed)
    vae = build_vae(channels).to(device(), memory_format=torch.channels_last)
    vae.set_attn_processor(AttnProcessor())  # the fused kernel's backward is many times slower on CPUs in bfloat16
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)

    def loss_of(step: int) -> Tensor:
        rng = step_rng(seed, step)
        early = 0.0 if decoder_only else max(0.0, 1 - step / (EARLY * plan.steps))
        small = early > 0
        rows = rng.choice(len(pool), plan.batch * (2 if small else 1), replace=False)
        x = to_unit(pool.pixels[np.sort(rows)])
        if small:
            x = torch.nn.functional.avg_pool2d(x, 2)
        posterior = vae.encode(x).latent_dist
        noise = torch.from_numpy(rng.standard_normal(tuple(posterior.mean.shape), np.float32)).to(x.device)
        y = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        error = SQUARED * (x - y).square().mean() + ABSOLUTE * (x - y).abs().mean()
        for dim in (2, 3):
            error = error + GRADIENT * (x.diff(dim=dim) - y.diff(dim=dim)).abs().mean()
        if early:
            means = torch.nn.functional.avg_pool2d(x, 8)
            error = error + ANCHOR * early * (posterior.mean[:, :3].float() - means).square().mean()
        loss: Tensor = error + KL * posterior.kl().mean()
        return loss

    fit("vae", vae, loss_of, plan, work, report)
    vae.eval().set_default_attn_processor()
    sample = encode_pool(vae, pool.pixels[:512])[:, :4].astype(np.float64)
    vae.register_to_config(scaling_factor=round(1 / float(sample.std()), 5))
    return vae


def encode_pool(vae: Any, pixels: np.ndarray, report: Report | None = None) -> np.ndarray:
    """Mean and log-variance of every picture's latent, unscaled: float16 (n, 8, 16, 16)."""
    import torch

    out = np.empty((len(pixels), 8, 16, 16), np.float16)
    with torch.no_grad(), autocast():
        for start in range(0, len(pixels), 64):
            posterior = vae.encode(to_unit(pixels[start : start + 64])).latent_dist
            both = torch.cat([posterior.mean, posterior.logvar.clamp(-30, 20)], 1)
            out[start : start + 64] = both.float().cpu().numpy().astype(np.float16)
            if report and start % 6400 == 0:
                report(f"latents: {start}/{len(pixels)}")
    return out


DROP = 0.1
BAG = 0.15
PLACES = 0.1
"""Weight of the places that the throw-away head names."""
SNR_CAP = 5.0


def build_denoiser(channels: tuple[int, ...], heads: int) -> Any:
    """An untrained U-Net: attention at 8x8 and in the middle (4x4), one residual block a level."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=heads,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def build_scheduler() -> Any:
    """The sampler that ships: DDIM on the zero-terminal-SNR schedule, trailing steps."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused by trailing steps; diffusers warns about 0
    )


def train_denoiser(  # noqa: PLR0913 (the parts of a recipe)
    pool: Pool,
    latents: np.ndarray,
    scaling: float,
    encoder: Any,
    bag: Any,
    channels: tuple[int, ...],
    heads: int,
    shards: int,
    plan: Fit,
    seed: int,
    work: Path,
    report: Report,
) -> Any:
    """Train a denoiser on `latents`, float16 (n, 8, 16, 16) means and log-variances of the pool's first n pictures.

    Captions are drawn anew at every step. A batch is dealt to `shards`, a thread each.
    """
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    from promptlab.miniature.train.data import places_head

    torch.manual_seed(seed)
    model = build_denoiser(channels, heads)
    model.places = places_head(model.up_blocks[1], channels[1])
    model.to(device(), memory_format=torch.channels_last)
    model.set_attn_processor(AttnProcessor())  # the fused kernel's backward is many times slower on CPUs in bfloat16
    tokenize = ClipTokens(work)
    alphas = build_scheduler().alphas_cumprod.to(device())
    scenes = [pool.scene(i) for i in range(len(latents))]
    n = plan.batch // shards

    def loss_of(network: Any, step: int, shard: int = 0) -> Tensor:
        rng = step_rng(seed + 1000 * shard, step)
        rows = rng.integers(len(latents), size=n)
        texts = [
            "" if rng.random() < DROP else describe(scenes[i], np.random.default_rng(rng.integers(2**63))).text
            for i in rows
        ]
        ids = tokenize(texts)
        drawn = torch.from_numpy(rng.standard_normal((2, n, 4, 16, 16), np.float32)).to(device())
        moments = torch.from_numpy(latents[rows].astype(np.float32)).to(device())
        z = (moments[:, :4] + (0.5 * moments[:, 4:]).exp() * drawn[0]) * scaling
        # one time in each of n equal bins: less variance than n free draws
        t = torch.from_numpy(((rng.permutation(n) + rng.random(n)) / n * 1000).astype(np.int64)).to(device())
        a = alphas[t].sqrt()[:, None, None, None]
        s = (1 - alphas[t]).sqrt()[:, None, None, None]
        noisy = (a * z + s * drawn[1]).to(memory_format=torch.channels_last)
        with torch.no_grad():
            states = encoder(ids)[0].float()
            k = int(rng.binomial(n, BAG))
            if k:
                states[:k] = bag(ids[:k])[0].float()
        v = network(noisy, t, states).sample.float()
        snr = alphas[t] / (1 - alphas[t]).clamp(min=1e-8)
        # 1 where noise rules (there the layout is decided), falling where little is left to decide
        weight = (snr.clamp(max=SNR_CAP) + 1) / (snr + 1)
        loss: Tensor = ((v - (a * drawn[1] - s * z)).square().mean((1, 2, 3)) * weight).mean()
        places: Tensor = network.places.loss(torch.from_numpy(pool.labels[rows, 0]).to(device()))
        return loss + PLACES * places

    network = torch.compile(model) if device().type == "cuda" else model  # on CPUs it gains next to nothing
    others = [shard_of(model, partial(loss_of, shard=k)) for k in range(1, shards)]
    fit("denoiser", model, partial(loss_of, network), plan, work, report, others)
    model.places.leave()
    del model.places
    model.set_default_attn_processor()
    return model.eval()


def save_pipeline(vae: Any, encoder: Any, unet: Any, out: Path) -> None:
    """Write `out/pipeline` as fp16 safetensors that load as float32."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers import CLIPTokenizer
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    write_tokenizer(out / "pipeline" / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(out / "pipeline" / "tokenizer")
    half = [copy.deepcopy(m).to("cpu", torch.float16) for m in (vae, encoder, unet)]
    pipeline = StableDiffusionPipeline(
        vae=half[0],
        text_encoder=half[1],
        tokenizer=tokenizer,
        unet=half[2],
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out / "pipeline")
    # transformers would load half precision as half; CPUs want float32, as diffusers loads the other parts
    config = out / "pipeline" / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    for path in (out / "pipeline").rglob("config.json"):  # diffusers notes where it read a part: a path of this machine
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k != "_name_or_path"}
        path.write_text(json.dumps(kept, indent=2) + "\n")
    # The tokenizer's own files, as small as they can be, over what save_pretrained rewrote.
    for file in (out / "pipeline" / "tokenizer").iterdir():
        file.unlink()
    write_tokenizer(out / "pipeline" / "tokenizer")
