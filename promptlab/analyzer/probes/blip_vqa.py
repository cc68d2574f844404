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
OWN = (
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
    measures = (*OWN, *WHOLE)
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
        asked = questions(sample.prompt)
        if not asked:
            yield sample.score(self, "blip_vqa", reason="the prompt declares no object with a phrase")
            return
        texts = list(dict.fromkeys(t for one in asked for t in (one.phrase, one.bare, one.swapped) if t))
        said = dict(zip(texts, self.answers(sample, [f"{text}?" for text in texts]), strict=True))
        own, bare = [said[one.phrase] for one in asked], [said[one.bare] for one in asked]
        foreign = [said[one.swapped] if one.swapped else None for one in asked]
        yield sample.score(self, "blip_vqa", "", product(own), detail={"precision": self._opened.precision})
        for one, right, there, wrong in zip(asked, own, bare, foreign, strict=True):
            yield sample.score(self, "vqa_yes", one.object, right, detail={"question": f"{one.phrase}?"})
            yield sample.score(self, "vqa_noun", one.object, there, detail={"question": f"{one.bare}?"})
            if wrong is not None:
                asks = {"question": f"{one.swapped}?"}
                yield sample.score(self, "vqa_swapped", one.object, wrong, detail=asks)
        if len(asked) == 2:
            yield from self._pair(sample, asked, own, bare, foreign)

    def _pair(
        self,
        sample: Sample,
        asked: Sequence[Question],
        own: Sequence[float],
        bare: Sequence[float],
        foreign: Sequence[float | None],
    ) -> Iterator[Score]:
        wrong = [value for value in foreign if value is not None]
        gone = [one.noun for one, there in zip(asked, bare, strict=True) if there <= 0.5]
        reason = None
        if len(wrong) < 2:
            reason = "the two objects have no two attributes to exchange"
        elif gone:
            reason = f"the judge sees no {' and no '.join(gone)}, whose attribute would say nothing"
        value = None if reason else contrast(own, wrong)
        yield sample.score(self, "vqa_contrast", "", value, reason=reason)
        detail = {"own": own, "noun": bare, "exchanged": foreign}
        yield from outcome_scores(self, sample, outcome_of(asked, bare, own, foreign), detail=detail)

    @cached_property
    def _opened(self) -> Judge:
        return open_judge(self._model, "BlipForQuestionAnswering", ("blip",))

    def answers(self, sample: Sample, asked: Sequence[str]) -> list[float]:
        """The share of yes for each question about one picture. Raises ModelError."""
        import torch

        judge = self._opened
        model, tokenizer = judge.model, judge.processor.tokenizer
        size = {"height": self._size, "width": self._size}
        pixels = judge.processor.image_processor(sample.pixels, size=size, return_tensors="pt")["pixel_values"]
        yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
        said = []
        with torch.inference_mode():
            seen = model.vision_model(pixels.to(judge.device, model.dtype), interpolate_pos_encoding=True)[0]
            start = torch.full((1, 1), model.decoder_start_token_id, device=judge.device)
            # One question after the other: padding changes the answers of transformers' BLIP, masked or not.
            for question in asked:
                words = tokenizer(question, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
                words = words.to(judge.device)
                states = model.text_encoder(
                    input_ids=words.input_ids,
                    attention_mask=words.attention_mask,
                    encoder_hidden_states=seen,
                    return_dict=False,
                )[0]
                logits = model.text_decoder(input_ids=start, encoder_hidden_states=states).logits[0, -1]
                said.append(yes_share(float(logits[yes]), float(logits[no])))
        return said


def load(model: str = MODEL, image_size: int = 480) -> BlipVqa:
    """The probe; see `BlipVqa`."""
    return BlipVqa(model, image_size)
