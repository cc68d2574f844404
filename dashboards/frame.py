"""What every page stands in: the store, the study that the address names, its tier, and the question at the top.

Queries are read-only, over a connection that is shared (`promptlab.store.database.opened_once`), and their answers
are kept until the database is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from promptlab.errors import PromptlabError
from promptlab.records import AxisColumn, AxisKind
from promptlab.results.words import TIERS
from promptlab.store import Store
from promptlab.store.database import opened_once
from promptlab.store.home import find_home

__all__ = [
    "ALL",
    "Frame",
    "axes_of_kind",
    "begin",
    "begin_anywhere",
    "choose_family",
    "column_of",
    "families",
    "for_program",
    "how_to",
    "measures_of",
    "part",
    "ranked",
    "rows",
    "snapshot",
    "studies",
    "table",
    "tiers",
    "varies",
    "won",
    "wordings",
]

ALL = "all"
"""In place of a prompt family: all of them."""
MOST = 60
"""Wordings that are ranked: twice as many as the chart shows."""


@dataclass(frozen=True)
class Frame:
    """The store and the chosen study of this page."""

    store: Store
    study: str
    tier: str

    @property
    def facts(self) -> pd.Series:
        """Cells, planned, ok, failed, missing, last_run of the study."""
        return studies().set_index("study").loc[self.study]


_states: list[str] = []


def snapshot() -> str:
    """Names the state of the database; another one once it was replaced. Empty where there is none.

    With a new state all answers of the former one are let go: nobody asks for them again.
    """
    try:
        stat = find_home().database.stat()
    except OSError:
        return ""
    state = f"{find_home().database}:{stat.st_ino}:{stat.st_mtime_ns}"
    if _states != [state]:
        _states[:] = [state]
        for kept in (_rows, _table, _axes, _won, _for_program):
            kept.clear()
    return state


@st.cache_data(show_spinner=False, max_entries=200)
def _rows(_: str, sql: str, parameters: tuple[Any, ...]) -> pd.DataFrame:
    return Store().query(sql, list(parameters))


def rows(sql: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
    """The rows of a query, values as bound parameters; asked once a state of the database."""
    return _rows(snapshot(), sql, tuple(parameters))


@st.cache_data(show_spinner=False, max_entries=100)
def _table(_: str, name: str, arguments: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> Any:
    from promptlab.results import tables

    return getattr(tables, name)(Store(), *arguments, **dict(options))


def table(name: str, *arguments: Any, **options: Any) -> Any:
    """A table of `promptlab.results.tables` by its name, or several; made once a state of the database."""
    return _table(snapshot(), name, arguments, tuple(options.items()))


def studies() -> pd.DataFrame:
    """Every study that was run."""
    found: pd.DataFrame = table("studies")
    return found


def tiers() -> dict[str, list[str | None]]:
    """Every study that plans a picture, with the tiers of its current cells."""
    found = rows(
        """
        SELECT study, list(DISTINCT tier ORDER BY tier) AS tiers FROM cell
        WHERE current AND (study, id) IN (SELECT (study, cell_id) FROM cell_image) GROUP BY study ORDER BY study
        """
    )
    return {str(study): list(some) for study, some in zip(found["study"], found["tiers"], strict=True)}


def begin_anywhere(title: str, question: str) -> None:
    """Head a page that needs no results."""
    st.caption(title.upper())
    st.title(question, anchor=False)


def begin(title: str, question: str, *, needs_study: bool = True) -> Frame:
    """Head the page by its question and let a study be chosen; stops with advice where there is none."""
    begin_anywhere(title, question)
    store = Store()
    try:
        tiers_of = tiers() if snapshot() else {}
    except PromptlabError as error:
        st.error("The database cannot be read.")
        st.text(str(error))
        st.stop()
    known = list(tiers_of)
    if not known:
        st.info("Nothing was run here yet. A few minutes make the first study:")
        st.code("promptlab run studies/attribute_binding.yaml", language=None)
        st.stop()
    if not needs_study:
        return Frame(store, "", "")
    wanted = st.session_state.get("study") or st.query_params.get("study")
    at = known.index(wanted) if wanted in known else 0
    study = st.sidebar.selectbox("Study", known, index=at, help="All pages show this study.")
    st.session_state["study"] = study
    st.query_params["study"] = study
    here = tiers_of[study]
    for tier in here:
        st.sidebar.caption(f"{tier}, {TIERS[tier]}." if tier in TIERS else "No tier is known.")
    return Frame(store, study, ", ".join(t or "unknown tier" for t in here))


def part(run: Callable[..., None]) -> Callable[..., None]:
    """A part of a page that its own filters run again without the rest, over one connection."""

    @st.fragment
    @wraps(run)
    def alone(*arguments: Any) -> None:
        with opened_once():
            run(*arguments)

    return alone


def how_to(verb: str, study: str, more: str = "") -> None:
    """The command for a study, with the file that it was written in where that is found: `promptlab run FILE`."""
    import re

    name = re.compile(rf"^name: *[\"']?{re.escape(study)}[\"']? *(#.*)?$", re.MULTILINE)
    for folder in (Path("studies"), Path(__file__).resolve().parent.parent / "studies"):
        for path in sorted(folder.glob("**/*.yaml")):
            if path.stem == study or name.search(path.read_text("utf-8", errors="replace")):
                short = Path("studies") / path.relative_to(folder)
                st.code(f"promptlab {verb} {short.as_posix()}{more}", language=None)
                return
    st.code(f"promptlab {verb} FILE{more}", language=None)
    st.caption("FILE is the study file that it was run from. It is not among the studies here; its text is on Studies.")


def measures_of(study: str) -> list[str]:
    """Measures of which some picture of the study has a value."""
    found = rows("SELECT DISTINCT measure FROM measured WHERE study = ? AND with_value > 0 ORDER BY measure", [study])
    return [str(name) for name in found["measure"]]


@st.cache_data(show_spinner=False, max_entries=50)
def _axes(_: str, study: str) -> tuple[AxisColumn, ...]:
    from promptlab.results.queries import study_axes

    return study_axes(Store(), study)


def axes_of_kind(study: str, *kinds: AxisKind) -> dict[str, AxisKind]:
    """The axes of the study that are of these kinds, by name, and their kind."""
    columns = sorted(_axes(snapshot(), study), key=lambda column: column.name)
    return {column.name: column.kind for column in columns if column.part == "level" and column.kind in kinds}


def column_of(study: str, axis: str, part: Literal["arm", "at"]) -> str | None:
    """The name of the column that an axis of the study brings along as this part; None where it brings none."""
    columns = _axes(snapshot(), study)
    return next((column.name for column in columns if column.axis == axis and column.part == part), None)


def varies(study: str, column: str) -> bool:
    """Whether the cells of the study have levels of this column."""
    return bool(len(rows("SELECT 1 FROM level WHERE study = ? AND axis = ? LIMIT 1", [study, column])))


def wordings(study: str) -> list[str]:
    """Axes that differ within a prompt family: of these the levels can be compared, paired."""
    found = rows(
        """
        SELECT axis FROM (
            SELECT level.axis, cell.prompt_group, count(DISTINCT level.level) AS n FROM level
            JOIN cell ON cell.study = level.study AND cell.id = level.cell_id AND cell.current
            WHERE level.study = ? GROUP BY ALL)
        GROUP BY axis HAVING max(n) > 1 ORDER BY axis
        """,
        [study],
    )
    return [str(axis) for axis in found["axis"]]


def families(study: str) -> dict[str, str]:
    """The prompt families of the study in the order of its plan, each with its first prompt."""
    found = rows(
        """
        SELECT prompt_group, arg_min(prompt, position) AS prompt FROM cell
        WHERE study = ? AND current GROUP BY ALL ORDER BY min(position) LIMIT 5000
        """,
        [study],
    )
    return dict(zip(found["prompt_group"], found["prompt"], strict=True))


def choose_family(place: Any, study: str, on_change: Callable[[], None], help: str | None = None) -> str | None:
    """The prompt family that is chosen at a place of the page; None for all of them."""
    known = families(study)
    every = f"all {len(known)}"
    chosen = place.selectbox(
        "Prompt family",
        [ALL, *known],
        format_func=lambda group: known.get(group, every),
        key="family",
        bind="query-params",
        on_change=on_change,
        help=help,
    )
    return None if chosen == ALL else str(chosen)


def ranked(study: str, measure: str, axis: str | None, group: str | None = None) -> pd.DataFrame:
    """Wordings, the best first, each with how far it is behind the best: `promptlab.results.tables.ranking`."""
    found: pd.DataFrame = table("ranking", study, measure, axis, group=group, most=MOST)
    return found


@st.cache_data(show_spinner=False, max_entries=50)
def _won(_: str, study: str, measure: str, axis: str | None, group: str | None) -> Any:
    from promptlab.exchange.export import winner
    from promptlab.results import Results

    return winner(Results(Store(), study), measure, axis, group, ranked(study, measure, axis, group))


def won(study: str, measure: str, axis: str | None, group: str | None = None) -> Any:
    """The winner of such a ranking, with its best picture's recipe: `promptlab.exchange.export.Winner`."""
    return _won(snapshot(), study, measure, axis, group)


@st.cache_data(show_spinner=False, max_entries=50)
def _for_program(_: str, winner: Any, program: str) -> tuple[str | None, tuple[str, ...]]:
    from promptlab.exchange.export import written
    from promptlab.results import Results

    try:
        said = written(Results(Store(), winner.study), winner, program)
    except PromptlabError as error:
        return None, (str(error),)
    return said.text, said.unsaid


def for_program(winner: Any, program: str) -> tuple[str | None, tuple[str, ...]]:
    """A winner's text for one of `exchange.export.PROGRAMS`, None where there is none; and what it leaves out."""
    return _for_program(snapshot(), winner, program)
