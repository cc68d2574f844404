"""Arithmetic of judges that answer questions about a picture: no model here, only their numbers.

    yes(a, b)     e^a / (e^a + e^b): the share of "yes" among yes and no, a and b being the logits of the first answer
                  token
    BLIP-VQA      product over the prompt's noun phrases of yes("<phrase>?"), at most 8 phrases; 1 for a phrase that is
                  not there; a model's score is the mean over pictures
    contrast      the smallest yes among the phrases asked for minus the largest among those with attributes exchanged
    VQAScore      geometric mean of the probabilities of the tokens of "Yes" after the question, exp(-cross-entropy)

From yes and no per phrase to an outcome of binding: a noun is there if yes("a cup?") exceeds 1/2, a thing has each
colour whose question exceeds 1/2, and `promptlab.analyzer.judges.outcomes.outcome_seen` says the rest, as for a
human rater who may tick several colours. *fused* cannot be told: nobody asked.

References:
    Huang et al. 2023, T2I-CompBench (arXiv 2307.06350): BLIP-VQA. Lin et al. 2024, Evaluating Text-to-Visual Generation
    with Image-to-Text Generation (arXiv 2404.01291): VQAScore. Cho et al. 2024, Davidsonian Scene Graph (arXiv
    2310.18235): a question about an attribute counts only where the thing is there.

Judges of photographs: transformers models that answer questions about pictures or find things in them.

A judge is a folder, or OWNER/NAME[@REVISION] in the cache of the hub, with config.json, safetensors and what its
processor needs. Nothing is fetched, no code of a model's own runs, no pickle is opened. On a GPU the judge runs in the
precision of its checkpoint, else in float32.

References:
    `promptlab.checkpoints.files` for the cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptlab.analyzer.judges.clip import sha256
from promptlab.analyzer.judges.outcomes import Seen, outcome_seen
from promptlab.checkpoints.files import is_hub_name, pull, snapshot
from promptlab.errors import ModelError
from promptlab.records import Binding, Prompt
from promptlab.study.prompt_lists import RequestedObject
from promptlab.study.prompts import article

if TYPE_CHECKING:
    from promptlab.stats.resampling import Floats

__all__ = [
    "JUDGE_FILES",
    "MOST_PHRASES",
    "Judge",
    "Question",
    "answer_probability",
    "compbench",
    "contrast",
    "identity",
    "judge_folder",
    "open_judge",
    "outcome_of",
    "product",
    "questions",
    "yes_share",
]

MOST_PHRASES = 8
NEITHER = "a colour that was not asked about"


@dataclass(frozen=True)
class Question:
    """What is asked about one object: its phrase, its bare noun, and its phrase with the other's attribute (or None).

    `foreign` is that attribute.
    """

    object: str
    noun: str
    attribute: str | None
    phrase: str
    bare: str
    swapped: str | None = None
    foreign: str | None = None


def yes_share(yes: float, no: float) -> float:
    """The share of yes among two logits, in [0, 1]."""
    return float(1 / (1 + np.exp(np.clip(no - yes, -700, 700))))


def product(answers: Sequence[float]) -> float:
    """BLIP-VQA of one picture: the product of its phrases' answers, each in [0, 1]; the first 8 count."""
    for value in answers:
        if not 0 <= value <= 1:
            raise ValueError(f"an answer is {value}: a probability in [0, 1] is allowed")
    return float(np.prod(answers[:MOST_PHRASES])) if len(answers) else 1.0


def compbench(pictures: Sequence[Sequence[float]]) -> float:
    """T2I-CompBench's score of a model: the mean of `product` over pictures."""
    if not pictures:
        raise ValueError("no picture was answered about: a mean needs at least one")
    return float(np.mean([product(answers) for answers in pictures]))


def contrast(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Smallest answer to what was asked for minus largest to what was exchanged, in [-1, 1]."""
    if not len(positive) or not len(negative):
        raise ValueError(
            f"{len(positive)} positive and {len(negative)} negative answers: at least one of each is needed"
        )
    return float(min(positive) - max(negative))


def answer_probability(logits: Floats, tokens: Sequence[int]) -> float:
    """VQAScore: geometric mean of the probabilities of `tokens` (k,), each read off its row of `logits` (k, words)."""
    rows = np.asarray(logits, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(tokens) or not len(tokens):
        raise ValueError(f"logits have shape {rows.shape}: one row for each of the {len(tokens)} tokens is allowed")
    rows = rows - rows.max(axis=1, keepdims=True)
    logs = rows[np.arange(len(rows)), list(tokens)] - np.log(np.exp(rows).sum(axis=1))
    return float(min(1.0, np.exp(logs.mean())))


def questions(prompt: Prompt) -> tuple[Question, ...]:
    """What to ask about each object that the prompt names with a phrase, in order of mention.

    With two objects of different attributes of one kind, each is asked about with the other's as well.
    """
    phrases = {phrase.name: phrase.text for phrase in prompt.phrases if phrase.role == "object"}
    named: dict[str, Binding] = {}
    for binding in prompt.bindings:
        if binding.object in phrases and (binding.object not in named or binding.kind in ("colour", "color")):
            named[binding.object] = binding
    both = list(named.values())
    found = []
    for i, binding in enumerate(both):
        text = phrases[binding.object]
        other = both[1 - i] if len(both) == 2 else None
        swapped = foreign = None
        own, its = binding.attribute, other.attribute if other is not None and other.kind == binding.kind else None
        if own and its and own.lower() != its.lower():
            swapped, foreign = _exchanged(text, own, its), its
        bare = f"{article(binding.noun)} {binding.noun}"
        found.append(
            Question(binding.object, binding.noun, binding.attribute, text, bare, swapped, foreign if swapped else None)
        )
    return tuple(found)


def _exchanged(text: str, own: str, other: str) -> str | None:
    """The phrase with the other attribute, its article mended; None where it does not hold its own as a word."""
    changed, n = re.subn(rf"\b{re.escape(own)}\b", lambda _: other, text, count=1, flags=re.IGNORECASE)
    if not n:
        return None
    start = re.match(r"(an?)\s+(.*)", changed, re.IGNORECASE | re.DOTALL)
    return f"{article(start[2])} {start[2]}" if start else changed


def outcome_of(
    asked: Sequence[Question], bare: Sequence[float], own: Sequence[float], foreign: Sequence[float | None]
) -> str | None:
    """The outcome of binding behind the answers, each in [0, 1], one an object; `foreign` None: it was not asked."""
    things, seen = [], []
    for question, there, right, wrong in zip(asked, bare, own, foreign, strict=True):
        colours = {question.attribute} if question.attribute and right > 0.5 else set()
        if question.foreign and wrong is not None and wrong > 0.5:
            colours.add(question.foreign)
        things.append(RequestedObject(question.noun, question.attribute))
        seen.append(Seen(int(there > 0.5), frozenset(str(one) for one in colours) or frozenset({NEITHER})))
    return outcome_seen(things, seen)


JUDGE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What a judge needs: weights as safetensors, configurations, vocabularies."""


@dataclass(frozen=True, eq=False)
class Judge:
    """A loaded model with its processor, in eval mode on `device`."""

    model: Any
    processor: Any
    device: str
    precision: str


def judge_folder(model: str | Path) -> Path:
    """Where a judge's files lie. Raises ModelError with the command that gets what is missing."""
    name = str(model)
    path = Path(name).expanduser()
    cure = f"; get it with {pull(name, JUDGE_FILES)}" if is_hub_name(name) else ""
    if not path.is_dir():
        if not is_hub_name(name):
            raise ModelError(f"no folder {path}: a judge is a folder or OWNER/NAME in the cache of the hub")
        path = snapshot(name, JUDGE_FILES)
    for pattern in ("config.json", "*.safetensors"):
        if not any(path.glob(pattern)):
            raise ModelError(f"no {pattern} in {path}: a judge needs its weights as safetensors and its config{cure}")
    return path


def identity(model: str | Path) -> dict[str, str]:
    """What makes a judge's answers comparable, as plain data without paths; imports no torch. Raises ModelError.

    `weights` hashes the weights, `files` every other file of the folder that it is read from.
    """
    folder = judge_folder(model)
    weights = sorted(folder.glob("*.safetensors"))
    others = sorted(path for pattern in JUDGE_FILES if "safetensors" not in pattern for path in folder.glob(pattern))
    read = [path for path in others if path.name not in ("README.txt", "model.safetensors.index.json")]
    return {
        "weights": "+".join(sha256(path) for path in weights),
        "files": "+".join(f"{path.name}:{sha256(path)[:16]}" for path in read),
    }


def open_judge(model: str | Path, head: str, kinds: tuple[str, ...] = ()) -> Judge:
    """The judge, loaded once. `head` is a class of transformers; `kinds` are the model types allowed, all if empty.

    Raises ModelError for a folder that is none, for another kind, and for what transformers cannot load.
    """
    folder = judge_folder(model)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'} is no configuration of transformers: {error!r}") from error
    if kinds and kind not in kinds:
        raise ModelError(f"{model} is of the kind {kind!r}: {', '.join(kinds)} are allowed here")
    return _open(folder, head, sha256(folder / "config.json"))


@lru_cache(maxsize=2)
def _open(folder: Path, head: str, _config: str) -> Judge:
    import torch
    import transformers

    from promptlab.checkpoints.files import quiet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with quiet():
            processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
            model = getattr(transformers, head).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype="auto" if device == "cuda" else torch.float32
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder} cannot be loaded as {head}: {str(error).strip().splitlines()[0]}") from error
    model.eval().to(device)
    return Judge(model, processor, device, str(model.dtype).removeprefix("torch."))
