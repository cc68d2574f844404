"""What all journals say together.

Journals of one home are folded into dictionaries keyed as the tables are. The order in which files are read does not
matter: of two records about one thing the one of the later run stands, and a picture that is ok stands before one that
is not. A second `update` reads only what was appended since.

A plan is the list of a study's cells. Its cells count once its `plan` line is there, so a run that is killed while it
writes its plan leaves the former plan in force.
"""

from __future__ import annotations

import gc
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from promptlab.home import Home
from promptlab.journal import Damage, Line, Reading, read_journal
from promptlab.records import Image

__all__ = ["Entry", "Ledger", "Rank", "ScoreKey", "ScoreSet", "uncollected"]

ScoreKey = tuple[str, str, str | None]
"""Probe, image and prompt that a set of scores is of; journals of old name no prompt."""

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
    """All scores that a probe gave a picture for a prompt, and the pixels it saw."""

    rank: Rank
    pixels: str | None
    scores: list[dict[str, Any]]


class Ledger:
    """The fold of a home's journals; empty until `update`.

    Attributes:
        runs: run id to its `run` record, with those of its `end`.
        plans: (study, plan id) to the latest `plan` record.
        cells: (study, plan id) to position to cell record.
        images: image id to (rank, Image), whether or not the file is still there.
        scores: (probe, image id, prompt id) to what the probe said.
        measures, passports, effects: by their keys.
        journals: file to how far it was read.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._fold: dict[str, Callable[[Rank, dict[str, Any]], None]] = {
            "run": self._run,
            "fact": self._fact,
            "end": self._end,
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
        self.plans: dict[tuple[str, str], Entry] = {}
        self.cells: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
        self.images: dict[str, tuple[Rank, Image]] = {}
        self.scores: dict[ScoreKey, ScoreSet] = {}
        self.measures: dict[str, Entry] = {}
        self.passports: dict[tuple[str, str], Entry] = {}
        self.effects: dict[tuple[str, str], dict[tuple[str, ...], Entry]] = defaultdict(dict)
        self.journals: dict[str, Reading] = {}
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
    def update(self, stop: Mapping[str, int] | None = None) -> Ledger:
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

    def _read(self, name: str, path: Path, done: Reading | None, stop: int | None) -> None:
        if done is not None and name in self._damage:
            done = None  # what damage cost is only known when the lines after it are
        self.runs[path.stem].setdefault("study", path.parent.name)  # its first line may be damaged
        reading = read_journal(path, done, stop)
        damage = list(reading.damage)
        for line in reading.lines:
            if problem := self.take(path.stem, line):
                damage.append(Damage(name, line.n + 1, problem))
        before = self.records[name] if done is not None else 0
        self.records[name] = before + len(reading.lines)
        self._damage.pop(name, None)
        if damage:
            self._damage[name] = damage
        reading.lines.clear()
        self.journals[name] = reading

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
        key = (record["probe"], record["image"], record.get("prompt"))
        kept = self.scores.get(key)
        if kept is None or kept.rank <= rank:
            self.scores[key] = ScoreSet(rank, record.get("pixels"), record["scores"])

    def _measure(self, rank: Rank, record: dict[str, Any]) -> None:
        _stand(self.measures, record["name"], Entry(rank, record))

    def _passport(self, rank: Rank, record: dict[str, Any]) -> None:
        _stand(self.passports, (record["probe"], record["family"]), Entry(rank, record))

    def _effect(self, rank: Rank, record: dict[str, Any]) -> None:
        key = tuple(record[name] for name in ("contrast", "probe", "measure", "target"))
        _stand(self.effects[record["study"], rank[1]], key, Entry(rank, record))

    def _loss(self, rank: Rank, record: dict[str, Any]) -> None:
        self._losses[rank[1], rank[2]] = Damage(**record)

    def current_plan(self, study: str) -> Entry | None:
        """The `plan` record of the study's latest plan."""
        plans = [entry for (name, _), entry in self.plans.items() if name == study]
        return max(plans, key=lambda entry: entry.rank, default=None)

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
