"""BLIP-VQA: a model is asked "a red cup?", "a blue chair?", and what the prompt would be with colours exchanged.

For each object of the prompt three questions: its phrase, its bare noun ("a cup?"), and its phrase with the other's
attribute. An answer is P(yes) / (P(yes) + P(no)) at the first token. T2I-CompBench's score is the product over the
phrases; it mixes missing things with wrong colours and only ever asks for what should be there, so beside it stand the
contrast with the exchanged questions, which is None where a thing is not seen, and the outcome of binding
(`promptlab.analyzer.judges.vqa`).

As T2I-CompBench: pictures at 480 pixels (positions interpolated), questions cut at 35 tokens. Unlike it: noun phrases
are those that the study declares, not spaCy's; and transformers' port of BLIP encodes questions from [CLS] on, so
published figures are not to be expected to the digit.

References:
    Huang et al. 2023, T2I-CompBench: A Comprehensive Benchmark for Open-world Compositional Text-to-image Generation
    (arXiv 2307.06350). Li et al. 2022, BLIP (arXiv 2201.12086).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from promptlab.analyzer.judges.outcomes import WHOLE, outcome_scores
from promptlab.analyzer.judges.vqa import (
    Judge,
    Question,
    contrast,
    identity,
    open_judge,
    outcome_of,
    product,
    questions,
    yes_share,
)
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.records import Measure, Score

__all__ = ["MODEL", "BlipVqa", "load"]

_SOURCE = "T2I-CompBench (arXiv 2307.06350)"
VQA_MEASURES = (
    Measure("blip_vqa", "product over the phrases of the answers to '<phrase>?'", "share", 0, 1, True, _SOURCE),
    Measure("vqa_yes", "answer to '<phrase>?' about the target object", "share", 0, 1, True, _SOURCE),
    Measure(
        "vqa_noun", "answer to '<noun>?' about the target object", "share", 0, 1, True, "promptlab.analyzer.judges.vqa"
    ),
    Measure(
        "vqa_swapped",
        "answer to the phrase with the other's attribute",
        "share",
        0,
        1,
        False,
        "promptlab.analyzer.judges.vqa",
    ),
    Measure(
        "vqa_contrast",
        "smallest answer as asked minus largest as exchanged",
        "",
        -1,
        1,
        True,
        "promptlab.analyzer.judges.vqa",
    ),
)
MODEL = "Salesforce/blip-vqa-capfilt-large"
MOST_TOKENS = 35


class BlipVqa:
    """BLIP-VQA with its swapped questions.

    Args:
        model: a folder or OWNER/NAME[@REVISION] in the hub's cache, of the kind `blip`, with a head for questions.
        image_size: pixels a side at which it looks, a multiple of its patch (16 in the models that are out).
    """

    name = "blip_vqa"
    version = 1
    measures = (*VQA_MEASURES, *WHOLE)
    needs: frozenset[Need] = frozenset()
    accelerated = True

    def __init__(self, model: str = MODEL, image_size: int = 480) -> None:
        self._model, self._size = model, image_size

    @cached_property
    def id(self) -> str:
        """See `Probe.id`; the judge's files are part of it."""
        return probe_id(self.name, self.version, {**identity(self._model), "image_size": self._size})

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Scores; the target is the object's name, or "" for the prompt as a whole."""
        for sample in samples:
            yield from self._judge(sample)

    def _judge(self, sample: Sample) -> Iterator[Score]:
        requested = questions(sample.prompt)
        if not requested:
            yield sample.score(self, "blip_vqa", reason="the prompt declares no object with a phrase")
            return
        texts = list(dict.fromkeys(t for one in requested for t in (one.phrase, one.bare, one.swapped) if t))
        yes_by_text = dict(zip(texts, self.answers(sample, [f"{text}?" for text in texts]), strict=True))
        phrases, nouns = [yes_by_text[one.phrase] for one in requested], [yes_by_text[one.bare] for one in requested]
        swapped = [yes_by_text[one.swapped] if one.swapped else None for one in requested]
        yield sample.score(self, "blip_vqa", "", product(phrases), detail={"precision": self._opened.precision})
        for one, phrase_yes, noun_yes, swapped_yes in zip(requested, phrases, nouns, swapped, strict=True):
            yield sample.score(self, "vqa_yes", one.object, phrase_yes, detail={"question": f"{one.phrase}?"})
            yield sample.score(self, "vqa_noun", one.object, noun_yes, detail={"question": f"{one.bare}?"})
            if swapped_yes is not None:
                asks = {"question": f"{one.swapped}?"}
                yield sample.score(self, "vqa_swapped", one.object, swapped_yes, detail=asks)
        if len(requested) == 2:
            yield from self._pair(sample, requested, phrases, nouns, swapped)

    def _pair(
        self,
        sample: Sample,
        requested: Sequence[Question],
        phrases: Sequence[float],
        nouns: Sequence[float],
        swapped: Sequence[float | None],
    ) -> Iterator[Score]:
        exchanged = [value for value in swapped if value is not None]
        unseen = [one.noun for one, yes in zip(requested, nouns, strict=True) if yes <= 0.5]
        reason = None
        if len(exchanged) < 2:
            reason = "the two objects have no two attributes to exchange"
        elif unseen:
            reason = f"the judge sees no {' and no '.join(unseen)}, whose attribute would say nothing"
        value = None if reason else contrast(phrases, exchanged)
        yield sample.score(self, "vqa_contrast", "", value, reason=reason)
        detail = {"own": phrases, "noun": nouns, "exchanged": swapped}
        yield from outcome_scores(self, sample, outcome_of(requested, nouns, phrases, swapped), detail=detail)

    @cached_property
    def _opened(self) -> Judge:
        return open_judge(self._model, "BlipForQuestionAnswering", ("blip",))

    def answers(self, sample: Sample, texts: Sequence[str]) -> list[float]:
        """The share of yes for each question about one picture. Raises ModelError."""
        import torch

        judge = self._opened
        model, tokenizer = judge.model, judge.processor.tokenizer
        size = {"height": self._size, "width": self._size}
        pixels = judge.processor.image_processor(sample.pixels, size=size, return_tensors="pt")["pixel_values"]
        yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
        shares = []
        with torch.inference_mode():
            seen = model.vision_model(pixels.to(judge.device, model.dtype), interpolate_pos_encoding=True)[0]
            start = torch.full((1, 1), model.decoder_start_token_id, device=judge.device)
            # One question after the other: padding changes the answers of transformers' BLIP, masked or not.
            for text in texts:
                words = tokenizer(text, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
                words = words.to(judge.device)
                states = model.text_encoder(
                    input_ids=words.input_ids,
                    attention_mask=words.attention_mask,
                    encoder_hidden_states=seen,
                    return_dict=False,
                )[0]
                logits = model.text_decoder(input_ids=start, encoder_hidden_states=states).logits[0, -1]
                shares.append(yes_share(float(logits[yes]), float(logits[no])))
        return shares


def load(model: str = MODEL, image_size: int = 480) -> BlipVqa:
    """The probe; see `BlipVqa`."""
    return BlipVqa(model, image_size)
