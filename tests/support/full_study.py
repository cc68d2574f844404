"""A study that uses every part of the language, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from promptlab.errors import StudyError
from promptlab.study.study import parse_study

FULL = """\
name: everything
question: Does every part of a study file work?
model: miniature
backend: diffusion
prompt:
  template: "{lead}, {first} and {second}, {details}"
  objects:
    first: {noun: "{noun}", colour: "{colour}", size: large}
    second: {noun: chair, colour: blue, article: the}
  phrases:
    lead: "at {time}"
  alone: "{lead}, {object}"
  allow_empty: false
axes:
  pair:
    zip:
      - {noun: cup, colour: red}
      - {noun: car, colour: green}
  time: [night, noon]
  details:
    ladder: [shiny, on a table]
    control: true
    match: words
  order: {order: [first, second]}
  assignment: {swap: [first, second]}
  objects: {alone: [first, second]}
  guidance_scale: {range: {start: 0, stop: 4, step: 2}}
  num_inference_steps: [10, 20]
exclude:
  - {objects: [first, second], order: "second, first"}
  - {guidance_scale: 0, num_inference_steps: 20}
units: [pair]
seeds: [0, 7, 11]
settings:
  height: 64
  width: 128
  scheduler: DDIMScheduler
  negative_prompt: blurry
probes:
  - binding
  - {name: clip_contrast, prefix: seen}
contrasts:
  - name: guidance_helps
    measure: binding.correct
    axis: guidance_scale
    levels: [4, 0]
    where: {objects: together}
    margin: 0.05
    family: confirmatory
"""


def fails(text: str) -> str:
    with pytest.raises(StudyError) as caught:
        parse_study(text, "x.yaml")
    return str(caught.value)
