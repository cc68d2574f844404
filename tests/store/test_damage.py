"""Damaged stores: the doctor finds it, a rebuild mends it and says what is lost; nothing is lost in silence."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb

import driver
from promptlab.errors import StoreError
from promptlab.store import Store, pictures
from promptlab.store.journal import JournalIndex, read_journal
from stores import dump

# What the doctor sees, and what a rebuild saves.


def test_each_kind_of_trouble_is_found_and_mended(home: Path) -> None:
    store = Store(home)
    hit, *order = (
        line.record["file"] for line in read_journal(next(home.glob("runs/tiny/*.jsonl"))).lines if line.kind == "image"
    )
    first, second, third, *_ = (pictures.path_of(store.home, file) for file in order)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"\0")
    shutil.copy(third, third.with_name("0" * 64 + ".png"))
    journal = next(home.glob("runs/tiny/*.jsonl"))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:8], lines[8].replace(b"fake", b"FAKE"), *lines[9:]]))
    found = {finding.what for finding in store.doctor()}
    assert found >= {"row without file", "hash mismatch", "file without row", "damaged journal"}
    assert f"{hit}.png" in {finding.where for finding in store.doctor() if finding.what == "file without row"}
    repair = store.rebuild()
    assert [(item.line, item.lost) for item in repair.lost] == [(9, 1)]
    assert f"runs/tiny/{journal.name}" in repair.quarantined
    assert "lost: 1 records at tiny/" in str(repair) and "set aside: images/" in str(repair)
    assert f"images/{second.parent.name}/{second.name}" in repair.quarantined
    (aside,) = home.glob("quarantine/*/runs/tiny/*.jsonl")
    assert b"FAKE" in aside.read_bytes()
    assert repair.records["image"] == 11
    assert {f.what for f in store.doctor() if not f.harmless} == {"row without file"}
    assert store.query("SELECT line, lost FROM damage").to_numpy().tolist() == [[9, 1]]
    driver.run(home, "tiny", 6, 0.0, 0, None)
    assert [f.what for f in store.doctor() if not f.harmless] == []
    assert store.query("SELECT sum(missing) AS m, sum(ok) AS o FROM completeness").to_numpy().tolist() == [[0, 12]]


def test_a_journal_cut_at_a_line_is_noticed(home: Path) -> None:
    """No seal can tell that whole lines are gone from the end; the published database can."""
    journal = next(home.glob("runs/tiny/*.jsonl"))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-3]))
    store = Store(home)
    assert "journal cut short" in {finding.what for finding in store.doctor()}
    (lost,) = store.rebuild().lost
    assert lost.lost == 3 and lost.line == len(lines) - 2
    assert {f.what for f in store.doctor() if not f.harmless} == set()
    assert store.query("SELECT lost FROM damage")["lost"].tolist() == [3]
    journal.unlink()
    assert "journal cut short" in {finding.what for finding in store.doctor()}
    assert store.rebuild().lost[0].why == "the journal was cut short since it was published"


def test_a_running_study_is_left_alone(home: Path) -> None:
    store = Store(home)
    journal = next(home.glob("runs/tiny/*.jsonl"))
    journal.write_bytes(journal.read_bytes().replace(b"brightness", b"brightnesS", 1))
    with store.open_run("tiny"):
        repair = store.rebuild()
        assert repair.lost == [] and "study 'tiny' is in use by process" in repair.skipped[0]
    assert len(store.rebuild().lost) == 1


def mutants(data: bytes, rng: random.Random, n: int) -> Iterator[bytes]:
    for trial in range(n):
        if trial % 5 == 4:
            yield data[: rng.randrange(len(data))]
            continue
        changed = bytearray(data)
        # Half of the flips fall on the headers, which decide what the rest means.
        place = rng.randrange(min(len(data), 12_288) if trial % 2 else len(data))
        changed[place] ^= 1 << rng.randrange(8)
        yield bytes(changed)


def test_100_damaged_databases(home: Path) -> None:
    """A damaged database reads the same as before, or is refused, or the doctor sees the difference."""
    store = Store(home)
    database = store.home.database
    whole, data = dump(database), database.read_bytes()
    refused = same = 0
    for changed in mutants(data, random.Random(4), 100):
        database.write_bytes(changed)
        try:
            now = dump(database)
        except (StoreError, duckdb.Error) as error:
            assert "\n" not in str(error) or isinstance(error, duckdb.Error)
            refused += 1
            continue
        same += now == whole
        assert now == whole or any(not finding.harmless for finding in store.doctor())
    assert refused > 10 and refused + same == 100
    database.write_bytes(data[:5000])
    assert "damaged database" in {finding.what for finding in store.doctor()}
    assert database.name in store.rebuild().quarantined
    assert dump(database)["score"] == whole["score"]


def test_100_damaged_journals(home: Path) -> None:
    """Whatever is hit is listed, whatever is not hit is there, and a rebuild leaves nothing to complain of."""
    store = Store(home)
    journal = next(home.glob("runs/tiny/*.jsonl"))
    data = journal.read_bytes()
    whole = JournalIndex(store.home).update()
    for trial, changed in enumerate(mutants(data, random.Random(5), 100)):
        journal.write_bytes(changed)
        index = JournalIndex(store.home).update()
        for known, found in ((whole.images, index.images), (whole.scores, index.scores)):
            assert all(found[key] == known[key] for key in found), "a changed record was believed"
        lost = len(whole.images) + len(whole.scores) - len(index.images) - len(index.scores)
        findings = [finding for finding in store.doctor(deep=False) if not finding.harmless]
        assert findings or lost == 0
        assert len(changed) < len(data) or lost <= 1
        if trial % 20 == 0:
            store.rebuild()
            assert [f.what for f in store.doctor() if not f.harmless and f.what != "file without row"] == []
            journal.write_bytes(data)
            shutil.rmtree(home / "quarantine", ignore_errors=True)
            store.publish()


# Homes.
