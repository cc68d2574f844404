"""What the tests of the store share: a picture with its record, and all rows of a database."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from promptlab import pictures
from promptlab.records import (
    Cell,
    Image,
)
from promptlab.store import Store


def made(store: Store, cell: Cell, seed: int, value: int = 0) -> Image:
    """A picture of `cell` on the disk, with its record."""
    picture = np.random.default_rng([seed, value]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file, pixels = pictures.save(picture, store.home, cell.recipe(seed))
    return Image(cell.image_id(seed), cell.recipe(seed), file=file, pixels=pixels, width=16, height=16)


def dump(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table and of the views."""
    from promptlab.reader import connect

    with connect(database) as connection:
        names = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        names += ["scored", "outcomes", "completeness"]
        return {name: sorted(connection.table(name).fetchall(), key=repr) for name in names}
