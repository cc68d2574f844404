"""Laws of the caption grammar: what a caption says is true of its scene, and its text can be trusted to the letter."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest

from promptlab.miniature import captions as grammar
from promptlab.miniature.captions import LEXICON, Caption, Mention, check_words, describe
from promptlab.miniature.world import COLOURS, NOUNS, Scene, Thing, sample_scene, swap_colours

COLOUR = re.compile(rf"\b({'|'.join(COLOURS)})\b")
NAMES = {noun: (noun, *grammar.SYNONYMS.get(noun, ())) for noun in NOUNS}


@cache
def captions() -> tuple[tuple[Scene, Caption], ...]:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(3000)]
    return tuple((scene, describe(scene, rng)) for scene in scenes)


def blank(text: str) -> str:
    """The text without its colours, and with one article for both."""
    return re.sub(r"\ban\b", "a", COLOUR.sub("#", text))


def span(caption: Caption, mention: Mention) -> str:
    return caption.text[mention.start : mention.end]


def test_articles_are_right() -> None:
    for _, caption in captions():
        for article, word in re.findall(r"\b(an?) (\w+)", caption.text):
            assert (article == "an") == (word[0] in "aeiou"), caption.text


def test_text_is_clean() -> None:
    for _, caption in captions():
        text = caption.text
        assert text == text.strip().lower()
        assert not re.search(r"  | [,.]|,[^ ]|,\s*,|[^a-z,. ]", text), text


def test_the_same_seed_gives_the_same_caption() -> None:
    for seed in range(50):
        scene = sample_scene(np.random.default_rng(seed))
        assert describe(scene, np.random.default_rng(seed)) == describe(scene, np.random.default_rng(seed))


@pytest.mark.parametrize("length", ["any", "short", "long"])
def test_swapped_colours_change_nothing_but_the_colour_words(length: Literal["any", "short", "long"]) -> None:
    rng = np.random.default_rng(1)
    for seed in range(300):
        scene = sample_scene(rng, count=2 + seed % 2)
        first, second = scene.things[:2]
        one = describe(scene, np.random.default_rng(seed), length=length)
        other = describe(swap_colours(scene), np.random.default_rng(seed), length=length)
        assert blank(one.text) == blank(other.text)
        swapped = {first.noun: second.colour, second.noun: first.colour}
        for a, b in zip(one.mentioned, other.mentioned, strict=True):
            assert (a.noun, a.size, a.colour is None) == (b.noun, b.size, b.colour is None)
            if b.colour is not None:
                assert b.colour == swapped.get(b.noun, a.colour)
            assert COLOUR.findall(span(other, b)) == ([b.colour] if b.colour else [])


def test_mentions_point_at_their_words() -> None:
    for scene, caption in captions():
        truth = {t.noun: t for t in scene.things}
        assert {m.noun for m in caption.mentioned} == set(truth)
        for mention in caption.mentioned:
            words = span(caption, mention).split()
            assert any(name in words for name in NAMES[mention.noun])
            assert COLOUR.findall(" ".join(words)) == ([mention.colour] if mention.colour else [])
            assert mention.colour in (None, truth[mention.noun].colour)
            assert mention.size in (None, truth[mention.noun].size)
            if mention.size:
                assert set(words) & set(grammar.SIZE_WORDS[mention.size])
        spans = [(m.start, m.end) for m in caption.mentioned]
        assert all(a[1] < b[0] for a, b in pairwise(spans))
        outside = list(caption.text)
        for start, end in spans:
            outside[start:end] = "_" * (end - start)
        assert not set(re.findall(r"[a-z]+", "".join(outside))) & (
            {n for ns in NAMES.values() for n in ns} | {*COLOURS}
        )


def test_stated_relations_are_true_in_both_orders() -> None:
    said: Counter[tuple[str, bool]] = Counter()
    phrases = {p: r for r, ps in grammar.RELATION_PHRASES.items() for p in ps}
    joined = "|".join(sorted(phrases, key=len, reverse=True))
    for scene, caption in captions():
        if len(scene.things) != 2:
            continue
        place = {t.noun: (t.x, t.y) for t in scene.things}
        a, b = caption.mentioned[:2]
        ahead = re.search(rf"(?:^|, )({joined}) $", caption.text[: a.start])
        between = re.search(rf"(?:^|, |^ is | )({joined}) $", caption.text[a.end : b.start])
        if ahead:
            phrase, (x1, y1), (x2, y2) = ahead[1], place[b.noun], place[a.noun]
        elif between:
            phrase, (x1, y1), (x2, y2) = between[1], place[a.noun], place[b.noun]
        else:
            continue
        relation = phrases[phrase]
        said[relation, a.noun == scene.things[0].noun] += 1
        true = {"left of": x1 < x2, "right of": x1 > x2, "above": y1 < y2, "below": y1 > y2, "next to": True}
        assert true[relation], caption.text
    assert len(said) == 10 and min(said.values()) >= 15, said


def test_restated_places_are_true() -> None:
    seen = 0
    for scene, caption in captions():
        for mention in caption.mentioned:
            found = re.match(r" is (?:on|at) the (left|right|top|bottom)\b(?! of)", caption.text[mention.end :])
            if found:
                seen += 1
                (thing,) = (t for t in scene.things if t.noun == mention.noun)
                ends = {
                    "left": thing.x == min(t.x for t in scene.things),
                    "right": thing.x == max(t.x for t in scene.things),
                    "top": thing.y == min(t.y for t in scene.things),
                    "bottom": thing.y == max(t.y for t in scene.things),
                }
                assert ends[found[1]], caption.text
    assert seen > 30


def test_settings_styles_and_poses_are_never_untrue() -> None:
    settings = {p: s for s, ps in grammar.SETTING_PHRASES.items() for p in ps}
    styles = {"golden": "golden light", "dark": "dark", "blurry": "blurry", "sketch": "sketch", "glossy": "glossy"}
    poses = {"running": "running", "runs": "running", "asleep": "sleeping", "stands": "standing"}
    for scene, caption in captions():
        padded = f" {caption.text} "
        for phrase, setting in settings.items():
            assert setting == scene.setting or not re.search(rf" {phrase}[ ,.]", padded), caption.text
        words = set(re.findall(r"[a-z]+", caption.text))
        assert all(scene.style == styles[w] for w in words & set(styles))
        assert "flat" not in words or scene.style == "flat"
        assert all(poses[w] in {t.pose for t in scene.things} for w in words & set(poses))
        if scene.style == "sketch":
            assert not words & {"photo", "photograph", "painting"}


def test_fillers_draw_nothing() -> None:
    drawn = {*COLOURS, *(n for ns in NAMES.values() for n in ns), "light", "dark", "night", "snow", "grass", "table"}
    drawn |= {"left", "right", "above", "below", "small", "large", "big", "flat", "glossy", "sketch", "blurry", "plain"}
    assert len(set(grammar.FILLERS)) == len(grammar.FILLERS) >= 40
    assert not drawn & {w for f in grammar.FILLERS for w in f.split()}
    n = len(grammar.FILLERS)
    assert all(n % k for k in range(2, n)), "the walk through the fillers needs a prime number of them"


def test_what_may_stay_unsaid_sometimes_does() -> None:
    mentions = [m for _, c in captions() for m in c.mentioned]
    dropped = sum(m.colour is None for m in mentions) / len(mentions)
    assert 0.09 < dropped < 0.15
    firsts = {t.noun: t for s, _ in captions() for t in s.things}
    assert set(firsts) == set(NOUNS)
    extreme = [
        (m.size is not None)
        for s, c in captions()
        for t in s.things
        for m in c.mentioned[: len(s.things)]
        if t.noun == m.noun and t.size != "medium"
    ]
    assert 0.42 < sum(extreme) / len(extreme) < 0.58


def test_lexicon_holds_every_word_and_every_word_is_used() -> None:
    said = {w for _, c in captions() for w in re.findall(r"[a-z]+", c.text)}
    assert said <= LEXICON
    assert not LEXICON - said, "words that 3,000 captions never say"
    assert all(check_words(c.text) == () for _, c in captions())


def test_foreign_words_are_named_once_and_in_order() -> None:
    assert check_words("A Unicorn, on red grass; the unicorn's friend: (dragon:1.2)!") == (
        "unicorn",
        "unicorn's",
        "friend",
        "dragon",
        "1",
        "2",
    )
    assert check_words("") == ()


def test_lengths_and_positions_cover_the_text_encoder() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    from promptlab.miniature.tokenizer import merges, vocabulary

    model = models.BPE(vocab=vocabulary(), merges=list(merges()), end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    lengths, slots = [], set()
    for _, caption in captions():
        encoding = tokenizer.encode(caption.text)
        lengths.append(len(encoding.ids))
        for mention in caption.mentioned:
            # One slot later, because the text encoder's first slot is the mark of the start.
            slots |= {i + 1 for i, (a, b) in enumerate(encoding.offsets) if a >= mention.start and b <= mention.end}
    assert set(range(1, 76)) <= slots
    short, over = np.mean(np.array(lengths) < 15), np.mean(np.array(lengths) > 75)
    assert 0.45 < short < 0.62
    assert 0.01 < over < 0.1
    assert min(lengths) <= 2
    assert np.histogram(lengths, bins=[15, 25, 35, 45, 55, 65, 76])[0].min() > 60


def test_short_and_long() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        scene = sample_scene(rng)
        assert len(describe(scene, rng, length="short").text.split()) <= 24
        assert len(describe(scene, rng, length="long").text.split()) >= 15


def test_scenes_of_any_number_of_things() -> None:
    thing = Thing("cup", "red")
    many = Scene(tuple(replace(thing, noun=n) for n in NOUNS[:6]))
    assert len(describe(many, np.random.default_rng(0), length="short").mentioned) == 6
    with pytest.raises(ValueError, match="without things"):
        describe(Scene(()), np.random.default_rng(0))
