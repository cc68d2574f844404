"""Strict YAML: what is read, what is refused, and whether the place is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.errors import StudyError
from promptlab.study.strict_yaml import MAX_BYTES, Place, parse, read, visible


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("+7", 7),
        ("0", 0),
        ("0.25", 0.25),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("3D", "3D"),
        ("e5", "e5"),
        ("'12:30'", "12:30"),
        ('"007"', "007"),
        ("'true'", "true"),
        ("🦄 كأس", "🦄 كأس"),
        ('"\\U0001F984"', "🦄"),
        ("|\n    a\n    b\n", "a\nb\n"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    data = parse(f"x: {text}").data
    assert data == {"x": value}
    assert type(data["x"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\nb: 0123\n", 2, 4, 'as text, write "0123"'),
        ("a: 12:30", 1, 4, 'as text, write "12:30"'),
        ("a: 16:9", 1, 4, 'as text, write "16:9"'),
        ("a: 1_000", 1, 4, "versions of YAML disagree"),
        ("a: 0x1F", 1, 4, "versions of YAML disagree"),
        ("a: 0o17", 1, 4, "versions of YAML disagree"),
        ("a: .inf", 1, 4, "not a finite number"),
        ("a: [1, -.NaN]", 1, 8, "not a finite number"),
        ("a: 1e999", 1, 4, "too large"),
        ("a: " + "9" * 5000, 1, 4, "too large"),
        ("a: 1\nb:\n  c: 2\n  c: 3\n", 4, 3, "key 'c' stands twice, first in line 3"),
        ("a: 1\n'a': 2", 2, 1, "stands twice"),
        ("a: !!str 1", 1, 4, "tag"),
        ("a: !!python/object/apply:os.system [ls]", 1, 4, "tag"),
        ("a: {<<: {b: 1}}", 1, 5, "merge key"),
        ("[a]: 1", 1, 1, "cannot be a key"),
        ("? {a: b}\n: 1", 1, 3, "cannot be a key"),
        ("a: &x [*x]", 1, 4, "an alias contains itself"),
        ("a: *nowhere", 1, 4, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, 1, "expected a single document"),
        ("a: [1, 2\nb: 3\nc: 4\n", 1, 4, "not YAML"),
        ("a: 'open\nb: 3\n", 1, 4, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, 1, "not YAML"),
        ("a: 1\n b: 2\n", 2, 3, "not YAML"),
        ("a: \x07", 1, 4, "character 0x7 is not allowed"),
        ('a: "\\ud83d"', 1, 4, "lone surrogate"),
        ('"\\udc00": 1', 1, 1, "lone surrogate"),
        ('a: "\\UFFFFFFFF"', 1, 7, "not YAML"),
        ("a: 🦄\nb: \ud800", 2, 4, "lone surrogate"),
        ("a: " + "[" * 50 + "]" * 50, 1, 43, "nested deeper than 40"),
        ("🦄: 1\n🦄: 2", 2, 1, "stands twice"),
    ],
)
def test_refused_with_place(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse(text, "x.yaml")
    assert str(caught.value).startswith(f"x.yaml:{line}:{column}: ")
    assert message in str(caught.value)


def test_alias_bomb_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 8)]
    with pytest.raises(StudyError, match="aliases expand more than 100 times"):
        parse("\n".join(lines))
    with pytest.raises(StudyError, match="more than 100 aliases"):
        parse("a: &a 1\nb: [" + ", ".join(["*a"] * 101) + "]")


def test_aliases_within_reason_are_copies() -> None:
    data = parse("a: &a [1, 2]\nb: *a\n").data
    assert data == {"a": [1, 2], "b": [1, 2]}
    assert data["a"] is not data["b"]


def test_too_many_values_and_bytes() -> None:
    with pytest.raises(StudyError, match="over 1,000 kB"):
        parse(b"a" * (MAX_BYTES + 1))


def test_places_of_values_and_keys() -> None:
    document = parse("\ufeffa: 1\r\nb:\r\n  - {c: 🦄, d: x}\r\n", "x.yaml")
    assert document.data == {"a": 1, "b": [{"c": "🦄", "d": "x"}]}
    assert document.place(("a",)) == Place(1, 4)
    assert document.place(("b", 0, "d")) == Place(3, 15)
    assert document.place(("b", 0, "d"), key=True) == Place(3, 12)
    assert document.place(("b", 0, "nothing", 5)) == Place(3, 5)
    assert str(document.error(("b", 0, "d"), "no")) == (
        "x.yaml:3:15: no\n    3 |   - {c: 🦄, d: x}\n      |               ^"
    )


def test_line_breaks_of_yaml_that_editors_do_not_count() -> None:
    assert parse("a: 'x\u2028y'\nb: 1").place(("b",)) == Place(2, 4)


def test_messages_escape_what_could_mislead() -> None:
    error = parse("a: '\u202egnp'").error(("a",), "no")
    assert "\u202e" not in str(error)
    assert "\\u202e" in str(error)
    assert visible("a\x00b\u202ec" + "d" * 300, 20) == "a\\u0000b\\u202ecdd..."


def test_files(tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text("a: 1")
    with pytest.raises(StudyError, match=r"smok\.yaml:1:1: there is no such file; did you mean 'smoke\.yaml'\?"):
        read(tmp_path / "smok.yaml")
    with pytest.raises(StudyError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(StudyError, match="cannot be read"):
        read("a\x00b")
    bad = tmp_path / "latin.yaml"
    bad.write_bytes("a: 1\nb: café\n".encode("latin-1"))
    with pytest.raises(StudyError, match=r"latin\.yaml:2:7: byte 0xe9 is not UTF-8"):
        read(bad)
    bad.write_bytes(b"a: \xed\xa0\xbd")
    with pytest.raises(StudyError, match=r":1:4: byte 0xed is not UTF-8"):
        read(bad)
    bad.write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(StudyError, match=r":1:1: byte 0xff is not UTF-8"):
        read(bad)
    bad.write_bytes(b" " * (MAX_BYTES + 5))
    with pytest.raises(StudyError, match="over 1,000 kB"):
        read(bad)
