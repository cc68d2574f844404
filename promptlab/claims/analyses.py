"""Analyses behind claims that no contrast of a study settles, by the name that a claim's file gives.

An analysis measures one difference in each unit of inference (a prompt, a noun, a colour). `promptlab.claims` takes the
mean over units, with an interval and a p-value. An analysis that takes long says what it rests on: a hash of all that
decides its values, so that a finding is kept until the hash changes.

    latent_size    numbers of the image for one of the latent, 3 H W / (C h w), read from the autoencoder's config: 48
                   for four channels at an eighth of the side, as in Stable Diffusion; 12 with the sixteen channels of
                   SD3 and FLUX.1. Of numbers, not of bytes: 8-bit pixels against 16-bit latents make it half.
    text_width     how wide the text encoder's states are. The claim speaks of CLIP ViT-L/14. The miniature's encoder is
                   narrower, so it can neither support nor contradict the claim.
    rarity         least-squares slope of "the object is there, in its colour" on log10 of how often training showed the
                   pair. One unit is one noun, its slope over its colours, so a noun that is hard in every colour does
                   not count as rare. Pairs that training never showed are apart: their rate stands in the detail.
    verb_geometry  whether the text encoder keeps a running dog apart from a sleeping one: the share of the variance of
                   pooled states that is due to the verb, within one noun and colour, over paraphrases,
                   R2 = 1 - (sum of squares within verbs) / (total sum of squares), less its mean over permutations of
                   the verbs within paraphrases, so that 0 is what labels without meaning give. One unit is one colour.
    vae_detail     what the autoencoder keeps of fine bars, less what it keeps of coarse ones: contrast of a striped
                   image after encoding and decoding, over the same before. One unit is one pair of colours in one
                   orientation.
    ablation       what a colour word does to the image: see `promptlab.claims.ablation`

References:
    Udandarao et al. 2024, No "Zero-Shot" Without Exponential Data (arXiv 2404.04125): log-linear rise with frequency.
    Anderson 2001, A new method for non-parametric multivariate analysis of variance (restricted permutation).
    Rombach et al. 2022 (arXiv 2112.10752), appendix: autoencoders limit small print and fine structure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import PromptlabError, nearest
from promptlab.resources import shipped_folder

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["ANALYSES", "Analysis", "Finding", "analysis_named", "explained", "hash_of"]


@dataclass(frozen=True)
class Finding:
    """What an analysis measured: one number a unit of inference.

    `values` by unit; of an exact claim the only value is the difference from what is claimed, 0 where it holds.
    `tier` says of what: T0 drawn truth, T1 the miniature, T2 a real model. `reason` says why there is no value.
    `detail` is kept with the verdict.
    """

    measure: str
    values: Mapping[str, float]
    unit: str
    reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    tier: str = field(kw_only=True)


@dataclass(frozen=True)
class Analysis:
    """From a store, which some read scores from, to a finding; `rests_on` gives a hash of what decides its values."""

    measure: Callable[[Store], Finding]
    rests_on: Callable[[], str] | None = None


def analysis_named(name: str) -> Analysis:
    """The analysis of that name. Raises PromptlabError for an unknown one, naming the nearest."""
    if name not in ANALYSES:
        raise PromptlabError(
            f"no analysis is called {name!r}: choose from {', '.join(ANALYSES)}{nearest(name, ANALYSES)}"
        )
    return ANALYSES[name]


def hash_of(*paths: Path) -> str:
    """SHA-256 of the bytes of files, and of all files below folders, in the order of their names."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else (path,):
            if file.is_file():
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


CLAIMED_RATIO = 48
CLAIMED_WIDTH = 768


def _config(part: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((shipped_folder() / "pipeline" / part / "config.json").read_text("utf-8"))
    return config


def _latent_size(_: Store) -> Finding:
    config = _config("vae")
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    ratio = 3 * factor**2 / config["latent_channels"]
    detail = {"ratio": ratio, "factor": factor, "latent_channels": config["latent_channels"], "claimed": CLAIMED_RATIO}
    measure = f"numbers of the picture for one of the latent, less {CLAIMED_RATIO}"
    return Finding(measure, {"vae": ratio - CLAIMED_RATIO}, "model", None, detail, tier="T1")


def _text_width(_: Store) -> Finding:
    width = _config("text_encoder")["hidden_size"]
    reason = f"the miniature's text encoder is {width} wide; the claim speaks of ViT-L/14 in Stable Diffusion 1"
    detail = {"width": width, "claimed": CLAIMED_WIDTH}
    return Finding("width of the text states", {}, "model", reason, detail, tier="T1")


RARITY_STUDY = "rarity"


def _rarity(store: Store) -> Finding:
    from scipy.stats import linregress

    from promptlab.results.findings.rarity import pair_counts

    counts = pair_counts(shipped_folder() / "pair_counts.csv")
    rows = store.query(
        """
        SELECT noun, colour, avg(is_right) AS share, count(is_right) AS n FROM (
            SELECT levels['noun'] AS noun, levels['colour'] AS colour, seed,
                (bool_and(value = 1) FILTER (measure = 'noun')
                    AND coalesce(bool_and(value = 1) FILTER (measure = 'colour'), false))::INTEGER AS is_right
            FROM scored WHERE study = ? AND measure IN ('noun', 'colour') AND status = 'ok'
            GROUP BY ALL)
        WHERE is_right IS NOT NULL GROUP BY ALL ORDER BY ALL
        """,
        [RARITY_STUDY],
    )
    rows["count"] = [counts.get((noun, colour), 0) for noun, colour in zip(rows["noun"], rows["colour"], strict=True)]
    seen, unseen = rows[rows["count"] > 0], rows[rows["count"] == 0]
    values = {
        str(noun): float(linregress(np.log10(part["count"].to_numpy(float)), part["share"].to_numpy(float)).slope)
        for noun, part in seen.groupby("noun")
        if part["count"].nunique() > 2
    }
    detail = {
        "seen": round(float(seen["share"].mean()), 4) if len(seen) else None,
        "never_seen": round(float(unseen["share"].mean()), 4) if len(unseen) else None,
        "pictures": int(rows["n"].sum()),
    }
    return Finding("rise of the share right for ten times as many examples", values, "noun", None, detail, tier="T1")


VERBS = ("standing", "running", "sleeping")
"""The miniature knows verbs of the dog alone."""
FRAMES = (
    "a photo of a {verb} {colour} dog",
    "a {verb} {colour} dog",
    "a {colour} dog {verb}",
    "a picture of a {colour} dog {verb}",
    "a {verb} {colour} dog on grass",
    "a {verb} {colour} dog at night",
)
PERMUTATIONS = 200


def explained(states: np.ndarray) -> float:
    """R2 of the verb for states (frames, verbs, d), frames centred first: they are no noise of the verb's.

    It is the word's share of `promptlab.results.model_parts.partition` for one noun, the frame's share taken out of
    the whole. 0 where verbs change nothing but rounding.
    """
    x = states - states.mean(1, keepdims=True)
    total = float((x**2).sum())
    between = float(len(x) * (x.mean(0) ** 2).sum())
    return between / total if total > 1e-20 * float((states**2).sum()) else 0.0


def _verb_geometry(_: Store) -> Finding:
    from promptlab.analyzer.judges.clip import load_clip
    from promptlab.miniature.world import COLOURS

    clip = load_clip("miniature")
    rng = np.random.default_rng(0)
    values = {}
    raw = []
    for colour in COLOURS:
        texts = [frame.format(verb=verb, colour=colour) for frame in FRAMES for verb in VERBS]
        states = np.asarray(clip.texts(texts), np.float64).reshape(len(FRAMES), len(VERBS), -1)
        chance = np.mean([explained(_shuffled(states, rng)) for _ in range(PERMUTATIONS)])
        raw.append(explained(states))
        values[colour] = raw[-1] - float(chance)
    detail = {"r2": round(float(np.mean(raw)), 4), "frames": len(FRAMES), "verbs": list(VERBS)}
    return Finding("variance of the text states by verb, above chance", values, "colour", None, detail, tier="T1")


def _shuffled(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([frame[rng.permutation(states.shape[1])] for frame in states])


FINE, COARSE = 2, 8
"""Widths of bars in pixels."""


def _vae_detail(_: Store) -> Finding:
    from promptlab.results.model_parts import round_trip

    units, curve = round_trip()
    values = {unit: fine - coarse for unit, fine, coarse in zip(units, curve[FINE], curve[COARSE], strict=True)}
    detail = {"kept_by_bar_width": {str(width): round(float(np.mean(k)), 4) for width, k in curve.items()}}
    measure = f"contrast kept of bars {FINE} pixels wide, less that of {COARSE}"
    return Finding(measure, values, "colour pair", None, detail, tier="T1")


def _ablation(_: Store) -> Finding:
    from promptlab.claims.ablation import measured

    return measured()


def _file_and(*parts: str, file: str = Path(__file__).name) -> Callable[[], str]:
    """Hash of a file of this folder and of parts of the miniature."""
    return lambda: hash_of(Path(__file__).with_name(file), *(shipped_folder() / part for part in parts))


ANALYSES: dict[str, Analysis] = {
    "ablation": Analysis(_ablation, _file_and("pipeline", "parser", file="ablation.py")),
    "latent_size": Analysis(_latent_size),
    "rarity": Analysis(_rarity),
    "text_width": Analysis(_text_width),
    "vae_detail": Analysis(_vae_detail, _file_and("pipeline/vae")),
    "verb_geometry": Analysis(_verb_geometry),
}
"""By the name in a claim's file."""
