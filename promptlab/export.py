"""A study as files for other programs: its tables, or its winner.

Parquet, or CSV that no spreadsheet takes for formulas. Files: scored (one row a score), outcomes (one row a picture),
effect, completeness, passport. Columns are those of schema.sql and views.sql; axes stand in columns of their own,
`axis.<name>`.

In CSV a text that begins with = + - @ or a control character gets an apostrophe in front, since a spreadsheet would
run it (OWASP, CSV Injection); full-width signs and those behind blanks count too. Parquet keeps every text as it is.

The winner (`promptlab.winner`) is one file: `a1111` a text with an X/Y/Z plot, `comfyui` a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.durable import disk_error
from promptlab.errors import PromptlabError, nearest
from promptlab.winner import PROGRAMS, Winner, winner, written

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.analysis import Loaded
    from promptlab.store import Store

__all__ = ["FORMATS", "TABLES", "csv_text", "export", "export_winner", "safe_text"]

TABLES = {
    "scored": "SELECT * FROM scored WHERE study = ?",
    "outcomes": "SELECT * FROM outcomes WHERE study = ?",
    "effect": "SELECT * EXCLUDE (run) FROM effect WHERE study = ?",
    "completeness": "SELECT * FROM completeness WHERE study = ?",
    "passport": "SELECT * EXCLUDE (run) FROM passport WHERE ? <> ''",
}

_FORMULA = tuple(
    "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)


def safe_text(value: Any) -> Any:
    """A text that no spreadsheet runs; anything else as it is."""
    if not isinstance(value, str):
        return value
    risky = "" < value[:1] < " " or value.lstrip().startswith(_FORMULA)
    return f"'{value}" if risky else value


def csv_text(frame: pd.DataFrame) -> str:
    """The frame as CSV in which no cell is a formula, rows ended by CR LF (RFC 4180)."""
    text = frame.select_dtypes(exclude=["number", "bool"]).columns
    safe = frame.assign(**{name: frame[name].map(safe_text) for name in text})
    # Only then is a cell with a lone CR quoted, behind which a spreadsheet would see a row of its own.
    written: str = safe.rename(columns=safe_text).to_csv(index=False, lineterminator="\r\n")
    return written


def _csv(frame: pd.DataFrame, path: Path) -> None:
    path.write_bytes(csv_text(frame).encode("utf-8", "replace"))


def _parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False)


FORMATS: dict[str, Callable[[pd.DataFrame, Path], None]] = {"csv": _csv, "parquet": _parquet}


def export(store: Store, study: str, folder: Path, form: str = "parquet") -> dict[Path, int]:
    """Write the tables of `study` to `folder`; returns files and their rows.

    Raises PromptlabError for an unknown study or format, StoreError without a database, DiskError.
    """
    if form not in FORMATS:
        forms = [*FORMATS, *PROGRAMS]
        raise PromptlabError(f"no format is called {form!r}: choose from {', '.join(forms)}{nearest(form, forms)}")
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


def export_winner(
    found: Loaded, folder: Path, program: str, measure: str | None = None, axis: str | None = None
) -> tuple[Path, Winner, tuple[str, ...]]:
    """Write the winner's recipe for one of `winner.PROGRAMS`; returns the file, the winner and what it could not say.

    Raises PromptlabError where there is no winner or the program cannot draw it, DiskError.
    """
    won = winner(found, measure, axis)
    said = written(found, won, program)
    path = folder / f"{won.study}.winner.{PROGRAMS[program]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{said.text}\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise disk_error(folder, error) from error
    return path, won, said.unsaid


def _axes_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """The map `levels` as one column an axis."""
    if "levels" not in frame:
        return frame
    levels = [dict(one or {}) for one in frame["levels"]]
    axes = list(dict.fromkeys(axis for one in levels for axis in one))
    apart: dict[str, Any] = {f"axis.{axis}": [one.get(axis) for one in levels] for axis in axes}
    return frame.drop(columns="levels").assign(**apart)
