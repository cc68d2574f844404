"""A first study to start from: complete, valid, and explained line by line."""

from __future__ import annotations

from promptlab.errors import StudyError
from promptlab.study.model import check_name
from promptlab.study.strict_yaml import Mistake

__all__ = ["commented_study"]

_TEXT = """\
# yaml-language-server: $schema=./study.schema.json
# $schema: ./study.schema.json
#
# A study: a prompt made of parts, axes that vary them, and the comparisons that are settled beforehand.
#   promptlab plan NAME.yaml      what it will make and how long it takes, without making it
#   promptlab run NAME.yaml       makes what is missing, measures, answers
# Text that looks like something else (12:30, 007, true) goes in quotes.

name: "NAME"
question: What does guidance do to a red cup and a blue chair?      # one sentence that the contrasts answer

model: miniature            # its name, or a folder with a diffusers pipeline

prompt:
  template: "a photo of {first} and {second}, {light}"              # slots in braces; a and an come by themselves
  objects:                  # a noun and any attributes, which stand before it in this order
    first: {noun: cup, colour: "{first_colour}"}                    # a slot here is filled by the axis of that name
    second: {noun: chair, colour: blue}
  phrases:                  # named pieces of text
    light: in golden light

axes:                       # every combination of levels is a cell of the grid
  first_colour: [red, green, yellow]      # plain levels of a slot: three prompt families, the unit of inference
  assignment: {swap: [first, second]}     # as_written, and with the two colours exchanged
  guidance_scale: [1, 3, 5, 7.5]          # a setting; also {range: {start: 0, stop: 8, step: 2}}
  # pair:                                 # several slots that vary together
  #   zip:
  #     - {first_noun: cup, first_colour: red}
  #     - {first_noun: car, first_colour: green}
  # order: {order: [first, second]}       # every order of what stands in these slots
  # place: {position: {of: light, among: [first, second, light]}}
  # wording: {paraphrase: [a photo of, a picture of]}               # {wording} in the template; no new prompt family
  # details: {ladder: [shiny, on a table], control: true}           # {details} in the template; filler as control
  # length: {tokens: {to: [20, 77], needle: first}}                 # padded to so many tokens
  # objects: {alone: [first, second]}     # together, and each object alone
  # text: {prompts: list.txt}             # the prompts of a published list, in the slot {text} of the template

# exclude:                                # combinations to leave out
#   - {assignment: swapped, guidance_scale: [3, 7.5]}

seeds: 2                    # 2 means seeds 0 and 1; also a list. Every cell gets the same seeds

settings: {num_inference_steps: 25}       # in diffusers' spelling; what is not given keeps its default

probes: [binding, clip_similarity, exposure]

contrasts:                  # mean(first level) - mean(second), paired in each prompt family and seed
  - name: guidance_raises_binding
    measure: binding.correct              # probe.measure
    axis: guidance_scale
    levels: [5, 1]
    family: confirmatory                  # or exploratory
    says: guidance of 5 in place of 1     # for the answer in words: "... raises correct by 12 points [5, 19]."
    # where: {assignment: as_written}     # only these cells
    # margin: 0.05                        # differences smaller than this count as none
"""


def commented_study(name: str) -> str:
    """The text of a commented study called `name`. Raises StudyError for a name that no study may have."""
    try:
        check_name(name)
    except Mistake as mistake:
        raise StudyError(f"name of the study: {mistake}") from None
    return _TEXT.replace("NAME", name)
