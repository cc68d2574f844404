"""Wrong study files: only clear errors, each with its place."""

from __future__ import annotations

import random

from full_study import FULL, fails
from places import STUDIES
from promptlab.errors import StudyError
from promptlab.study.grid import count, expand
from promptlab.study.study import commented_study, parse_study

SINGLE = [
    ("name: everything", "name: Everything", "small letters"),
    ("name: everything", "name: con", "Windows"),
    ("name: everything", "name: 12", "put it in quotes"),
    ("name: everything", "nam: everything", "did you mean 'name'?"),
    ("name: everything", "name: [a, b", "not YAML"),
    ("question: Does every part", "question: 'Does every part", "not YAML"),
    ("question: Does every part of a study file work?", 'question: "  "', "not blank"),
    ("question: Does every part of a study file work?", "question: 12:30", "versions of YAML disagree"),
    ("model: miniature", "model: ''", "at least 1 characters"),
    ("model: miniature", "modle: miniature", "did you mean 'model'?"),
    ("model: miniature", "model: hf_abcdefghijklmnopqrstuvwxyz", "access key"),
    ("{first} and {second}", "{frist} and {second}", "did you mean 'first'?"),
    ("{first} and {second}", "{first and {second}", "stands alone"),
    ("{first} and {second}", "a {first} and {second}", "brings its own article"),
    ("{first} and {second}", "{first} and {first} {second}", "stands twice"),
    ('first: {noun: "{noun}"', 'first: {noun: "{noum}"', "did you mean 'noun'?"),
    ('first: {noun: "{noun}"', "first: {noun: 5", "allowed: text"),
    ("size: large", "size: [large]", "allowed: text"),
    ("size: large", "Size: large", "is no name"),
    ("article: the", "article: teh", "did you mean 'the'?"),
    ('lead: "at {time}"', 'lead: "at {tim}"', "did you mean 'time'?"),
    ('lead: "at {time}"', 'object: "at {time}"', "slot of `alone`"),
    ('alone: "{lead}, {object}"', 'alone: "{lead}"', "lacks the slot {object}"),
    ("allow_empty: false", "allow_empty: no", "true or false"),
    ("- {noun: car, colour: green}", "- {noun: car, colou: green}", "did you mean 'colour'?"),
    ("- {noun: car, colour: green}", "- {noun: car}", "lacks 'colour'"),
    ("- {noun: car, colour: green}", "- {noun: car, colour: true}", 'write "true"'),
    ("- {noun: car, colour: green}", "- {noun: car, colour: green, colour: red}", "stands twice"),
    ("time: [night, noon]", "time: [night, night]", "level 'night' stands twice"),
    ("time: [night, noon]", "time: night", "allowed: a list"),
    ("time: [night, noon]", "time: {rnage: {start: 0}}", "did you mean 'range'?"),
    ("match: words", "match: word", "did you mean 'words'?"),
    ("control: true", "control: 1", "true or false"),
    ("control: true", "contrl: true", "did you mean 'control'?"),
    ("order: {order: [first, second]}", "wording: {paraphrase: [a, b]}", "nothing in the prompt uses {wording}"),
    ("time: [night, noon]", "time: {paraphrase: [night, night]}", "level 'night' stands twice"),
    ("order: {order: [first, second]}", "order: {order: [first, secnd]}", "did you mean 'second'?"),
    ("order: {order: [first, second]}", "order: {order: [first, first]}", "stands twice"),
    ("order: {order: [first, second]}", "seed: {order: [first, second]}", "there is the key seeds"),
    ("assignment: {swap: [first, second]}", "assignment: {swap: [first, lead]}", "allowed: first, second"),
    ("assignment: {swap: [first, second]}", "assignment: {swap: [first]}", "at least 2"),
    ("step: 2", "step: -2", "never leads"),
    ("step: 2", "steep: 2", "did you mean 'step'?"),
    ("start: 0, stop: 4", "start: -2, stop: 4", "at least 0"),
    ("num_inference_steps: [10, 20]", "num_inference_steps: [10, 2000]", "at most 1000"),
    ("num_inference_steps: [10, 20]", "num_inference_steps: [10, 20.5]", "a whole number"),
    ("num_inference_steps: [10, 20]", "num_inference_step: [10, 20]", "did you mean 'num_inference_steps'?"),
    ("num_inference_steps: [10, 20]", "steps: [10, 20]", "did you mean 'num_inference_steps'?"),
    ('order: "second, first"}', 'order: "second,first"}', "did you mean 'second, first'?"),
    ('order: "second, first"}', 'oder: "second, first"}', "did you mean 'order'?"),
    ("{guidance_scale: 0,", "{guidance_scale: 1,", "is no level of 'guidance_scale'"),
    ("units: [pair]", "units: [pear]", "did you mean 'pair'?"),
    ("units: [pair]", "units: [guidance_scale]", "nothing pairs across it"),
    ("seeds: [0, 7, 11]", "seeds: [0, 7, 7]", "stands twice"),
    ("seeds: [0, 7, 11]", "seeds: [0, -7]", "at least 0"),
    ("seeds: [0, 7, 11]", "seeds: 0", "allowed: 1 to 1000"),
    ("seeds: [0, 7, 11]", "seeds: yes", "a list of seeds"),
    ("seeds: [0, 7, 11]", "sedes: [0, 7, 11]", "did you mean 'seeds'?"),
    ("height: 64", "height: 65", "a multiple of 8"),
    ("height: 64", "height: 32", "at least 64"),
    ("height: 64", 'height: "64"', "a whole number"),
    ("height: 64", "hieght: 64", "did you mean 'height'?"),
    ("height: 64", "guidance_scale: 5", "keep one"),
    ("width: 128", "\twidth: 128", "not YAML"),
    ("scheduler: DDIMScheduler", "scheduler: 5", "allowed: text"),
    ("- binding", "- clip_contrast", "stands twice"),
    ("- {name: clip_contrast, prefix: seen}", "- {nam: clip_contrast}", "'name' is missing"),
    ("- binding", "- bindng", "did you mean 'binding'?"),
    ("- {name: clip_contrast, prefix: seen}", "- {name: clip_contrst, prefix: seen}", "did you mean 'clip_contrast'?"),
    ("- {name: clip_contrast, prefix: seen}", "- {name: clip_contrast, prefx: seen}", "did you mean 'prefix'?"),
    ("- {name: clip_contrast, prefix: seen}", "- {name: ablation, pictures: 0}", "at least 1"),
    ("- {name: clip_contrast, prefix: seen}", "- {name: ablation, pictures: many}", "cannot take these options"),
    ("measure: binding.correct", "measure: binding.correct\n    target: frist", "did you mean 'first'?"),
    ("measure: binding.correct", "measure: binding.correct\n    target: first > second", "no object or phrase"),
    ("measure: binding.correct", "measure: binding.corect", "did you mean 'correct'?"),
    ("measure: binding.correct", "measure: binding.saturation", "no measure 'saturation'; allowed: correct, swap"),
    ("measure: binding.correct", "measure: bindng.correct", "did you mean 'binding'?"),
    ("measure: binding.correct", "measure: binding", "as in binding.correct"),
    ("axis: guidance_scale", "axis: guidence_scale", "did you mean 'guidance_scale'?"),
    ("levels: [4, 0]", "levels: [4, 5]", "5 is no level"),
    ("levels: [4, 0]", "levels: [4, 4]", "the same"),
    ("levels: [4, 0]", "levels: [4]", "at least 2"),
    ("where: {objects: together}", "where: {objcts: together}", "did you mean 'objects'?"),
    ("where: {objects: together}", "where: {objects: togehter}", "did you mean 'together'?"),
    ("margin: 0.05", "margin: 0", "more than 0"),
    ("margin: 0.05", "margin: 5 %", "a number"),
    ("family: confirmatory", "family: confirmatry", "did you mean 'confirmatory'?"),
    ("family: confirmatory", "famly: confirmatory", "did you mean 'family'?"),
]


def test_single_mistakes_are_found_in_their_line() -> None:
    right = 0
    for good, bad, message in SINGLE:
        assert FULL.count(good) >= 1, good
        line = FULL[: FULL.index(good)].count("\n") + 1
        told = fails(FULL.replace(good, bad, 1))
        assert message in told, (bad, told)
        right += told.startswith(f"x.yaml:{line}:")
    assert right / len(SINGLE) >= 0.95


def test_one_axis_sets_the_length() -> None:
    both = "time: [night, noon]\n  long: {tokens: {to: 40}}\n  longer: {tokens: {to: 60}}"
    message = fails(FULL.replace("time: [night, noon]", both, 1))
    assert "'longer' and 'long' both set the length of the prompt: keep one of them" in message


def test_the_line_is_shown() -> None:
    told = fails(FULL.replace("height: 64", "hieght: 64"))
    assert told.splitlines()[1:] == ["   35 |   hieght: 64", "      |   ^"]
    assert fails("") == (
        "x.yaml:1:1: given nothing; allowed: a mapping with name, question and prompt (`promptlab init`)"
    )


def test_several_mistakes_are_told_at_once() -> None:
    told = fails("name: A\nquestion: ''\nprompt: {template: c}\nsettings: {height: 1}\nseeds: 0\n")
    places = [line.split(": ")[0] for line in told.splitlines() if line.startswith("x.yaml")]
    assert places == ["x.yaml:1:7", "x.yaml:2:11", "x.yaml:4:20", "x.yaml:5:8"]


def test_keys_are_never_shown() -> None:
    told = fails("name: a\nquestion: b\nprompt: {template: c}\nsettings: {negative_prompt: sk-abcdefghijklmnopqrst}\n")
    assert told.startswith("x.yaml:4:29: this looks like an access key")
    assert "sk-" not in told


def test_unicode_passes_through() -> None:
    for word in ("🦄", "كأس", "日本のカップ", "e\u0301", "a\u200db"):
        study = parse_study(f'name: a\nquestion: "{word}"\nprompt: {{template: "a {word}"}}\n'.encode())
        assert next(iter(expand(study))).prompt.text == f"a {word}"


def mutations(number: int) -> list[str]:
    rng = random.Random(20261123)
    bases = [FULL, commented_study("a"), (STUDIES / "smoke.yaml").read_text(encoding="utf-8")]
    scraps = [
        "{",
        "}",
        "[",
        "]",
        ":",
        "- ",
        "'",
        '"',
        "\n",
        "\t",
        "&a ",
        "*a",
        "!!int ",
        "|",
        ">",
        "#",
        "{x}",
        "{{",
        "0",
    ]
    scraps += [
        "null",
        "true",
        "1e9",
        "-1",
        "12:30",
        "\ud83d",
        "🦄",
        "\u202e",
        "\x00",
        "\x85",
        "1e400",
        "9" * 400,
        "<<: ",
    ]
    found = []
    for _ in range(number):
        text = rng.choice(bases)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
            lines = text.split("\n")
            i, k = rng.randrange(len(lines)), rng.randrange(len(lines))
            kind = rng.randrange(7)
            if kind == 0:
                text = text[:at] + rng.choice(scraps) + text[at:]
            elif kind == 1:
                text = text[:at] + text[min(to, at + rng.randrange(1, 12)) :]
            elif kind == 2:
                lines[i], lines[k] = lines[k], lines[i]
                text = "\n".join(lines)
            elif kind == 3:
                text = "\n".join([*lines[:i], *lines[i + 1 :]])
            elif kind == 4:
                text = "\n".join([*lines[:i], lines[k], *lines[i:]])
            elif kind == 5:
                lines[i] = " " * rng.randrange(6) + lines[i].strip()
                text = "\n".join(lines)
            else:
                words = text.split(" ")
                j = rng.randrange(len(words))
                words[j] = rng.choice([*scraps, *words])
                text = " ".join(words)
            text = text or " "
        found.append(text)
    return found


def test_two_thousand_mutations_end_in_a_study_or_a_place() -> None:
    outcomes = {"study": 0, "error": 0}
    for text in mutations(2000):
        raw = text.encode("utf-8", "surrogatepass")
        try:
            study = parse_study(raw, "x.yaml")
            if count(study) <= 50:
                for cell in expand(study):
                    assert cell.prompt.text or study.prompt.allow_empty
            outcomes["study"] += 1
        except StudyError as error:
            head = str(error).split(": ", 1)[0].split(":")
            assert head[0] == "x.yaml", error
            assert 1 <= int(head[1]) <= text.count("\n") + text.count("\x85") + 1
            assert int(head[2]) >= 1
            outcomes["error"] += 1
    assert min(outcomes.values()) > 200


ASKED = """\
name: asked
question: Whose scores count?
prompt: {template: "{lead} {first} and {second}", phrases: {lead: a photo of},
  objects: {first: {noun: cup, colour: red}, second: {noun: chair, colour: blue}}}
axes: {guidance_scale: [1, 5]}
probes: [binding, clip_phrases, ablation, padding]
contrasts: [{name: more, measure: MEASURE, axis: guidance_scale, levels: [5, 1], target: TARGET}]
"""


def test_targets_are_what_scores_are_about() -> None:
    def asked(measure: str, target: str) -> str:
        return ASKED.replace("MEASURE", measure).replace("TARGET", target)

    for measure, target in (
        ("binding.noun", "second"),
        ("clip_phrases.phrase_cosine", "lead"),
        ("ablation.ablation_loss", "first > second"),
        ("ablation.ablation_change", "first > elsewhere"),
        ("padding.part_change", "padding"),
        ("padding.part_loss", "words > first"),
    ):
        assert parse_study(asked(measure, target)).contrasts[0].target == target
    for measure, target in (("binding.noun", "padding"), ("padding.part_loss", "words > frist")):
        assert "x.yaml:7:" in (said := fails(asked(measure, target))) and "allowed: first, second, lead" in said
