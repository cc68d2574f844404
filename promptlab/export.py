"""A study's tables as files for other programs: Parquet, or CSV that no spreadsheet takes for formulas.

Files: scored (one row a score), outcomes (one row a picture), effect, completeness, passport. Columns are those of
schema.sql and views.sql; axes stand in columns of their own, `axis.<name>`.

In CSV a text that begins with = + - @ or a control character gets an apostrophe in front, since a spreadsheet would
run it (OWASP, CSV Injection); Parquet keeps every text as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.durable import disk_error
from promptlab.errors import PromptlabError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["FORMATS", "TABLES", "export", "safe_text"]

TABLES = {
    "scored": "SELECT * FROM scored WHERE study = ?",
    "outcomes": "SELECT * FROM outcomes WHERE study = ?",
    "effect": "SELECT * EXCLUDE (run) FROM effect WHERE study = ?",
    "completeness": "SELECT * FROM completeness WHERE study = ?",
    "passport": "SELECT * EXCLUDE (run) FROM passport WHERE ? <> ''",
}

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_text(value: Any) -> Any:
    """A text that no spreadsheet runs; anything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv(frame: pd.DataFrame, path: Path) -> None:
    text = frame.select_dtypes(exclude=["number", "bool"]).columns
    safe = frame.assign(**{name: frame[name].map(safe_text) for name in text})
    safe.rename(columns=safe_text).to_csv(path, index=False, lineterminator="\n")


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False)


FORMATS: dict[str, Callable[[pd.DataFrame, Path], None]] = {"csv": _csv, "parquet": _parquet}


def export(store: Store, study: str, folder: Path, form: str = "parquet") -> dict[Path, int]:
    """Write the tables of `study` to `folder`; returns files and their rows.

    Raises PromptlabError for an unknown study or format, StoreError without a database, DiskError.
    """
    if form not in FORMATS:
        raise PromptlabError(f"no format is called {form!r}: choose from {', '.join(FORMATS)}{nearest(form, FORMATS)}")
    known = store.query("SELECT name FROM study ORDER BY 1")["name"].tolist()
    if study not in known:
        raise PromptlabError(f"no study called {study!r} was run: there are {', '.join(known)}{nearest(study, known)}")
    written = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, sql in TABLES.items():
            frame = _axes_apart(store.query(sql, [study]))
            path = folder / f"{study}.{name}.{form}"
            FORMATS[form](frame, path)
            written[path] = len(frame)
    except OSError as error:
        raise disk_error(folder, error) from error
    return written


def _axes_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """The map `levels` as one column an axis."""
    if "levels" not in frame:
        return frame
    levels = [dict(one or {}) for one in frame["levels"]]
    axes = list(dict.fromkeys(axis for one in levels for axis in one))
    apart = {f"axis.{axis}": [one.get(axis) for one in levels] for axis in axes}
    return frame.drop(columns="levels").assign(**apart)
