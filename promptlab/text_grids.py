"""What `promptlab.geometry` looks at: grids of texts, and their states by the encoders that are here.

    things x colours    14 nouns of the miniature's world, 10 colours, 8 ways to say it
    dogs x poses        the miniature's dog, in 10 colours (its "nouns"), 3 poses, 6 ways
    animals x verbs     20 nouns x 8 verbs x 10 ways, for encoders that learned English

States are pooled (the vector that CLIP compares; of a pipeline, the pooled output of its first encoder), or those of a
noun's own tokens in context, mean over them (`at="noun"`): what a denoiser reads of the noun. A causal encoder gives a
noun nothing of the words behind it, so half of the ways name the word first.

Grids are ours; 20 nouns, 8 verbs and 10 paraphrases in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptlab.articles import article
from promptlab.backends.folders import MINIATURES, resolve
from promptlab.clip_files import SHIPPED
from promptlab.errors import ModelError
from promptlab.geometry import Geometry, all_pairs, geometry, primacy
from promptlab.miniature.world import COLOURS, NOUNS, POSES

__all__ = ["GRIDS", "Grid", "Report", "encoder", "measure_grid", "measure_primacy"]

Floats = NDArray[np.float64]
At = Literal["pooled", "noun"]

_SAID = ("a photo of {}", "a picture of {}", "there is {}", "{}")


@dataclass(frozen=True)
class Grid:
    """Nouns, words, and frames that hold `{noun}` and `{word}` once each; `a` before either becomes `an` as needed."""

    name: str
    nouns: tuple[str, ...]
    words: tuple[str, ...]
    frames: tuple[str, ...]

    def texts(self) -> list[tuple[str, int, int]]:
        """Every text with the start and end of its noun, nouns first, then words, then frames."""
        return [_say(frame, noun, word) for noun in self.nouns for word in self.words for frame in self.frames]


def _say(frame: str, noun: str, word: str) -> tuple[str, int, int]:
    text, start = "", 0
    for piece in frame.split():
        if piece == "{noun}":
            start = len(text)
        text += {"{noun}": noun, "{word}": word}.get(piece, piece) + " "
    for value in (noun, word):
        at = text.find(f"a {value} ")
        if article(value) == "an" and at >= 0:
            text = text[:at] + "an" + text[at + 1 :]
            start += start > at
    return text.strip(), start, start + len(noun)


GRIDS = {
    "colours": Grid(
        "things x colours",
        NOUNS,
        tuple(COLOURS),
        tuple(frame.format(x) for x in ("a {word} {noun}", "a {noun} that is {word}") for frame in _SAID),
    ),
    "poses": Grid(
        "dogs x poses",
        tuple(f"{colour} dog" for colour in COLOURS),
        POSES,
        tuple(frame.format(x) for x in ("a {word} {noun}", "a {noun} {word}") for frame in _SAID[:3]),
    ),
    "verbs": Grid(
        "animals x verbs",
        (
            *("dog", "cat", "horse", "bird", "rabbit", "bear", "fox", "lion", "wolf", "monkey"),
            *("cow", "sheep", "tiger", "deer", "elephant", "boy", "girl", "man", "woman", "child"),
        ),
        ("running", "sleeping", "jumping", "eating", "sitting", "standing", "swimming", "walking"),
        tuple(
            frame.format(x) for x in ("a {word} {noun}", "a {noun} {word}") for frame in (*_SAID, "a painting of {}")
        ),
    ),
}


@dataclass(frozen=True)
class Report:
    """The geometry of one grid in one kind of state of one model."""

    model: str
    grid: str
    at: At
    geometry: Geometry


class _Encoder:
    """Texts to states. `at_noun` is whether states of single tokens are there."""

    def __init__(self, pooled: Any, tokens: Any = None) -> None:
        self.pooled, self._tokens = pooled, tokens

    @property
    def at_noun(self) -> bool:
        return self._tokens is not None

    def states(self, texts: list[tuple[str, int, int]], at: At) -> Floats:
        """(texts, d), not centred."""
        if at == "pooled":
            return np.asarray(self.pooled([text for text, _, _ in texts]), np.float64)
        return np.asarray(self._tokens(texts), np.float64)


def encoder(model: str, checkpoint: str | None = None) -> _Encoder:
    """The text encoder of `model`.

    Args:
        model: a pipeline ("miniature", "miniature-bag", a folder, OWNER/NAME), or a CLIP model as for probes:
            "miniature-scorer", `local-dir:/path`, or an open_clip name with its `checkpoint`.

    Raises ModelError: no such model here, or its first text encoder is no CLIP.
    """
    if checkpoint is not None or model.startswith("local-dir:") or (model in SHIPPED and model not in MINIATURES):
        from promptlab.clip import load_clip

        return _Encoder(load_clip(model, checkpoint).texts)
    folder, bag = resolve(model)
    return _of_pipeline(folder, bag, model)


def _of_pipeline(folder: Path, bag: bool, model: str) -> _Encoder:
    import torch
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from promptlab.backends.capabilities import capability, open_reader
    from promptlab.backends.loading import variant_of
    from promptlab.backends.quiet import quiet
    from promptlab.records import Phrase, Prompt

    reader = capability(folder).readers[0]
    tokens, limit = open_reader(folder, reader)
    kinds = {"CLIPTextModel": CLIPTextModel, "CLIPTextModelWithProjection": CLIPTextModelWithProjection}
    kind = kinds.get(_architecture(folder / reader.encoder))
    if kind is None:
        raise ModelError(f"the first text encoder of {model!r} is no CLIP, so it has no pooled state to look at")
    with quiet():
        options = {"use_safetensors": True, "local_files_only": True, "variant": variant_of(folder)}
        net: Any = kind.from_pretrained(folder / reader.encoder, dtype=torch.float32, **options)
    if bag:
        from promptlab.miniature.clip_pair import bag_encoder

        net = bag_encoder(net)
    ids = _ids(folder / reader.tokenizer, limit)

    def run(texts: list[str]) -> Any:
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                found.append(net(ids(texts[start : start + 64])))
        return found

    def pooled(texts: list[str]) -> Floats:
        if not bag:
            return np.concatenate([(o.text_embeds if hasattr(o, "text_embeds") else o[1]).numpy() for o in run(texts)])
        # without layers the mark at the end hears nothing: a bag of words is pooled by its mean
        states = np.concatenate([o.last_hidden_state.numpy() for o in run(texts)])
        lengths = [min(tokens.framed_length(text), limit) for text in texts]
        return np.stack([state[:length].mean(0) for state, length in zip(states, lengths, strict=True)])

    def at_noun(texts: list[tuple[str, int, int]]) -> Floats:
        states = np.concatenate([o.last_hidden_state.numpy() for o in run([text for text, _, _ in texts])])
        rows = []
        for state, (text, start, stop) in zip(states, texts, strict=True):
            spot = tokens.spans(Prompt(text, (), ()), limit, [Phrase("noun", text[start:stop], start, stop, "object")])
            place = spot.phrases[-1]
            rows.append(state[place.first : place.stop].mean(0))
        return np.stack(rows)

    return _Encoder(pooled, at_noun)


def _architecture(folder: Path) -> str:
    import json

    try:
        named = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or [""]
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from None
    return str(named[0])


def _ids(folder: Path, limit: int) -> Any:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    options = {"padding": "max_length", "truncation": True, "max_length": limit, "return_tensors": "pt"}
    return lambda texts: tokenizer(texts, **options).input_ids


def measure_grid(
    model: str, name: str, at: At = "pooled", *, checkpoint: str | None = None, permutations: int = 999, seed: int = 0
) -> Report:
    """The geometry of a grid of `GRIDS`. Raises ModelError."""
    grid, read = GRIDS[name], encoder(model, checkpoint)
    if at == "noun" and not read.at_noun:
        raise ModelError(f"{model!r} gives pooled states alone; states of tokens need a pipeline's text encoder")
    states = read.states(grid.texts(), at)
    shape = (len(grid.nouns), len(grid.words), len(grid.frames), -1)
    rng = np.random.default_rng(seed)
    return Report(model, grid.name, at, geometry(states.reshape(shape), rng=rng, permutations=permutations))


def measure_primacy(model: str, things: tuple[str, ...] = NOUNS, *, checkpoint: str | None = None) -> dict[str, Any]:
    """Text primacy over all pairs of `things`: mean, low, high (95 %, bootstrap over pairs), n pairs, method."""
    from promptlab.stats import mean_interval

    read = encoder(model, checkpoint)
    pairs = all_pairs(len(things))
    named = [f"{article(thing)} {thing}" for thing in things]
    orders = [f"{named[i]} and {named[j]}" for a, b in pairs for i, j in ((a, b), (b, a))]
    alone, both = (np.asarray(read.pooled(texts), np.float64) for texts in (named, orders))
    values = primacy(both.reshape(len(pairs), 2, -1).swapaxes(0, 1), alone, pairs)
    found = mean_interval(
        values.tolist(), [f"{a}, {b}" for a, b in pairs], rng=np.random.default_rng(0), resamples=2000
    )
    return {"mean": found.estimate, "low": found.low, "high": found.high, "n": found.n, "method": found.method}
