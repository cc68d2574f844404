"""What all commands share: the console, progress with time left, tables, JSON, and common options.

Off a terminal, progress is a plain line now and then. A table shows the columns that fit the width and names the rest.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.study.study import Study

__all__ = [
    "BudgetOption",
    "CompileOption",
    "DtypeOption",
    "HomeOption",
    "JsonOption",
    "MaxCells",
    "ModelOption",
    "StudyFile",
    "Terminal",
    "WithoutOption",
    "chosen_study",
    "console",
    "duration",
    "print_frame",
    "print_json",
    "print_raw",
    "rate",
    "repeated_options",
    "rows_of",
    "size",
]

console = Console(highlight=False, markup=False, soft_wrap=True)
PLAIN_SECONDS = 20.0


def duration(seconds: float) -> str:
    """`95` to "1.6 min"; for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes for people: `24e9` to "24.0 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def rate(share: float | None, low: float | None = None, high: float | None = None) -> str:
    """A share in per cent, with its interval where there is one."""
    if _missing(share):
        return "-"
    if _missing(low) or _missing(high):
        return f"{share:.0%}"
    return f"{share:.0%} [{low:.0%}, {high:.0%}]"


class Terminal:
    """A bar on a terminal; off it, a line every 20 seconds. Follows `promptlab.run.Progress`.

    Steps come in bursts, a batch of pictures at once; how fast it goes is known when a burst is whole: as the next one
    begins, after a pause that is longer than the mean step.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None
        self._what, self._total, self._done = "", 0, 0
        self._began = self._printed = self._last = time.monotonic()

    def __enter__(self) -> Terminal:
        if console.is_terminal:
            named, left = TextColumn("{task.description:<22}"), TextColumn("{task.fields[left]}")
            self._bar = Progress(named, BarColumn(40), MofNCompleteColumn(), left, console=console)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def stage(self, what: str, total: int) -> None:
        """A stage of `total` steps begins."""
        self._what, self._total, self._done = what, total, 0
        self._began = self._printed = self._last = time.monotonic()
        if self._bar:
            self._task = self._bar.add_task(what, total=total, left="")
        else:
            console.print(f"{what}: {total}")

    def step(self, count: int = 1) -> None:
        """`count` more steps are done."""
        now = time.monotonic()
        spent, paused = self._last - self._began, now - self._last
        left = ""
        if self._done and paused * self._done >= spent:
            left = f"{duration(max(0.0, spent / self._done * (self._total - self._done) - paused))} left"
        if self._bar:
            over = self._done + count >= self._total
            fields: dict[str, Any] = {"left": "" if over else left} if over or left else {}
            self._bar.update(self._task, advance=count, **fields)
        elif left and now - self._printed > PLAIN_SECONDS:
            console.print(f"{self._what}: {self._done}/{self._total}, {left}")
            self._printed = now
        self._done += count
        self._last = now

    def say(self, line: str) -> None:
        """One line."""
        console.print(line)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A DataFrame as plain rows; what is missing is None."""
    return [{str(k): None if _missing(v) else v for k, v in row.items()} for row in frame.to_dict("records")]


def _missing(value: Any) -> bool:
    return value is None or (not isinstance(value, list | dict | str) and value != value)


def print_json(value: Any) -> None:
    """One JSON object on the standard output, for machines. Numbers of numpy become plain ones, times text."""
    print_raw(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=_plain) + "\n")


def print_raw(text: str) -> None:
    """Text on the standard output as it is, for machines."""
    sys.stdout.write(text)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value.tolist() if hasattr(value, "tolist") else str(value)


READABLE = 16, 26
"""Characters at which a column of text reads well: at least, and at most for the sake of its longest word."""
BETWEEN = 3
"""Characters between two columns."""
MIDDLES = ("estimate", "share", "mean", "leaked")
"""Columns whose interval stands in `low` and `high`; that of another column X stands in `X_low` and `X_high`."""
KEY_COLUMNS = (
    *("contrast", "finding", "claim", "judge", "status", "study", "trial", "fault", "attribute", "level", "outcome"),
    *("measure", "estimate", "share", "mean", "leaked", "sensitivity", "probe", "family", "n", "n_prompts", "n_groups"),
    *("p_adjusted", "p", "axis", "tier"),
)
"""Columns that are shown first where not all fit: what a row is about, its number with interval, n, p."""


def print_frame(frame: pd.DataFrame, wide: bool = False) -> None:
    """Print a DataFrame as a table: the columns that hold anything, as far as they fit; all of them if `wide`.

    Where not all fit, texts that are the same in every row stand above the table, reasons and the names of what is left
    out below it. A single row that does not fit is printed as a list.
    """
    texts, prose = _texts(frame)
    needed = {name: max(map(len, (name, *column))) for name, column in texts.items()}
    if wide or _width(needed) <= console.width:
        table = _table(texts, needed, prose)
        Console(file=console.file, width=max(1, _width(needed)), highlight=False, markup=False).print(table)
        return
    if len(frame) == 1:
        for name, (text,) in texts.items():
            console.print(f"{name}: {text}")
        return
    common = {name: column[0] for name, column in texts.items() if name in prose and len(set(column)) == 1}
    if common:
        console.print("in every row: " + "; ".join(f"{name} {text}" for name, text in common.items()))
    reasons = [] if "reason" in common else texts.get("reason", [])
    texts = {name: column for name, column in texts.items() if name not in common and name != "reason"}
    widths = _fitting({name: _least(name, texts[name]) if name in prose else needed[name] for name in texts})
    room = console.width - _width(widths)
    for name in widths:
        more = min(room, needed[name] - widths[name])
        widths[name] += more
        room -= more
    console.print(_table({name: texts[name] for name in widths}, widths, prose))
    for reason in dict.fromkeys(filter(None, reasons)):
        rows = (text for text, its in zip(next(iter(texts.values())), reasons, strict=True) if its == reason)
        console.print(f"{', '.join(dict.fromkeys(rows))}: {reason}")
    if left_out := [name for name in texts if name not in widths]:
        console.print(f"left out for width: {', '.join(left_out)}. See all: --wide, --csv or --json")


def _texts(frame: pd.DataFrame) -> tuple[dict[str, list[str]], set[str]]:
    """The columns that hold anything, as text, an estimate with its interval; and which of them are prose."""
    from promptlab.results.words import with_interval

    columns = {str(name): [None if _missing(value) else value for value in frame[name]] for name in frame.columns}
    prose = {name for name in columns if frame[name].dtype.kind not in "iufb"}
    out: dict[str, list[str]] = {}
    bounds: set[str] = set()
    for name, column in columns.items():
        low, high = ("low", "high") if name in MIDDLES else (f"{name}_low", f"{name}_high")
        if low in columns and high in columns:
            bounds |= {low, high}
            three = zip(column, columns[low], columns[high], strict=True)
            texts = ["" if one is None else with_interval("{:.3g}".format, one, a, b) for one, a, b in three]
            out[f"{name} [low, high]"] = texts
        else:
            out[name] = [_text(value) for value in column]
    return {name: texts for name, texts in out.items() if any(texts) and name not in bounds}, prose


def _table(texts: dict[str, list[str]], widths: dict[str, int], prose: set[str]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for name in texts:
        side: Any = "left" if name in prose else "right"
        table.add_column(name, justify=side, overflow="fold", no_wrap=name not in prose, width=widths[name])
    for row in zip(*texts.values(), strict=True):
        table.add_row(*row)
    return table


def _width(widths: dict[str, int]) -> int:
    """Characters of a line of columns that are this wide."""
    return sum(widths.values()) + BETWEEN * (len(widths) - 1)


def _least(name: str, texts: list[str]) -> int:
    """Characters at which a column of text still reads well."""
    least, most = READABLE
    longest = max(map(len, texts))
    word = max(len(word) for text in texts for word in text.split() or [""])
    return max(len(name), min(longest, max(least, min(word, most))))


def _fitting(widths: dict[str, int]) -> dict[str, int]:
    """The columns that fit side by side, in their own order; key columns go before others, one fits always."""

    def rank(name: str) -> int:
        bare = name.partition(" ")[0]
        return KEY_COLUMNS.index(bare) if bare in KEY_COLUMNS else len(KEY_COLUMNS)

    chosen: dict[str, int] = {}
    for name in sorted(widths, key=rank):
        wider = {**chosen, name: widths[name]}
        if not chosen or (name != "detail" and _width(wider) <= console.width):
            chosen = wider
    return {name: width for name, width in widths.items() if name in chosen}


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return "" if text == "{}" else text


HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Where runs, images and database live (else PROMPTLAB_HOME, a clone's data/)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for a machine.")]
StudyFile = Annotated[Path, typer.Argument(help="A study, as in studies/*.yaml.", show_default=False)]
MaxCells = Annotated[int, typer.Option("--max-cells", help="Refuse larger grids.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="Another model than the study's: a folder, or OWNER/NAME[@REVISION] in the hub's cache."
    ),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option("--without", help="Leave out an axis of the study, such as one that the model cannot follow."),
]
BudgetOption = Annotated[
    float | None, typer.Option("--budget", help="US dollars that one run may spend on a closed system.")
]
CompileOption = Annotated[
    str | None,
    typer.Option(
        "--compile",
        help="Compile the model: on, off, or auto (the default): where enough images repay it.",
    ),
]
DtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="Precision of the model: float32, bfloat16, float16, or auto (bfloat16 where it is faster here).",
    ),
]


def chosen_study(path: Path, model: str | None, without: list[str] | None, budget: float | None = None) -> Study:
    """The study of a file on `model`, without some axes; prints which contrasts go with these."""
    from promptlab.study.study import load_study, with_budget, with_model, without_axis

    study = load_study(path)
    for name in dict.fromkeys(without or ()):
        study, contrasts = without_axis(study, name)
        also = f", nor the contrasts {', '.join(contrasts)}" if contrasts else ""
        typer.echo(f"without the axis {name}{also}", err=True)
    study = study if budget is None else with_budget(study, budget)
    return study if model is None else with_model(study, model)


def repeated_options(model: str | None, without: list[str] | None, budget: float | None = None) -> str:
    """These options as one would type them again, for a next command."""
    options = (f" --model {model}" if model else "") + "".join(f" --without {name}" for name in without or ())
    return options if budget is None else f"{options} --budget {budget:g}"
