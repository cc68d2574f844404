"""The journal: whole, torn, flipped, old, and free of secrets."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from places import GOLDEN as GOLDEN_HOME
from promptlab.errors import DiskError, StoreError
from promptlab.store import journal as module
from promptlab.store.home import redact, secrets
from promptlab.store.journal import FORMAT, Journal, read_journal

GOLDEN = GOLDEN_HOME / "runs" / "golden" / "20260101T000000.000000-000000.jsonl"

TEXTS = [
    "a red cup",
    "🏆 é ß",
    "كأس أحمر",
    "\u202eright to left",
    'nul \0, tab \t, line \n, quote " \\',
    "\u2028 \U0010ffff",
]


def fill(path: Path, n: int = 20) -> list[dict[str, object]]:
    records = [{"i": i, "text": TEXTS[i % len(TEXTS)], "value": i / 7, "none": None} for i in range(n)]
    with Journal(path) as journal:
        journal.append(("image", record) for record in records[: n // 2])
        for record in records[n // 2 :]:
            journal.append([("image", record)])
    return records


def records_of(path: Path) -> list[dict[str, object]]:
    return [line.record for line in read_journal(path).lines]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "study" / "run.jsonl"
    records = fill(path)
    reading = read_journal(path)
    assert [line.record for line in reading.lines] == records
    assert [line.n for line in reading.lines] == list(range(20))
    assert (reading.damage, reading.torn, reading.line, reading.n) == ([], 0, 20, 20)
    assert reading.offset == path.stat().st_size
    parsed = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
    assert parsed[3]["v"] == FORMAT and parsed[3]["record"] == records[3]


@settings(max_examples=50, deadline=None)
@given(some.lists(some.text(some.characters(exclude_categories=["Cs"])), max_size=5))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "run.jsonl"
    with Journal(path) as journal:
        journal.append([("measure", {"texts": texts, **{text: text for text in texts}})])
    assert records_of(path) == [{"texts": texts, **{text: text for text in texts}}]


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path) as journal:
        journal.append([("image", {"i": 0})])
        first = read_journal(path)
        journal.append([("image", {"i": 1}), ("score", {"i": 2})])
        later = read_journal(path, first, kinds=["image"])
        assert [(line.n, line.kind, line.record) for line in later.lines] == [(1, "image", {"i": 1}), (2, "score", {})]
        assert read_journal(path, stop=first.offset).lines == first.lines


def test_a_batch_is_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "run.jsonl") as journal:
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        journal.append(("image", {"i": i}) for i in range(16))
        assert len(synced) == 1
        journal.append([])
        assert len(synced) == 1


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_end_is_dropped_then_repaired(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.jsonl"
    records = fill(path)
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    whole = 20 if cut == 1 else 19  # without its newline alone, the last record is whole
    reading = read_journal(path)
    assert [line.record for line in reading.lines] == records[:whole]
    assert reading.damage == [] and reading.torn > 0
    with Journal(path) as journal:
        journal.append([("image", {"i": "next"})])
    assert records_of(path) == [*records[:whole], {"i": "next"}]
    assert read_journal(path).damage == [] and read_journal(path).torn == 0


def test_200_flips_and_truncations(tmp_path: Path) -> None:
    """Every record but the hit ones is recovered, none is changed, and what is lost is counted."""
    rng = random.Random(1)
    path = tmp_path / "run.jsonl"
    records = fill(path)
    whole = path.read_bytes()
    for trial in range(200):
        data = bytearray(whole)
        if trial % 4 == 3:
            keep = rng.randrange(len(data))
            del data[keep:]
            expected = whole[:keep].count(b"\n") + (whole[keep : keep + 1] == b"\n")
            path.write_bytes(data)
            assert records_of(path) == records[:expected]
            continue
        flips = rng.choice([1, 1, 3])
        hit = set()
        for _ in range(flips):
            place = rng.randrange(len(data))
            data[place] ^= 1 << rng.randrange(8)
            if whole[place] != 10:
                hit.add(whole[:place].count(b"\n"))
        path.write_bytes(data)
        reading = read_journal(path)
        found = [line.record for line in reading.lines]
        assert all(record in records for record in found), "a changed record was believed"
        assert [r for i, r in enumerate(records) if i not in hit] == [r for r in found if records.index(r) not in hit]
        changed = bytes(data) != whole
        assert not changed or reading.damage or reading.torn, "a difference went unseen"
        lost = sum(item.lost for item in reading.damage)
        assert len(found) + lost == 20 or reading.torn


def test_lines_taken_out_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "study" / "run.jsonl"
    fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5] + lines[8:]))
    (damage,) = read_journal(path).damage
    assert (damage.file, damage.line, damage.lost) == ("study/run.jsonl", 6, 3)
    assert damage.why == "lines before this one are gone"


@pytest.mark.parametrize(
    ("raw", "why"),
    [(b"", "empty"), (b"hello", "checksum"), (b'{"v":1}', "checksum"), (b"\xff\x00" * 40, "checksum")],
)
def test_foreign_lines_are_listed(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "run.jsonl"
    records = fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:7], raw + b"\n", *lines[7:]]))
    reading = read_journal(path)
    assert [line.record for line in reading.lines] == records
    (damage,) = reading.damage
    assert damage.line == 8 and why in damage.why and damage.lost == 0


def test_a_newer_format_is_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.jsonl"
    monkeypatch.setattr(module, "FORMAT", FORMAT + 1)
    fill(path, 2)
    monkeypatch.undo()
    reading = read_journal(path)
    assert reading.lines == [] and "newer promptlab" in reading.damage[0].why


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_only_plain_data_is_kept(tmp_path: Path, value: object) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path) as journal:
        with pytest.raises(StoreError, match="cannot be kept"):
            journal.append([("score", {"fine": 1}), ("score", {"value": value})])
        with pytest.raises(StoreError, match="no record of kind 'picture'"):
            journal.append([("picture", {})])
        journal.append([("score", {"value": 1})])
    assert records_of(path) == [{"value": 1}]


def test_a_lone_surrogate_becomes_visible(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.jsonl") as journal:
        journal.append([("image", {"reason": "file \udcff 🏆"})])
    assert records_of(tmp_path / "run.jsonl") == [{"reason": "file \\udcff 🏆"}]


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path) as journal:
        journal.append([("image", {"i": 0})])

        def full(file: int, *data: bytes) -> int:
            if data and len(data[0]) > 30:
                return real(file, data[0][:30])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        real = os.write
        monkeypatch.setattr(os, step, full)
        with pytest.raises(DiskError, match="No space left on device; make room"):
            journal.append([("image", {"i": 1})])
        monkeypatch.undo()
        journal.append([("image", {"i": 2})])
    assert records_of(path) == [{"i": 0}, {"i": 2}]
    assert read_journal(path).damage == []


def test_secrets_reach_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_API_KEY", 'canary-"0123456789"')
    monkeypatch.setenv("HF_TOKEN", "hf_canary0123456789")
    with Journal(tmp_path / "run.jsonl") as journal:
        journal.append(
            [("image", {"reason": 'call with canary-"0123456789" failed', "deep": [{"hf_canary0123456789": 1}]})]
        )
    assert b"0123456789" not in (tmp_path / "run.jsonl").read_bytes()
    assert records_of(tmp_path / "run.jsonl") == [
        {"reason": "call with [redacted] failed", "deep": [{"[redacted]": 1}]}
    ]


def test_what_counts_as_a_secret() -> None:
    env = {
        "OPENAI_API_KEY": "sk-0123456789",
        "AWS_SECRET_ACCESS_KEY": "abcdefghijkl",
        "GITHUB_PAT": "ghp_0123456789",
        "TOKENIZERS_PARALLELISM": "false-0123456789",
        "KEYBOARD": "layout-0123456789",
        "MONKEY": "banana-0123456789",
        "SHORT_KEY": "red",
        "SPOKEN_TOKEN": "a red cup and a blue chair",
    }
    assert set(secrets(env)) == {"sk-0123456789", "abcdefghijkl", "ghp_0123456789"}
    assert redact("a sk-0123456789 b", secrets(env)) == "a [redacted] b"


def test_the_first_format_stays_readable() -> None:
    """The golden journal was written by format 1 and is never written again."""
    reading = read_journal(GOLDEN)
    assert reading.damage == [] and reading.torn == 0
    kinds = [line.kind for line in reading.lines]
    assert kinds == [
        "run",
        "cell",
        "cell",
        "plan",
        "image",
        "image",
        "measure",
        "score",
        "score",
        "passport",
        "effect",
        "end",
    ]
    assert reading.lines[1].record["prompt"]["text"] == "a red cup 🏆 and a كرسي أزرق"
    assert all(json.loads(line)["v"] == 1 for line in GOLDEN.read_text("utf-8").splitlines())
