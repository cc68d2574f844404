"""A home for the dashboard to show: drawn studies (faults, details, length), hostile prompts, claims."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import driver
from promptlab.claims import Claim, settle
from promptlab.records import Cell, ContrastEffect, Image, Measure, Phrase, Prompt, Score, Settings
from promptlab.run import run_study
from promptlab.run.options import RunOptions
from promptlab.store import Store, pictures
from promptlab.study.study import parse_study

__all__ = ["CORPUS", "build"]

DRAWN = """
name: drawn
question: What does a drawn world show?
backend: renderer
model: swap=0.2,leak=0.3,neglect=0.1
prompt:
  template: "a photo of {first} and {second}"
  objects:
    first: {noun: "{noun_1}", colour: "{colour_1}"}
    second: {noun: "{noun_2}", colour: "{colour_2}"}
axes:
  pair:
    zip:
      - {noun_1: cup, colour_1: red, noun_2: chair, colour_2: blue}
      - {noun_1: book, colour_1: green, noun_2: house, colour_2: pink}
      - {noun_1: car, colour_1: purple, noun_2: fish, colour_2: black}
  assignment: {swap: [first, second]}
  order: {order: [first, second]}
  guidance_scale: [1, 5, 9]
seeds: 2
probes: [binding, exposure]
contrasts:
  - {name: order, measure: binding.accuracy, axis: order, levels: ["second, first", "first, second"]}
"""
LADDER = """
name: longer
question: Do more words help?
backend: renderer
model: miniature
prompt:
  template: "a photo of {thing} {details}"
  objects:
    thing: {noun: "{noun}", colour: red}
axes:
  noun: [cup, box, fish]
  details:
    ladder: [on a table, in golden light]
    join: " "
    control: true
    match: words
    filler: made with care, just for fun, so very nice
seeds: 2
probes: [exposure]
"""
NEEDLE = """
name: needle
question: Is a thing lost that stands far back?
backend: renderer
model: miniature
prompt: {template: "{thing}", objects: {thing: {noun: "{noun}", colour: red}}}
axes:
  noun: [cup, box, fish]
  length: {tokens: {to: [30, 100], needle: thing, at: [1, 20, 60, 85]}}
exclude: [{length: 30, length_at: [60, 85]}]
seeds: 2
probes: [binding]
"""

_SEEDS = (
    "<script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 1'>",
    '"><svg onload=window.hurt=1>',
    "</figcaption></figure><h1>big</h1>",
    "<a href='javascript:window.hurt=1'>a cup</a>",
    "<style>* {display: none}</style>",
    "![a cup](http://example.com/x.png)",
    "[a cup](javascript:alert(1))",
    "# a heading\n\n- a list\n- **bold** _italic_ `code`",
    "$\\frac{1}{2}$ and $$x^2$$ :red[text] :material/home: :smile:",
    '=HYPERLINK("http://example.com")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "\u202ered cup\u202c and \u2066blue\u2069",
    "a\u0000cup".replace("\u0000", "\u200b"),
    "{{7*7}} ${7*7} <%= 7*7 %> #{7*7}",
    "'; DROP TABLE image; --",
    "../../etc/passwd %2e%2e%2f",
    "a\tcup\rwith\nlines",
    "\U0001f9ff a cup \u0301\u0301\u0301\u0301",
    "&lt;b&gt;cup&lt;/b&gt; &amp;amp;",
    "data:text/html,<script>window.hurt=1</script>",
    "<iframe src=http://example.com></iframe>",
    "<link rel=stylesheet href=http://example.com/x.css>",
    "<math><mtext></p><img src onerror=window.hurt=1>",
    "a" * 400,
    "a cup " * 40,
    "\u05d0\u05d1 cup \u0627\u0644\u0639",
    "<object data=http://example.com/x></object>",
)
_WAYS = (
    "{}",
    "a photo of {}",
    "{} and a blue chair",
    "a red cup, {}",
    "{0} {0}",
    "a 'red' {}",
    'a "red" {}',
    "{}.",
    "({})",
    "\\{}",
)
CORPUS = tuple(way.format(seed) for seed in _SEEDS for way in _WAYS)


def build(home: Path) -> Path:
    """Fill `home`. Returns it."""
    store = Store(home)
    for text in (DRAWN, LADDER, NEEDLE):
        run_study(parse_study(text), store, RunOptions(passports_n=20 if text is DRAWN else 0))
    _hostile(store)
    _claims(store)
    return home


def _hostile(store: Store) -> None:
    """A study whose prompts, levels and phrases are the corpus."""
    with store.open_run("hostile", text="question: '<script>window.hurt = 1</script>'") as run:
        cells = []
        for i, text in enumerate(CORPUS):
            prompt = Prompt(text, (Phrase("thing", text[:9], 0, len(text[:9]), "object"),))
            levels = (("wording", text[:60]), ("guidance_scale", float(i % 2)))
            settings = Settings(guidance_scale=float(i % 2), height=24, width=32)
            cells.append(Cell("hostile", levels, prompt, settings, group=text[:40], backend="fake", model="fake"))
        run.plan(cells, (0,), lambda _: "T0")
        run.add(Measure("brightness", "<b>mean</b> of **all** channels", "0 to 255", 0, 255))
        for i in range(0, len(cells), 32):
            batch = []
            for cell in cells[i : i + 32]:
                pixels = driver.draw(cell, 0)
                file, digest = pictures.save(pixels, store.home, cell.recipe(0))
                batch.append(Image(cell.image_id(0), cell.recipe(0), "ok", None, file, digest, 32, 24, batch_size=4))
            run.add(*batch)
            said = partial(Score, probe="fake", probe_id="fake-1-00000000", measure="brightness")
            run.add(*(said(image.id, value=float(len(image.id))) for image in batch))
    store.publish()


def _claims(store: Store) -> None:
    given = {"source": "x", "analysis": "rarity", "margin": 0.1, "design": "d", "size": "s", "comparator": "c"}
    claims = [
        Claim.model_validate({**given, "id": f"C{i + 1}", "claim": f"It helps <b>{i}</b>", "expects": expects})
        for i, expects in enumerate(("more", "less", "same"))
    ]
    effects = [
        ContrastEffect("s", "c", "p", "p-1-00000000", "m", "", 0.3, 0.2, 0.4, 0.001, n_groups=20, n_pairs=40)
        for _ in claims
    ]
    with store.open_run("claims") as run:
        run.add(*(one.effect for one in settle(claims, effects)))
    store.publish()
