"""A study that the renderer draws: two prompts with two coloured objects each, as written and exchanged."""

from __future__ import annotations

DRAWN = """\
name: drawn
question: Is what the renderer draws found again?
backend: renderer
model: "{model}"
prompt:
  template: "a photo of {{first}} and {{second}}"
  objects:
    first: {{noun: "{{a}}", colour: "{{x}}"}}
    second: {{noun: "{{b}}", colour: "{{y}}"}}
axes:
  pair: {{zip: [{{a: cup, x: red, b: chair, y: blue}}, {{a: car, x: green, b: hat, y: pink}}]}}
  assignment: {{swap: [first, second]}}
  guidance_scale: {scales}
seeds: {seeds}
probes: [{probes}]
"""
"""To be formatted with model, scales, seeds and probes; contrasts may follow."""
