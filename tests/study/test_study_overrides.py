"""Another model, or no such axis: what stays of a study, and what is said of the rest."""

from __future__ import annotations

import pytest

from places import STUDIES
from promptlab.errors import StudyError
from promptlab.study.grid import count
from promptlab.study.study import Study, load_study, parse_study, without_axis

STUDY = STUDIES / "attribute_binding.yaml"


def flagship() -> Study:
    return load_study(STUDY)


def test_the_flagship_without_guidance() -> None:
    study, left_out = without_axis(flagship(), "guidance_scale")
    assert left_out == ("guidance_raises_binding", "more_guidance_still", "guidance_raises_the_clip_contrast")
    assert [c.name for c in study.contrasts] == ["naming_second_first", "a_second_object_interferes"]
    assert study.contrasts[0].where == {"objects": "together"}
    assert list(study.axes) == ["pair", "objects", "assignment", "order"] and len(study.exclude) == 2
    assert flagship().contrasts[1].where == {"objects": "together", "guidance_scale": 5}


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("guidance", "no axis 'guidance' to leave out; there are: pair, .*; did you mean 'guidance_scale'"),
        ("pair", "cannot be left out: "),
    ],
)
def test_what_cannot_be_left_out(axis: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        without_axis(flagship(), axis)
    assert str(caught.value).startswith(f"{STUDY}:")


def test_a_study_of_words_alone_is_left() -> None:
    text = "name: x\nquestion: Why?\nprompt: {template: a cup}\naxes: {guidance_scale: [1, 5]}\nunits: []\n"
    study, left_out = without_axis(parse_study(text), "guidance_scale")
    assert study.axes == {} and left_out == () and count(study) == 1
