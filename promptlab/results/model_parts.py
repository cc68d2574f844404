"""A model's parts without any image: the geometry of its text encoder, and the detail that its autoencoder keeps.

Geometry says what a grid of nouns x words x frames is arranged by:

    X        (nouns, words, frames, d) states, centred by their grand mean (states lie in a narrow cone, and raw cosines
             say little); a word is a verb or a colour, a frame one way to say the same
    R2(f)    sum of squares between the levels of factor f over the total (PERMANOVA on Euclidean distance; the grid is
             balanced, so the shares of noun, word, frame, noun x word and the rest add up to 1)
    p        share of permutations whose R2 of the word is as large, words permuted within each noun and frame
    inside   R2 of the word within one noun, over nouns, and the same for frames: is "running dog" a place of its own?
    probe    accuracy of a linear classifier of the word, trained on the other nouns: a direction that nouns share
    silhouette    of the word among states of one noun, and among all; in [-1, 1]
    ari      adjusted Rand index of k-means against word and against noun: do clusters follow it?
    additivity    1 - R2(noun x word) / (R2 of noun, word and noun x word): 1 if meanings add
    primacy  cos(E(A and B), E(A)) - cos(E(A and B), E(B)) on centred states, over pairs in both orders: above 0 the
             first-named object has more of the state, 0 an encoder that ignores order

The grids are ours:

    things x colours    14 nouns of the miniature's world, 10 colours, 8 ways to say it
    dogs x poses        the miniature's dog, in 10 colours (its "nouns"), 3 poses, 6 ways
    animals x verbs     20 nouns x 8 verbs x 10 ways, for encoders that learned English

States are pooled (the vector that CLIP compares; of a pipeline, the pooled output of its first encoder), or the mean
over a noun's tokens in context (`at="noun"`): what a denoiser reads of the noun. In a causal encoder a noun knows
nothing of the words after it, so half of the ways name the word first.

References:
    Anderson 2001, A new method for non-parametric multivariate analysis of variance.
    Rousseeuw 1987, Silhouettes; Hubert and Arabie 1985, Comparing partitions.
    Trager et al. 2023, Linear Spaces of Meanings (arXiv 2302.14383). Text primacy is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptlab.analyzer.judges.clip import SHIPPED
from promptlab.checkpoints.files import MINIATURES, resolve
from promptlab.errors import ModelError, PromptlabError, nearest
from promptlab.miniature.world import COLOURS, NOUNS, POSES
from promptlab.resources import shipped_folder
from promptlab.study.prompts import article

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GRIDS",
    "Geometry",
    "Grid",
    "Partition",
    "Report",
    "all_pairs",
    "bars",
    "encoder",
    "geometry",
    "kept",
    "measure_grid",
    "measure_primacy",
    "partition",
    "primacy",
    "reports",
    "round_trip",
    "vae_detail",
]

At = Literal["pooled", "noun"]
Floats = NDArray[np.float64]

BAR_WIDTHS = (1, 2, 4, 8, 16)
"""Widths of the bars that the autoencoder encodes, in pixels."""
_FRAMES = ("a photo of {}", "a picture of {}", "there is {}", "{}")


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
        tuple(frame.format(x) for x in ("a {word} {noun}", "a {noun} that is {word}") for frame in _FRAMES),
    ),
    "poses": Grid(
        "dogs x poses",
        tuple(f"{colour} dog" for colour in COLOURS),
        POSES,
        tuple(frame.format(x) for x in ("a {word} {noun}", "a {noun} {word}") for frame in _FRAMES[:3]),
    ),
    "verbs": Grid(
        "animals x verbs",
        (
            *("dog", "cat", "horse", "bird", "rabbit", "bear", "fox", "lion", "wolf", "monkey"),
            *("cow", "sheep", "tiger", "deer", "elephant", "boy", "girl", "man", "woman", "child"),
        ),
        ("running", "sleeping", "jumping", "eating", "sitting", "standing", "swimming", "walking"),
        tuple(
            frame.format(x) for x in ("a {word} {noun}", "a {noun} {word}") for frame in (*_FRAMES, "a painting of {}")
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
    """Texts to states. `at_noun` is whether it gives states of single tokens."""

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
        from promptlab.analyzer.judges.clip import load_clip

        return _Encoder(load_clip(model, checkpoint).texts)
    folder, bag = resolve(model)
    return _of_pipeline(folder, bag, model)


def _of_pipeline(folder: Path, bag: bool, model: str) -> _Encoder:
    import torch
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from promptlab.checkpoints.files import quiet
    from promptlab.generator.models.capabilities import capability, open_reader
    from promptlab.generator.models.loading import variant_of
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
        from promptlab.miniature.clip import bag_encoder

        net = bag_encoder(net)
    ids = _ids(folder / reader.tokenizer, limit)

    def run(texts: list[str]) -> Any:
        with torch.inference_mode():
            return [net(ids(texts[start : start + 64])) for start in range(0, len(texts), 64)]

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
    from promptlab.stats.paired import mean_interval

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


@dataclass(frozen=True)
class Partition:
    """Shares of the sum of squares, which add up to 1, and the permutation p of the word's."""

    noun: float
    word: float
    frame: float
    noun_word: float
    rest: float
    p: float
    permutations: int


@dataclass(frozen=True)
class Geometry:
    """What a grid of states is arranged by; see the module. None, with a reason, for what the grid cannot say."""

    n_nouns: int
    n_words: int
    n_frames: int
    partition: Partition
    word_inside: float
    word_inside_chance: float
    silhouette_inside: float | None
    silhouette_everywhere: float | None
    ari_word: float | None
    ari_noun: float | None
    probe: float | None
    probe_chance: float
    additivity: float | None
    reason: str | None = None


def partition(states: Floats, *, rng: np.random.Generator, permutations: int = 999) -> Partition:
    """Variance partition of `states` (nouns, words, frames, d). Raises ValueError for fewer than 2 of any factor."""
    x = _centred(states)
    total = float((x**2).sum())
    if total <= 1e-12 * float((np.asarray(states, np.float64) ** 2).sum()):
        raise ValueError("all states are equal: there is nothing to part")
    noun, word, frame = (_between(x, keep) for keep in ((0,), (1,), (2,)))
    both = max(0.0, _between(x, (0, 1)) - noun - word)
    k, v, f, _ = x.shape
    as_large = 0
    for _ in range(permutations):
        order = rng.permuted(np.broadcast_to(np.arange(v)[:, None], (k, v, f)), axis=1)
        mixed = np.take_along_axis(x, order[..., None], axis=1)
        as_large += _between(mixed, (1,)) >= word * (1 - 1e-12)
    rest = total - noun - word - frame - both
    p = (as_large + 1) / (permutations + 1)
    return Partition(noun / total, word / total, frame / total, both / total, rest / total, p, permutations)


def _centred(states: Floats) -> Floats:
    x = np.asarray(states, np.float64)
    if x.ndim != 4 or min(x.shape[:3]) < 2 or not np.isfinite(x).all():
        raise ValueError(f"states has shape {x.shape}: finite (nouns, words, frames, d), 2 or more of each, is allowed")
    centred: Floats = x - x.mean(axis=(0, 1, 2))
    return centred


def _between(x: Floats, keep: tuple[int, ...]) -> float:
    """Sum of squares between the groups that factors `keep` make, of centred `x`."""
    away = tuple(axis for axis in range(3) if axis not in keep)
    size = int(np.prod([x.shape[axis] for axis in away]))
    return float(size * (x.mean(axis=away) ** 2).sum())


def geometry(states: Floats, *, rng: np.random.Generator, permutations: int = 999) -> Geometry:
    """All that the module names, of `states` (nouns, words, frames, d); 2 nouns at least for the probe, as for all."""
    from sklearn.metrics import adjusted_rand_score

    x = _centred(states)
    k, v, f, d = x.shape
    parts = partition(states, rng=rng, permutations=permutations)
    nouns, words, _ = (index.ravel() for index in np.indices((k, v, f)))
    flat = x.reshape(-1, d)
    inside = [_within(one) for one in x]
    chance = [_within(np.stack([rng.permutation(one[:, j]) for j in range(f)], axis=1)) for one in x for _ in range(20)]
    apart = [_silhouette(one.reshape(-1, d) - one.mean((0, 1)), np.repeat(np.arange(v), f)) for one in x]
    measured = [value for value in apart if value is not None]
    meaning = parts.noun + parts.word + parts.noun_word
    return Geometry(
        n_nouns=k,
        n_words=v,
        n_frames=f,
        partition=parts,
        word_inside=float(np.mean(inside)),
        word_inside_chance=float(np.mean(chance)),
        silhouette_inside=float(np.mean(measured)) if measured else None,
        silhouette_everywhere=_silhouette(flat, words),
        ari_word=float(adjusted_rand_score(words, _clusters(flat, v))),
        ari_noun=float(adjusted_rand_score(nouns, _clusters(flat, k))),
        probe=_probe(flat, words, nouns),
        probe_chance=1 / v,
        additivity=1 - parts.noun_word / meaning if meaning > 1e-9 else None,
        reason=None if measured else "states within a noun are all equal",
    )


def _within(x: Floats) -> float:
    """R2 of the word for one noun's states (words, frames, d)."""
    x = x - x.mean((0, 1))
    total = float((x**2).sum())
    return float(x.shape[1] * (x.mean(1) ** 2).sum()) / total if total > 0 else 0.0


def _silhouette(x: Floats, labels: NDArray[np.int_]) -> float | None:
    """Mean silhouette by cosine, or None where states have no direction."""
    from sklearn.metrics import silhouette_score

    if np.linalg.norm(x, axis=1).min() < 1e-9 or not 1 < len(set(labels.tolist())) < len(x):
        return None
    return float(silhouette_score(x, labels, metric="cosine"))


def _clusters(x: Floats, n: int) -> NDArray[np.int_]:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # fewer distinct states than clusters: an encoder that makes no difference is an answer, not a mistake
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(KMeans(n, n_init=5, random_state=0).fit_predict(x))


def _probe(x: Floats, words: NDArray[np.int_], nouns: NDArray[np.int_]) -> float:
    """Accuracy on each noun of a ridge classifier that saw the other nouns, each noun's mean taken off."""
    from sklearn.linear_model import RidgeClassifier

    # a noun's own place is no knowledge of the word, and is free to be taken off: no label enters
    x = np.concatenate([x[nouns == one] - x[nouns == one].mean(0) for one in np.unique(nouns)])
    scale = float(np.sqrt((x**2).mean())) or 1.0
    right = []
    for one in np.unique(nouns):
        held = nouns == one
        model = RidgeClassifier(alpha=1.0).fit(x[~held] / scale, words[~held])
        right.append(float((model.predict(x[held] / scale) == words[held]).mean()))
    return float(np.mean(right))


def primacy(both: Floats, alone: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    """Text primacy of each unordered pair, its two orders averaged; see the module.

    Args:
        both: (2, pairs, d), states of "A and B", and of "B and A".
        alone: (things, d), states of each thing alone.
        pairs: (A, B) as indices into `alone`.
    """
    middle = alone.mean(0)
    single, ab = _unit(alone - middle), _unit(both - middle)
    first, second = (single[[pair[i] for pair in pairs]] for i in (0, 1))
    lead = (ab[0] * first).sum(1) - (ab[0] * second).sum(1), (ab[1] * second).sum(1) - (ab[1] * first).sum(1)
    mean: Floats = (lead[0] + lead[1]) / 2
    return mean


def _unit(x: Floats) -> Floats:
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    unit: Floats = x / np.where(length > 0, length, 1.0)
    return unit


def all_pairs(n: int) -> list[tuple[int, int]]:
    """Every pair of `n` things."""
    return list(combinations(range(n), 2))


def reports(
    model: str = "miniature",
    grids: Sequence[str] | None = None,
    checkpoint: str | None = None,
    permutations: int = 999,
) -> list[Report]:
    """The geometry of each grid, of pooled states and, where there are such, of the noun's own; grids by the model.

    Raises PromptlabError for a grid that is not in `promptlab.results.model_parts.GRIDS`, ModelError for a model not
    here.
    """
    names = grids or (("colours", "poses") if model.startswith("miniature") else ("colours", "verbs"))
    for name in names:
        if name not in GRIDS:
            raise PromptlabError(f"no grid is called {name!r}: choose from {', '.join(GRIDS)}{nearest(name, GRIDS)}")
    kinds = ("pooled", "noun") if encoder(model, checkpoint).at_noun else ("pooled",)
    return [
        measure_grid(model, name, at, checkpoint=checkpoint, permutations=permutations)  # type: ignore[arg-type]
        for name in names
        for at in kinds
    ]


def geometry_table(
    model: str = "miniature",
    grids: Sequence[str] | None = None,
    checkpoint: str | None = None,
    permutations: int = 999,
) -> pd.DataFrame:
    """One row for each grid and kind of state: model, grid, at (pooled or noun), then the fields of
    `promptlab.results.model_parts`.

    The shares of variance (0..1, adding up to 1) are variance_noun, variance_word, variance_frame, variance_noun_word,
    variance_rest, with p and permutations. See `reports` for what it raises.
    """
    import pandas as pd

    rows = []
    for one in reports(model, grids, checkpoint, permutations):
        fields = asdict(one.geometry)
        parts = fields.pop("partition")
        shares = {k if k in ("p", "permutations") else f"variance_{k}": v for k, v in parts.items()}
        rows.append({"model": one.model, "grid": one.grid, "at": one.at, **shares, **fields})
    return pd.DataFrame(rows)


def vae_detail() -> pd.DataFrame:
    """What the miniature's autoencoder keeps of bars' contrast, by their width in pixels: see its analysis.

    Columns: bar_width, kept (1 is all, 0 a grey field), low, high (95 %, over colour pairs), n (pairs of colours, each
    in two orientations), tier.
    """
    import pandas as pd

    from promptlab.stats.paired import mean_interval

    units, curve = round_trip()
    pairs = [unit.rsplit(", ", 1)[0] for unit in units]
    rows = []
    for width, kept in curve.items():
        found = mean_interval(kept, pairs, rng=np.random.default_rng(0))
        rows.append((width, found.estimate, found.low, found.high, found.n_groups, "T1"))
    return pd.DataFrame(rows, columns=["bar_width", "kept", "low", "high", "n", "tier"])


def bars(width: int, first: np.ndarray, second: np.ndarray, upright: bool, side: int = 128) -> np.ndarray:
    """Stripes of two colours (3,), float (side, side, 3)."""
    which = (np.arange(side) // width % 2).astype(bool)
    row = np.where(which[:, None], second, first)
    return np.broadcast_to(row[None] if upright else row[:, None], (side, side, 3)).astype(np.float64)


def kept(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the contrast along `before` that `after` still has: the slope of after on before, both centred."""
    a, b = before - before.mean((0, 1)), after - after.mean((0, 1))
    return float((a * b).sum() / (a * a).sum())


def round_trip() -> tuple[list[str], dict[int, list[float]]]:
    """Names of the units, and what each keeps of its contrast by width of bars, 1 where all."""
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(shipped_folder() / "pipeline" / "vae", dtype=torch.float32).eval()
    names = list(COLOURS)
    colours = {name: np.array(COLOURS[name], np.float64) for name in names}
    units = [(a, b, upright) for i, a in enumerate(names) for b in names[i + 1 :: 3] for upright in (True, False)]
    curve: dict[int, list[float]] = {width: [] for width in BAR_WIDTHS}
    for width in BAR_WIDTHS:
        drawn = np.stack([bars(width, colours[a], colours[b], upright) for a, b, upright in units])
        with torch.no_grad():
            x = torch.tensor(drawn, dtype=torch.float32).permute(0, 3, 1, 2) / 127.5 - 1
            y = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        back = ((y + 1) * 127.5).permute(0, 2, 3, 1).double().numpy()
        curve[width] = [kept(one, two) for one, two in zip(drawn, back, strict=True)]
    return [f"{a} and {b}, {'upright' if upright else 'level'}" for a, b, upright in units], curve
