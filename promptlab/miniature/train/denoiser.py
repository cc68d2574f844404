"""The denoiser: diffusers' `UNet2DConditionModel` with cross-attention over the text encoder's 77 states.

v-prediction on a schedule whose last step is pure noise (so dark and light settings come out), weighted by
(min(SNR, 5) + 1) / (SNR + 1); captions dropped at DROP, so that guidance works; a share of the rows reads the bag
encoder instead of the causal one, so one and the same denoiser serves both: what differs between them is the text
encoder alone. A throw-away head names the noun of every place while it learns (`places`).

References:
    Salimans and Ho 2022, Progressive Distillation (arXiv 2202.00512): v-prediction. Hang et al. 2023, Min-SNR
    (arXiv 2303.09556). Lin et al. 2023, Common Diffusion Noise Schedules are Flawed (arXiv 2305.08891). Ho and
    Salimans 2022, Classifier-Free Diffusion Guidance (arXiv 2207.12598).

A folder that `StableDiffusionPipeline.from_pretrained` loads with no line of ours.
"""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.miniature.captions import describe
from promptlab.miniature.clip import WIDTH, Tokens
from promptlab.miniature.tokenizer import write_tokenizer
from promptlab.miniature.train.data import Pool
from promptlab.miniature.train.loop import Fit, Report, device, fit, shard_of, step_rng

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["build_denoiser", "build_scheduler", "save_pipeline", "train_denoiser"]

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


def train_denoiser(
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
    tokenize = Tokens(work)
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
        own = {k: v for k, v in json.loads(path.read_text()).items() if k != "_name_or_path"}
        path.write_text(json.dumps(own, indent=2) + "\n")
    # The tokenizer's own files, as small as they can be, over what save_pretrained rewrote.
    for file in (out / "pipeline" / "tokenizer").iterdir():
        file.unlink()
    write_tokenizer(out / "pipeline" / "tokenizer")
