"""The wording that wins a study, as something to take along: its best picture's recipe, for A1111 or ComfyUI.

Which one wins says `Results.ranking`: the level of an axis, or the whole prompt, with the best mean of a measure. The
recipe is that of its best picture (ties: the first of the plan), so the seed is picked by its result: other seeds do as
the mean says. A lead whose interval holds 0 is no proof, and `Winner.says` says so.

A study as files for other programs: its tables, or its winner.

Parquet, or CSV that no spreadsheet takes for formulas. Files: scored (one row a score), outcomes (one row a picture),
effect, completeness, passport. Columns are those of schema.sql and views.sql; axes stand in columns of their own,
`axis.<name>`.

In CSV a text that begins with = + - @ or a control character gets an apostrophe in front, since a spreadsheet would
run it (OWASP, CSV Injection); full-width signs and those behind blanks count too. Parquet keeps every text as it is.

The winner (`promptlab.exchange.export`) is one file: `a1111` a text with an X/Y/Z plot, `comfyui` a graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.errors import PromptlabError, nearest
from promptlab.exchange.a1111_comfyui import AXES, Sampler, Written, a1111, comfyui, named_elsewhere
from promptlab.results import check_study_name
from promptlab.store.home import disk_error

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.results import Results
    from promptlab.store import Store

__all__ = [
    "FORMATS",
    "PROGRAMS",
    "TABLES",
    "Winner",
    "csv_text",
    "export",
    "export_winner",
    "plot_axes",
    "safe_text",
    "winner",
    "written",
]

PROGRAMS = {"a1111": "a1111.txt", "comfyui": "comfyui.json"}
"""Programs that a winner can be handed to, and how the file's name ends."""


@dataclass(frozen=True)
class Winner:
    """The first of a ranking, and the recipe of its best picture.

    `place` is its row of `tables.ranking`, `lead` (estimate, low, high) how far the next is behind it, paired: None
    where there is no other, or no pair. `pipeline` and `sampler` are those of the run that made the picture.
    """

    study: str
    measure: str
    axis: str | None
    place: dict[str, Any]
    lead: tuple[float, float | None, float | None] | None
    recipe: dict[str, Any]
    pipeline: str | None
    sampler: Sampler

    def says(self) -> str:
        """In one line: what leads, by how much, whether that is shown, n and tier."""
        row = self.place
        over = "seeds of this prompt" if self.axis is None else "prompts"
        said = f"{row['level']!r} leads: {self.measure} {row['mean']:.3g}"
        said += "" if row["low"] is None else f" [{row['low']:.3g}, {row['high']:.3g}] over {over}"
        said += f", n {row['n']}, tier {row['tier']}"
        if self.lead is None:
            return f"{said}; nothing was compared with it"
        gap, low, high = self.lead
        if gap == 0:
            return f"{said}; level with the next"
        if low is None or high is None:
            return f"{said}; ahead of the next by {gap:.3g}, without an interval"
        shown = "ahead" if low > 0 or high < 0 else "not shown to be ahead"
        return f"{said}; {shown} of the next: {gap:.3g} [{low:.3g}, {high:.3g}], paired"


def winner(
    found: Results,
    measure: str | None = None,
    axis: str | None = None,
    group: str | None = None,
    ranked: pd.DataFrame | None = None,
) -> Winner:
    """The winner by `measure` (accuracy, else correct, if not given) among levels of `axis`, or whole prompts.

    `group` is a prompt family: of its pictures alone. `ranked` is that ranking, where it is known already. Raises
    PromptlabError for an unknown measure or axis, and where nothing was measured.
    """
    chosen = measure
    if chosen is None:
        known = {name.partition(".")[2] for name in found.measures()["measure"]}
        chosen = next((name for name in ("accuracy", "correct") if name in known), None)
        if chosen is None:
            there = f"it has {', '.join(sorted(known))}" if known else "nothing was measured; promptlab score measures"
            raise PromptlabError(f"say by which --measure {found.study} is ranked: {there}")
    rows = found.ranking(chosen, axis, group, most=2) if ranked is None else ranked
    if not len(rows):
        raise PromptlabError(f"{found.study} has no value of {chosen} to rank by")
    place = {str(name): value if value == value else None for name, value in rows.iloc[0].to_dict().items()}
    best = found.sql("SELECT recipe, run FROM image WHERE id = ?", [place["best_image"]])
    recipe: dict[str, Any] = json.loads(best["recipe"].iloc[0])
    told = found.sql("SELECT name, value FROM fact WHERE run = ?", [best["run"].iloc[0]])
    facts: dict[str, str] = dict(zip(told["name"], told["value"], strict=True))
    sampler = _sampler(facts, recipe.get("scheduler"))
    return Winner(str(found.study), chosen, axis, place, _lead(rows), recipe, facts.get("diffusion.pipeline"), sampler)


def written(found: Results, won: Winner, program: str) -> Written:
    """The winner's recipe for one of `PROGRAMS`."""
    if program == "comfyui":
        return comfyui(won.recipe, won.sampler, won.pipeline)
    axes = plot_axes(found)
    family = _family(found, won.recipe)
    return a1111(won.recipe, won.sampler, {**({"prompt": family} if len(family) > 1 else {}), **axes})


def plot_axes(found: Results) -> dict[str, list[str]]:
    """The settings (and seeds) that the study varies and an X/Y/Z plot can: their levels in order.

    Schedulers are by A1111's name; one that has none there is left out.
    """
    axes = {name: levels for name, levels in found.axes().items() if name in AXES and len(levels) > 1}
    if "scheduler" in axes:
        names = (named_elsewhere(name, {}).sampler for name in axes["scheduler"])
        axes["scheduler"] = list(dict.fromkeys(name for name in names if name))
    seeds = found.sql(_SEEDS, [found.study])["seed"].tolist()
    if len(seeds) > 1:
        axes["seed"] = [str(seed) for seed in seeds]
    return {name: axes[name] for name in AXES if len(axes.get(name, ())) > 1}


def _lead(rows: pd.DataFrame) -> tuple[float, float | None, float | None] | None:
    if len(rows) < 2 or rows["behind"].isna().iloc[1]:
        return None
    gap, low, high = (float(rows[name].iloc[1]) for name in ("behind", "behind_low", "behind_high"))
    return gap, None if low != low else low, None if high != high else high


def _sampler(facts: dict[str, str], asked: str | None) -> Sampler:
    """By what the run that made the picture recorded of its schedulers."""
    head = f"diffusion.schedulers.{asked or 'default'}."
    config = {name.removeprefix(f"{head}config."): value for name, value in facts.items() if name.startswith(head)}
    return named_elsewhere(facts.get(f"{head}class", asked), config)


def _family(found: Results, recipe: dict[str, Any]) -> list[str]:
    """The prompts of the winner's family, its own first."""
    own = str(recipe.get("prompt"))
    return [own, *(text for text in found.sql(_FAMILY, [found.study, found.study, own])["prompt"] if text != own)]


_SEEDS = """
SELECT DISTINCT seed FROM cell_image JOIN cell ON cell.study = cell_image.study AND cell.id = cell_image.cell_id
WHERE cell.study = ? AND cell.current ORDER BY seed
"""

_FAMILY = """
SELECT prompt, min(position) AS place FROM cell
WHERE study = ? AND current AND prompt_group IN (
    SELECT prompt_group FROM cell WHERE study = ? AND current AND prompt = ?)
GROUP BY prompt ORDER BY place
"""


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
    check_study_name(store, study, with_cells=False)
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
    found: Results, folder: Path, program: str, measure: str | None = None, axis: str | None = None
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
