"""What the tests of the store share: a picture with its record, all rows of a database, and what a home holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from promptlab.records import Cell, Image
from promptlab.store import Store, pictures
from promptlab.store.home import Home
from promptlab.store.journal import read_journal
from promptlab.store.repair import examine


def made(store: Store, cell: Cell, seed: int, value: int = 0) -> Image:
    """A picture of `cell` on the disk, with its record."""
    picture = np.random.default_rng([seed, value]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file, pixels = pictures.save(picture, store.home, cell.recipe(seed))
    return Image(cell.image_id(seed), cell.recipe(seed), file=file, pixels=pixels, width=16, height=16)


def dump(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table and of the views."""
    from promptlab.store.database import connect

    with connect(database) as connection:
        names = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        names += ["scored", "outcomes", "completeness"]
        return {name: sorted(connection.table(name).fetchall(), key=repr) for name in names}


def fingerprint(home: Path) -> dict[str, list[str]]:
    """Every result, without what tells one run from another."""
    store = Store(home)
    found: dict[str, list[str]] = {}
    tables = store.query("SELECT table_name FROM duckdb_tables() ORDER BY 1")["table_name"]
    with store.connect() as connection:
        for table in set(tables) - {"run", "fact", "journal"}:
            relation = connection.table(table)
            names = [name for name in relation.columns if name not in ("run", "runs", "seconds")]
            found[table] = sorted(map(repr, relation.select(*names).fetchall()))
    found["files"] = sorted(path.name for path in store.home.images.glob("??/[!.]*"))
    return found


def image_lines(home: Path) -> Counter[str]:
    """How often the journals tell of each image."""
    lines = (line for path in home.glob("runs/*/*.jsonl") for line in read_journal(path).lines)
    return Counter(line.record["id"] for line in lines if line.kind == "image")


def troubles(home: Path) -> list[str]:
    """What the doctor finds, but for what the next run mends by itself."""
    return [f"{f.what}: {f.why}" for f in examine(Home(home), deep=False) if not f.harmless and f.what != "no database"]
