"""The journal: what a run did, line by line, in a file that is only ever appended to.

A line is JSON, sealed by its length and its CRC-32, so that truncation and flipped bytes are seen:

    {"v":1,"kind":"image","n":17,"record":{...},"length":"000001a3","crc32":"89abcdef"}

`v` is the format, `n` counts the lines of a file from 0 (a gap shows that lines are gone), `length` and `crc32` are
hexadecimal and speak of the bytes before `,"length"`. Lines that are appended together share one fsync; when `append`
returns they are on the disk. A last line without newline is what a crash leaves: readers pass over it and the next
append removes it. A sealed record is found even when the newline beside it is damaged.

Values of environment variables that look like keys never reach a journal.

Format 2 writes the name of a probe beside its id, the kind of an attribute as `kind`, and what a study declares (record
`study`). Journals of format 1 are read: `_upgraded` spells their records as format 2 does.

`JournalIndex` holds what all journals of a home say together, folded into dictionaries keyed as the tables are. The
order in which files are read does not matter: of two records about one thing the one of the later run stands, and an
image that is ok stands before one that is not. A second `update` reads only what was appended since.

A plan is the list of a study's cells. Its cells count once its `plan` line is there, so a run that is killed while it
writes its plan leaves the former plan in force.
"""

from __future__ import annotations

import gc
import json
import os
import re
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from promptlab.errors import StoreError
from promptlab.records import Image
from promptlab.store._fault_points import crash_point, torn
from promptlab.store.home import Home, disk_error, make_folder, redact, secrets, sync_folder
from promptlab.study.grid import declaration_of_text

__all__ = [
    "FORMAT",
    "KINDS",
    "Damage",
    "Entry",
    "Journal",
    "JournalIndex",
    "JournalPart",
    "Line",
    "Rank",
    "ScoreKey",
    "ScoreSet",
    "read_journal",
    "uncollected",
]

FORMAT = 2
KINDS = ("run", "fact", "study", "cell", "plan", "image", "score", "measure", "passport", "effect", "loss", "end")

_HEAD = re.compile(rb'\{"v":(\d{1,4}),"kind":"([a-z]{1,16})","n":(\d{1,12}),"record":')
_SEAL = re.compile(rb',"length":"([0-9a-f]{8})","crc32":"([0-9a-f]{8})"\}')
_SEAL_SIZE = len(',"length":"00000000","crc32":"00000000"}')


class Line(NamedTuple):
    """One record as a journal holds it."""

    n: int
    kind: str
    record: dict[str, Any]


@dataclass(frozen=True)
class Damage:
    """Something in a journal that cannot be trusted, and how many records are lost by it (the rest is used)."""

    file: str
    line: int
    why: str
    lost: int = 1


@dataclass
class JournalPart:
    """What was read of a journal, and the place (bytes, lines, records) where the next part begins."""

    lines: list[Line] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    offset: int = 0
    line: int = 0
    n: int = 0
    torn: int = 0
    """Bytes of an incomplete last line."""


def _json_value(value: Any) -> Any:
    """What JSON has no word for: numpy's numbers and arrays, and paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def _clean(value: Any, hidden: Iterable[str]) -> Any:
    """`value` with secrets redacted and lone surrogates written as visible escapes."""
    if isinstance(value, str):
        return redact(value.encode("utf-8", "backslashreplace").decode(), hidden)
    if isinstance(value, Mapping):
        return {_clean(k, hidden): _clean(v, hidden) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v, hidden) for v in value]
    return value


def _encode(kind: str, n: int, record: Mapping[str, Any], hidden: Iterable[str]) -> bytes:
    """One sealed line with its newline. Raises StoreError for NaN and for what is not plain data."""
    if kind not in KINDS:
        raise StoreError(f"a journal has no record of kind {kind!r}; there are {', '.join(KINDS)}")
    try:
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_json_value)
        lone = any("\ud800" <= c <= "\udfff" for c in text) if not text.isascii() else False
        if lone or any(json.dumps(secret, ensure_ascii=False)[1:-1] in text for secret in hidden):
            cleaned = _clean(json.loads(text), hidden)
            text = json.dumps(cleaned, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"a record of kind {kind!r} cannot be kept: {error}") from error
    body = b'{"v":%d,"kind":"%s","n":%d,"record":%s' % (FORMAT, kind.encode(), n, text.encode())
    return b'%s,"length":"%08x","crc32":"%08x"}\n' % (body, len(body), zlib.crc32(body))


def _whole(raw: bytes) -> bytes | None:
    """The body of a sealed line, or None if the seal does not fit."""
    body = raw[:-_SEAL_SIZE]
    sealed = b',"length":"%08x","crc32":"%08x"}' % (len(body), zlib.crc32(body))
    return body if raw[-_SEAL_SIZE:] == sealed else None


def _salvage(raw: bytes) -> Iterator[bytes]:
    """Bodies of sealed records anywhere in damaged bytes: the length says where each begins."""
    for match in _SEAL.finditer(raw):
        start = match.start() - int(match[1], 16)
        if start >= 0 and zlib.crc32(body := raw[start : match.start()]) == int(match[2], 16):
            yield body


def _decode(body: bytes, kinds: frozenset[str] | None) -> Line | str:
    """The line in a body; or, in words, why it cannot be used. Kinds that are not asked for keep an empty record."""
    head = _HEAD.match(body)
    if head is None:
        return "it is no journal line"
    version, kind, n = int(head[1]), head[2].decode(), int(head[3])
    if version > FORMAT or kind not in KINDS:
        return f"format {version}, kind {kind!r}: written by a newer promptlab; update to read it"
    if kinds is not None and kind not in kinds:
        return Line(n, kind, {})
    try:
        record = json.loads(body[head.end() :].decode())
    except (ValueError, RecursionError):
        return "its record is no JSON"
    if not isinstance(record, dict):
        return "its record is no object"
    return Line(n, kind, record if version == FORMAT else _upgraded(kind, record))


_PROBE_ID = re.compile(r"(.+)-\d+-[0-9a-f]{8}")


def _probe_name(probe_id: str) -> str:
    """The name of the probe that has this id, `name-version-hash`: journals of format 1 hold the id alone."""
    whole = _PROBE_ID.fullmatch(probe_id)
    return whole[1] if whole else probe_id.partition("-")[0]


def _upgraded(kind: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record of format 1 as format 2 spells it; one that makes no sense stays as it is."""
    match kind, record:
        case ("score", {"probe": str(probe_id)}):
            return {**record, "probe": _probe_name(probe_id), "probe_id": probe_id}
        case ("passport", {"probe": str(probe_id), "family": question}):
            rest = {name: value for name, value in record.items() if name != "family"}
            return {**rest, "probe": _probe_name(probe_id), "probe_id": probe_id, "kind": question}
        case ("effect", {"probe": str(probe_id)}):
            # an effect without any score names its probe by the name
            name = _probe_name(probe_id)
            return {**record, "probe": name, "probe_id": None if name == probe_id else probe_id}
        case ("cell", {"prompt": {"bindings": list(bindings)}}) if all(isinstance(one, dict) for one in bindings):
            renamed = [{("kind" if key == "family" else key): value for key, value in one.items()} for one in bindings]
            return {**record, "prompt": {**record["prompt"], "bindings": renamed}}
    return record


def read_journal(
    path: Path, after: JournalPart | None = None, stop: int | None = None, kinds: Iterable[str] | None = None
) -> JournalPart:
    """Read a journal from where `after` ended (else from the start) to byte `stop` (else to the end).

    With `kinds`, only records of these kinds are parsed; the others are checked and counted.
    """
    wanted = None if kinds is None else frozenset(kinds)
    name = f"{path.parent.name}/{path.name}"
    out = JournalPart(offset=after.offset, line=after.line, n=after.n) if after else JournalPart()
    with path.open("rb") as file:
        file.seek(out.offset)
        data = file.read() if stop is None else file.read(max(stop - out.offset, 0))
    *whole, tail = data.split(b"\n")
    bad: list[tuple[int, str]] = []

    def take(number: int, body: bytes) -> None:
        line = _decode(body, wanted)
        if isinstance(line, str):
            bad.append((number, line))
            return
        missing = max(line.n - out.n, 0)
        if bad or missing:
            place, why = bad[0] if bad else (number, "lines before this one are gone")
            out.damage.append(Damage(name, place, why, missing))
            bad.clear()
        out.n = max(out.n, line.n + 1)
        out.lines.append(line)

    for number, raw in enumerate(whole, start=out.line + 1):
        body = _whole(raw)
        if body is not None:
            take(number, body)
            continue
        bad.append((number, "length or checksum does not fit" if raw else "the line is empty"))
        for body in _salvage(raw):
            take(number, body)
    for place, why in bad:
        out.damage.append(Damage(name, place, why, 1))
    out.offset += len(data) - len(tail)
    out.line += len(whole)
    out.torn = len(tail)
    before = out.n
    bad.clear()
    for body in _salvage(tail):
        take(out.line + 1, body)
    out.n = before
    return out


class Journal:
    """A journal opened for appending; an incomplete last line is removed first. Use it as a context manager.

    Raises DiskError where the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hidden = secrets()
        self._guard = threading.Lock()
        try:
            new = not path.exists()
            make_folder(path.parent)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
            if new:
                sync_folder(path.parent)
            self._repair()
        except OSError as error:
            raise disk_error(path, error) from error

    def _repair(self) -> None:
        state = read_journal(self.path, kinds=())
        self._n, self._size = state.n, state.offset
        if not state.torn:
            return
        if state.lines and state.lines[-1].n >= state.n:
            self._n, self._size = state.lines[-1].n + 1, state.offset + state.torn + 1
            os.write(self._file, b"\n")
        else:
            os.ftruncate(self._file, state.offset)
        os.fsync(self._file)

    def append(self, records: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Keep `(kind, record)` pairs: one line each, one fsync for all. On the disk when this returns.

        Raises DiskError (nothing of this call is kept, the journal stays whole) and StoreError (not plain data, NaN).
        """
        with self._guard:
            lines = [_encode(kind, self._n + i, record, self._hidden) for i, (kind, record) in enumerate(records)]
            if not lines:
                return
            data = b"".join(lines)
            keep = True
            try:
                crash_point("journal.appending")
                self._write(data)
                crash_point("journal.written")
                os.fsync(self._file)
                crash_point("journal.synced")
            except OSError as error:
                keep = False
                raise disk_error(self.path, error) from error
            finally:
                # An interrupt after the write loses nothing; after a failed write or fsync nothing can be trusted.
                if keep and os.fstat(self._file).st_size == self._size + len(data):
                    self._n += len(lines)
                    self._size += len(data)
                else:
                    os.ftruncate(self._file, self._size)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        if torn("journal.torn"):
            rest = rest[os.write(self._file, rest[: len(rest) * 2 // 3]) :]
            crash_point("journal.torn")
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        """Close the file; twice is once."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


ScoreKey = tuple[str, str, str | None]
"""Id of the probe, of the image and of the prompt that a set of scores is of; old journals name no prompt."""

Rank = tuple[bool, str, int]
"""Whether a picture is ok, its run, its line: the greatest stands."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the search for garbage: over a hundred thousand new records, none of them garbage, it doubles the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Entry(NamedTuple):
    """A record and the run that wrote it."""

    rank: Rank
    record: dict[str, Any]

    @property
    def run(self) -> str:
        """Id of the run that wrote it."""
        return self.rank[1]


class ScoreSet(NamedTuple):
    """All scores that a probe, called `probe`, gave an image for a prompt, and the pixels it saw."""

    rank: Rank
    probe: str
    pixels: str | None
    scores: list[dict[str, Any]]


class JournalIndex:
    """The fold of a home's journals; empty until `update`.

    Attributes:
        runs: run id to its `run` record, with those of its `end`.
        declared: (study, hash of its text) to the latest `study` record, what the study declares.
        plans: (study, plan id) to the latest `plan` record.
        cells: (study, plan id) to position to cell record.
        images: image id to (rank, Image), whether or not the file is still there.
        scores: (probe id, image id, prompt id) to what the probe said.
        measures, passports, effects: by their keys.
        journals: file to how far it was read.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._fold: dict[str, Callable[[Rank, dict[str, Any]], None]] = {
            "run": self._run,
            "fact": self._fact,
            "end": self._end,
            "study": self._study,
            "plan": self._plan,
            "cell": self._cell,
            "image": self._image,
            "score": self._score,
            "measure": self._measure,
            "passport": self._passport,
            "effect": self._effect,
            "loss": self._loss,
        }
        self._clear()

    def _clear(self) -> None:
        self.runs: dict[str, dict[str, Any]] = defaultdict(dict)
        self.declared: dict[tuple[str, str], Entry] = {}
        self.plans: dict[tuple[str, str], Entry] = {}
        self.cells: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
        self.images: dict[str, tuple[Rank, Image]] = {}
        self.scores: dict[ScoreKey, ScoreSet] = {}
        self.measures: dict[str, Entry] = {}
        self.passports: dict[tuple[str, str], Entry] = {}
        self.effects: dict[tuple[str, str], dict[tuple[str, ...], Entry]] = defaultdict(dict)
        self.journals: dict[str, JournalPart] = {}
        self.records: dict[str, int] = defaultdict(int)
        self._damage: dict[str, list[Damage]] = {}
        self._losses: dict[tuple[str, int], Damage] = {}

    @property
    def damage(self) -> list[Damage]:
        """What could not be used of the files as they are."""
        return [item for file in sorted(self._damage) for item in self._damage[file]]

    @property
    def losses(self) -> list[Damage]:
        """What earlier repairs found to be gone."""
        return [self._losses[key] for key in sorted(self._losses)]

    @uncollected()
    def update(self, stop: Mapping[str, int] | None = None) -> JournalIndex:
        """Read what is new; with `stop`, only these files, each up to this byte. Returns itself."""
        files = {f"{path.parent.name}/{path.name}": path for path in sorted(self.home.runs.glob("*/*.jsonl"))}
        if stop is not None:
            files = {name: path for name, path in files.items() if name in stop}
        sizes = {name: path.stat().st_size for name, path in files.items()}
        if any(sizes.get(name, -1) < done.offset for name, done in self.journals.items()):
            self._clear()  # a file was cut or taken away, so what it said no longer stands
        for name, path in files.items():
            done = self.journals.get(name)
            if done is None or sizes[name] > done.offset:
                self._read(name, path, done, stop[name] if stop else None)
        return self

    def _read(self, name: str, path: Path, done: JournalPart | None, stop: int | None) -> None:
        if done is not None and name in self._damage:
            done = None  # what damage cost is only known when the lines after it are
        self.runs[path.stem].setdefault("study", path.parent.name)  # its first line may be damaged
        part = read_journal(path, done, stop)
        damage = list(part.damage)
        taken = ((line.n + 1, self.take(path.stem, line)) for line in part.lines)
        damage += [Damage(name, number, problem) for number, problem in taken if problem]
        before = self.records[name] if done is not None else 0
        self.records[name] = before + len(part.lines)
        self._damage.pop(name, None)
        if damage:
            self._damage[name] = damage
        part.lines.clear()
        self.journals[name] = part

    def take(self, run: str, line: Line) -> str | None:
        """Fold one line of a run; says what is wrong if it cannot be used."""
        try:
            self._fold[line.kind]((line.record.get("status", "ok") == "ok", run, line.n), line.record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return f"a record of kind {line.kind!r} that makes no sense: {type(error).__name__} {error}"
        return None

    def _run(self, rank: Rank, record: dict[str, Any]) -> None:
        self.runs[rank[1]].update({"study": record["study"], **record})

    def _fact(self, rank: Rank, record: dict[str, Any]) -> None:
        facts = self.runs[rank[1]].get("facts", {})
        self.runs[rank[1]]["facts"] = facts | record["facts"]

    def _end(self, rank: Rank, record: dict[str, Any]) -> None:
        self.runs[rank[1]].update({"status": record["status"], "ended": record["ended"]})

    def _study(self, rank: Rank, record: dict[str, Any]) -> None:
        _stand(self.declared, (record["study"], self.runs[rank[1]].get("hash", "")), Entry(rank, record))

    def _plan(self, rank: Rank, record: dict[str, Any]) -> None:
        _stand(self.plans, (record["study"], record["id"]), Entry(rank, record))

    def _cell(self, rank: Rank, record: dict[str, Any]) -> None:
        self.cells[record["study"], record["plan"]][record["position"]] = record

    def _image(self, rank: Rank, record: dict[str, Any]) -> None:
        image = Image(**record)
        kept = self.images.get(image.id)
        if kept is None or kept[0] <= rank:
            self.images[image.id] = (rank, image)

    def _score(self, rank: Rank, record: dict[str, Any]) -> None:
        key = (record["probe_id"], record["image"], record.get("prompt"))
        kept = self.scores.get(key)
        if kept is None or kept.rank <= rank:
            self.scores[key] = ScoreSet(rank, record["probe"], record.get("pixels"), record["scores"])

    def _measure(self, rank: Rank, record: dict[str, Any]) -> None:
        _stand(self.measures, record["name"], Entry(rank, record))

    def _passport(self, rank: Rank, record: dict[str, Any]) -> None:
        _stand(self.passports, (record["probe_id"], record["kind"]), Entry(rank, record))

    def _effect(self, rank: Rank, record: dict[str, Any]) -> None:
        key = tuple(record[name] for name in ("contrast", "probe", "measure", "target"))
        _stand(self.effects[record["study"], rank[1]], key, Entry(rank, record))

    def _loss(self, rank: Rank, record: dict[str, Any]) -> None:
        self._losses[rank[1], rank[2]] = Damage(**record)

    def current_plan(self, study: str) -> Entry | None:
        """The `plan` record of the study's latest plan."""
        plans = [entry for (name, _), entry in self.plans.items() if name == study]
        return max(plans, key=lambda entry: entry.rank, default=None)

    def declaration(self, study: str) -> dict[str, Any] | None:
        """What the study declares by the text of its last run; None where no run said so and the text does not."""
        names = [name for name, run in self.runs.items() if run["study"] == study]
        run = self.runs[max(names)] if names else {}
        if entry := self.declared.get((study, run.get("hash", ""))):
            return entry.record
        record = declaration_of_text(run.get("text", ""))
        if record is None:
            return None
        facts = run.get("facts", {})
        probes = [{**use, "probe_id": facts.get(f"probe.{use['name']}")} for use in record["probes"]]
        return {**record, "study": study, "probes": probes}

    def current_effects(self, study: str) -> list[Entry]:
        """Effects by the study's latest run that wrote any."""
        run = max((run for name, run in self.effects if name == study), default=None)
        return list(self.effects[study, run].values()) if run else []

    def score_stands(self, scores: ScoreSet, image: str) -> bool:
        """Whether scores are about the picture as it is now; one that was made anew must be scored anew."""
        known = self.images.get(image)
        return known is None or scores.pixels is None or scores.pixels == known[1].pixels

    def files(self) -> set[str]:
        """Hashes of all pictures on the disk."""
        found: set[str] = set()
        for folder in self.home.images.glob("[0-9a-f][0-9a-f]"):
            found.update(name[:-4] for name in os.listdir(folder) if name.endswith(".png") and not name.startswith("."))
        return found


def _stand(table: dict[Any, Entry], key: Any, entry: Entry) -> None:
    kept = table.get(key)
    if kept is None or kept.rank <= entry.rank:
        table[key] = entry
