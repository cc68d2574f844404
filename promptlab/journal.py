"""The journal: what a run did, line by line, in a file that is only ever appended to.

A line is JSON, sealed by its length and its CRC-32, so that truncation and flipped bytes are seen:

    {"v":1,"kind":"image","n":17,"record":{...},"length":"000001a3","crc32":"89abcdef"}

`v` is the format, `n` counts the lines of a file from 0 (a gap shows that lines are gone), `length` and `crc32` are
hexadecimal and speak of the bytes before `,"length"`. Lines that are appended together share one fsync; when `append`
returns they are on the disk. A last line without newline is what a crash leaves: readers pass over it and the next
append removes it. A sealed record is found even when the newline beside it is damaged.

Values of environment variables that look like keys never reach a journal.
"""

from __future__ import annotations

import json
import os
import re
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from promptlab.crash import crash_point, torn
from promptlab.durable import disk_error, make_folder, sync_folder
from promptlab.errors import StoreError
from promptlab.redaction import redact, secrets

__all__ = ["FORMAT", "KINDS", "Damage", "Journal", "Line", "Reading", "read_journal"]

FORMAT = 1
KINDS = ("run", "fact", "cell", "plan", "image", "score", "measure", "passport", "effect", "loss", "end")

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
class Reading:
    """What was read, and the place (bytes, lines, records) from which a later reading goes on."""

    lines: list[Line] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    offset: int = 0
    line: int = 0
    n: int = 0
    torn: int = 0
    """Bytes of an incomplete last line."""


def _plain(value: Any) -> Any:
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
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)
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
    return Line(n, kind, record) if isinstance(record, dict) else "its record is no object"


def read_journal(
    path: Path, after: Reading | None = None, stop: int | None = None, kinds: Iterable[str] | None = None
) -> Reading:
    """Read a journal from where `after` ended (else from the start) to byte `stop` (else to the end).

    With `kinds`, only records of these kinds are parsed; the others are checked and counted.
    """
    wanted = None if kinds is None else frozenset(kinds)
    name = f"{path.parent.name}/{path.name}"
    out = Reading(offset=after.offset, line=after.line, n=after.n) if after else Reading()
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
