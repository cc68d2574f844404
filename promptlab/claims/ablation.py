"""What a word does to the image: its vector in the text states replaced by that of the padding, at the same seed.

    d(own) - d(other)    mean absolute change of the pixels (0..255) inside the object that the colour word is of,
                         less that inside the other object; places as the scene parser finds them before

One unit is one prompt, its two colour words and seeds averaged. Attention maps show where a word looks; this shows what
it causes. The probe `ablation` measures the same of a study's images, as a distance of colours (CIELAB).

References:
    Tang et al. 2023, What the DAAM (arXiv 2210.04885): words found responsible by leaving them out. Measure: ours.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from promptlab.claims.analyses import Finding
from promptlab.miniature.parser import Found, load_parser, parse
from promptlab.resources import shipped_folder

__all__ = ["measured", "without_word"]

PAIRS = (
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
SEEDS = (0, 1)
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


def measured() -> Finding:
    """The finding of the miniature."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        shipped_folder() / "pipeline", use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    parser = load_parser(shipped_folder() / "parser")
    values: dict[str, list[float]] = defaultdict(list)
    unseen = 0
    for first, second in PAIRS:
        prompt = f"a photo of a {first} and a {second}".replace("a orange", "an orange")
        rows = _states(pipe, prompt, (first, second))
        for seed in SEEDS:
            pictures = _draw(pipe, rows, seed)
            masks = [_mask(parse(pictures[:1], parser)[0], thing.split()[1]) for thing in (first, second)]
            if masks[0] is None or masks[1] is None:
                unseen += 1
                continue
            change = np.abs(pictures[1:].astype(np.float64) - pictures[0]).mean(-1)
            for k in (0, 1):
                values[prompt].append(float(change[k][masks[k]].mean() - change[k][masks[1 - k]].mean()))
    means = {prompt: float(np.mean(found)) for prompt, found in values.items()}
    detail = {"pictures": 3 * len(PAIRS) * len(SEEDS), "without_both_objects": unseen}
    measure = "change inside the word's own object, less the other's (of 255)"
    return Finding(measure, means, "prompt", None, detail, tier="T1")


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
