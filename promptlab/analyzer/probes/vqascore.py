"""VQAScore: how likely a vision-language model answers "Yes" when asked whether the picture shows the prompt.

    question   Does this figure show "{text}"? Please answer yes or no.
    score      probability of "Yes" after the model's own chat template, [0, 1]
    swapped    the same with the prompt's two attributes exchanged
    contrast   score minus swapped, [-1, 1]: what the first two say of binding, free of how readily the judge says yes

Any model that transformers opens for picture and text will do, as long as it goes on from its prompt (a decoder alone).
Figures under two models are not comparable, nor with those of CLIP-FlanT5.

References:
    Lin et al. 2024, Evaluating Text-to-Visual Generation with Image-to-Text Generation (arXiv 2404.01291). The contrast
    is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from promptlab.analyzer.judges.vqa import Judge, answer_probability, identity, open_judge
from promptlab.analyzer.probes import Need, Sample, probe_id
from promptlab.errors import ModelError
from promptlab.records import Measure, Score

__all__ = ["MODEL", "TEMPLATE", "VqaScore", "load"]

MODEL = "Qwen/Qwen2-VL-2B-Instruct"
TEMPLATE = 'Does this figure show "{text}"? Please answer yes or no.'
ANSWER = "Yes"
_SOURCE = "VQAScore (arXiv 2404.01291)"


class VqaScore:
    """VQAScore of the prompt and of its swapped twin's text, on one picture.

    Args:
        model: a folder or OWNER/NAME[@REVISION] in the hub's cache, of a model tuned to answer.
        template: the question, with {text} where the prompt goes.
        answer: the answer whose probability counts.
    """

    name = "vqascore"
    version = 1
    measures = (
        Measure("vqascore", "probability of Yes to whether this shows the prompt", "share", 0, 1, True, _SOURCE),
        Measure("vqascore_swapped", "the same for the prompt with attributes exchanged", "share", 0, 1, False, _SOURCE),
        Measure(
            "vqascore_contrast", "as asked minus as exchanged", "", -1, 1, True, "promptlab.analyzer.probes.vqascore"
        ),
    )
    needs: frozenset[Need] = frozenset()
    accelerated = True

    def __init__(self, model: str = MODEL, template: str = TEMPLATE, answer: str = ANSWER) -> None:
        if "{text}" not in template:
            raise ModelError(f"the template {template!r} has no {{text}}, where the prompt goes")
        self._model, self._template, self._answer = model, template, answer

    @cached_property
    def id(self) -> str:
        """See `Probe.id`; the judge's files, the question and the answer are part of it."""
        options = {**identity(self._model), "template": self._template, "answer": self._answer}
        return probe_id(self.name, self.version, options)

    def score(self, samples: Sequence[Sample]) -> Iterator[Score]:
        """Scores, one picture at a time: padding in a batch would change what the model sees."""
        for sample in samples:
            yield from self._judge(sample)

    def _judge(self, sample: Sample) -> Iterator[Score]:
        if not sample.prompt.text.strip():
            for measure in self.measures:
                yield sample.score(self, measure.name, reason="the prompt is empty")
            return
        own = self.probability(sample, sample.prompt.text)
        detail = {"precision": self._opened.precision}
        yield sample.score(self, "vqascore", "", own, detail=detail)
        if sample.prompt.swapped is None:
            for name in ("vqascore_swapped", "vqascore_contrast"):
                yield sample.score(self, name, reason="the prompt has no two attributes to exchange")
            return
        other = self.probability(sample, sample.prompt.swapped)
        yield sample.score(self, "vqascore_swapped", "", other)
        yield sample.score(self, "vqascore_contrast", "", own - other)

    @cached_property
    def _opened(self) -> Judge:
        judge = open_judge(self._model, "AutoModelForImageTextToText")
        if getattr(judge.model.config, "is_encoder_decoder", False):
            raise ModelError(f"{self._model} has an encoder and a decoder: a judge that is a decoder alone is allowed")
        if not getattr(judge.processor, "chat_template", None):
            raise ModelError(f"{self._model} has no chat template: a model tuned to answer is needed")
        return judge

    def probability(self, sample: Sample, text: str) -> float:
        """Probability of the answer to the question about `text`. Raises ModelError."""
        import torch
        from PIL import Image

        judge = self._opened
        # The text is put in whole, not through str.format: it may hold braces.
        question = self._template.replace("{text}", text)
        content = [{"type": "image"}, {"type": "text", "text": question}]
        words = judge.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        inputs = judge.processor(text=[words], images=[Image.fromarray(sample.pixels)], return_tensors="pt")
        answer = judge.processor.tokenizer(self._answer, add_special_tokens=False)["input_ids"]
        tail = torch.tensor([answer])
        length = inputs["input_ids"].shape[1]
        # Everything that has a place for each token grows with the answer: ids, mask, and kinds of token if any.
        for name, value in list(inputs.items()):
            if value.shape[:2] == (1, length) and value.ndim == 2:
                grown = {"input_ids": tail, "attention_mask": torch.ones_like(tail)}.get(name, torch.zeros_like(tail))
                inputs[name] = torch.cat([value, grown.to(value.dtype)], dim=1)
        inputs = inputs.to(judge.device)
        for name, value in inputs.items():
            if value.is_floating_point():
                inputs[name] = value.to(judge.model.dtype)
        with torch.inference_mode():
            logits = judge.model(**inputs).logits[0, -len(answer) - 1 : -1]
        return answer_probability(np.asarray(logits.double().cpu()), answer)


def load(model: str = MODEL, template: str = TEMPLATE, answer: str = ANSWER) -> VqaScore:
    """The probe; see `VqaScore`."""
    return VqaScore(model, template, answer)
