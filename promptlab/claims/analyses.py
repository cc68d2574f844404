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
    ablation       what a colour word does to the image: its vector in the text states becomes that of the padding, at
                   the same seed. d(own) - d(other) is the mean absolute change of the pixels (0..255) inside the
                   object that the word is of, less that inside the other object. The scene parser finds the places in
                   the unchanged image. One unit is one prompt, its two colour words and seeds averaged. The probe
                   `ablation` measures the same of a study's images, as a distance of colours (CIELAB).

References:
    Udandarao et al. 2024, No "Zero-Shot" Without Exponential Data (arXiv 2404.04125): log-linear rise with frequency.
    Anderson 2001, A new method for non-parametric multivariate analysis of variance (restricted permutation).
    Rombach et al. 2022 (arXiv 2112.10752), appendix: autoencoders limit small print and fine structure.
    Tang et al. 2023, What the DAAM (arXiv 2210.04885): words found responsible by leaving them out. Measure: ours.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.errors import PromptlabError, nearest
from promptlab.miniature.parser import Found, load_parser, parse
from promptlab.resources import shipped_folder

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["ANALYSES", "Analysis", "UnitValues", "analysis_named", "explained", "hash_of", "without_word"]


@dataclass(frozen=True)
class UnitValues:
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

    measure: Callable[[Store], UnitValues]
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


def _latent_size(_: Store) -> UnitValues:
    config = _config("vae")
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    ratio = 3 * factor**2 / config["latent_channels"]
    detail = {"ratio": ratio, "factor": factor, "latent_channels": config["latent_channels"], "claimed": CLAIMED_RATIO}
    measure = f"numbers of the picture for one of the latent, less {CLAIMED_RATIO}"
    return UnitValues(measure, {"vae": ratio - CLAIMED_RATIO}, "model", None, detail, tier="T1")


def _text_width(_: Store) -> UnitValues:
    width = _config("text_encoder")["hidden_size"]
    reason = f"the miniature's text encoder is {width} wide; the claim speaks of ViT-L/14 in Stable Diffusion 1"
    detail = {"width": width, "claimed": CLAIMED_WIDTH}
    return UnitValues("width of the text states", {}, "model", reason, detail, tier="T1")


RARITY_STUDY = "rarity"


def _rarity(store: Store) -> UnitValues:
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
    return UnitValues("rise of the share right for ten times as many examples", values, "noun", None, detail, tier="T1")


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


def _verb_geometry(_: Store) -> UnitValues:
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
    return UnitValues("variance of the text states by verb, above chance", values, "colour", None, detail, tier="T1")


def _shuffled(states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([frame[rng.permutation(states.shape[1])] for frame in states])


FINE, COARSE = 2, 8
"""Widths of bars in pixels."""


def _vae_detail(_: Store) -> UnitValues:
    from promptlab.results.model_parts import round_trip

    units, curve = round_trip()
    values = {unit: fine - coarse for unit, fine, coarse in zip(units, curve[FINE], curve[COARSE], strict=True)}
    detail = {"kept_by_bar_width": {str(width): round(float(np.mean(k)), 4) for width, k in curve.items()}}
    measure = f"contrast kept of bars {FINE} pixels wide, less that of {COARSE}"
    return UnitValues(measure, values, "colour pair", None, detail, tier="T1")


ABLATION_PAIRS = (
    ("blue lamp", "white chair"),
    ("brown box", "pink car"),
    ("purple cup", "black tree"),
    ("yellow fish", "orange hat"),
    ("green dog", "red bottle"),
    ("white ball", "blue house"),
    ("purple book", "green star"),
    ("orange car", "brown chair"),
    ("black cup", "red dog"),
    ("yellow lamp", "pink tree"),
    ("black ball", "green bottle"),
    ("yellow fish", "orange star"),
    ("red hat", "purple book"),
    ("pink box", "white house"),
    ("blue book", "brown lamp"),
    ("red cup", "green car"),
    ("yellow hat", "pink house"),
    ("orange dog", "purple ball"),
    ("brown tree", "black bottle"),
    ("white star", "blue chair"),
    ("orange fish", "white box"),
    ("pink book", "green cup"),
    ("purple dog", "brown bottle"),
    ("red fish", "blue car"),
    ("black house", "yellow star"),
    ("pink lamp", "red box"),
    ("blue ball", "orange chair"),
    ("green hat", "purple tree"),
    ("brown hat", "yellow chair"),
    ("red book", "pink star"),
    ("blue bottle", "brown house"),
    ("white fish", "yellow car"),
    ("orange ball", "green tree"),
    ("black cup", "purple lamp"),
    ("brown box", "purple star"),
    ("yellow lamp", "red chair"),
    ("orange car", "black ball"),
    ("white hat", "blue house"),
    ("pink cup", "green tree"),
    ("black dog", "pink book"),
)
"""Drawn by numpy.random.default_rng(4), every noun and colour as often as any; none is in another study."""
ABLATION_SEEDS = (0, 1)
GUIDANCE, STEPS = 5.0, 25


def without_word(states: Any, ids: list[int], word_ids: list[int], start: int) -> Any:
    """Text states (1, n, d) with the word's vectors, at `start`, replaced by the last slot's, which is padding.

    Raises ValueError where the word is not at `start`, or nothing is padding.
    """
    if ids[start : start + len(word_ids)] != word_ids:
        raise ValueError(f"no such word at slot {start}")
    if ids[-1] == ids[start]:
        raise ValueError("the prompt fills every slot: there is no padding to put in")
    changed = states.clone()
    changed[:, start : start + len(word_ids)] = states[:, -1:]
    return changed


def _ablation(_: Store) -> UnitValues:
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        shipped_folder() / "pipeline", use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    parser = load_parser(shipped_folder() / "parser")
    values: dict[str, list[float]] = defaultdict(list)
    unseen = 0
    for first, second in ABLATION_PAIRS:
        prompt = f"a photo of a {first} and a {second}".replace("a orange", "an orange")
        rows = _states(pipe, prompt, (first, second))
        for seed in ABLATION_SEEDS:
            pictures = _draw(pipe, rows, seed)
            masks = [_mask(parse(pictures[:1], parser)[0], thing.split()[1]) for thing in (first, second)]
            if masks[0] is None or masks[1] is None:
                unseen += 1
                continue
            change = np.abs(pictures[1:].astype(np.float64) - pictures[0]).mean(-1)
            for k in (0, 1):
                values[prompt].append(float(change[k][masks[k]].mean() - change[k][masks[1 - k]].mean()))
    means = {prompt: float(np.mean(found)) for prompt, found in values.items()}
    detail = {"pictures": 3 * len(ABLATION_PAIRS) * len(ABLATION_SEEDS), "without_both_objects": unseen}
    measure = "change inside the word's own object, less the other's (of 255)"
    return UnitValues(measure, means, "prompt", None, detail, tier="T1")


def _states(pipe: Any, prompt: str, things: tuple[str, str]) -> Any:
    """Text states of the prompt whole, and without each of its two colour words: (3, 77, d)."""
    import torch

    ids = pipe.tokenizer(prompt, padding="max_length", truncation=True, max_length=77).input_ids
    with torch.no_grad():
        whole = pipe.text_encoder(torch.tensor([ids]))[0]
    out = [whole]
    for thing in things:
        word = pipe.tokenizer(thing.split()[0], add_special_tokens=False).input_ids
        noun = pipe.tokenizer(thing.split()[1], add_special_tokens=False).input_ids
        places = [i for i in range(len(ids)) if ids[i : i + len(word) + len(noun)] == [*word, *noun]]
        out.append(without_word(whole, ids, word, places[0]))
    return torch.cat(out)


def _draw(pipe: Any, states: Any, seed: int) -> np.ndarray:
    """The three pictures at one seed, uint8 (3, 128, 128, 3): the same initial noise in each row."""
    import torch

    made = pipe(
        prompt_embeds=states,
        negative_prompt_embeds=pipe.encode_prompt([""], "cpu", 1, False)[0].expand(len(states), -1, -1),
        guidance_scale=GUIDANCE,
        num_inference_steps=STEPS,
        generator=[torch.Generator("cpu").manual_seed(seed) for _ in states],
        output_type="np",
    ).images
    return np.asarray((made * 255).round(), np.uint8)


def _mask(found: tuple[Found, ...], noun: str) -> np.ndarray | None:
    same = [thing for thing in found if thing.noun == noun]
    if not same:
        return None
    mask = max(same, key=lambda thing: thing.area).mask
    return np.kron(mask, np.ones((4, 4), bool)).astype(bool)


def _file_and(*parts: str) -> Callable[[], str]:
    """Hash of this file and of parts of the miniature."""
    return lambda: hash_of(Path(__file__), *(shipped_folder() / part for part in parts))


ANALYSES: dict[str, Analysis] = {
    "ablation": Analysis(_ablation, _file_and("pipeline", "parser")),
    "latent_size": Analysis(_latent_size),
    "rarity": Analysis(_rarity),
    "text_width": Analysis(_text_width),
    "vae_detail": Analysis(_vae_detail, _file_and("pipeline/vae")),
    "verb_geometry": Analysis(_verb_geometry),
}
"""By the name in a claim's file."""
