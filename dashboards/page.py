"""What every page starts with: the store, the study that the address names, its tiers, and the question at the top.

Queries are read-only, over a connection that is shared (`promptlab.store.database.opened_once`). `cached` keeps their
answers until the database is replaced, so each query runs once for all visitors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from promptlab.errors import PromptlabError
from promptlab.records import AxisColumn, AxisKind
from promptlab.results import pages, tables
from promptlab.results.words import TIERS
from promptlab.store import Store
from promptlab.store.database import opened_once
from promptlab.store.home import find_home

if TYPE_CHECKING:
    from promptlab.exchange.export import Winner

__all__ = [
    "ALL",
    "StudyPage",
    "axes_of_kind",
    "begin",
    "cached",
    "choose_family",
    "column_of",
    "fragment",
    "heading",
    "progress_of",
    "ranked_wordings",
    "show_command",
    "snapshot",
    "winner_for_program",
    "winner_of",
]

ALL = "all"
"""In place of a prompt family: all of them."""
MAX_RANKED = 60
"""Wordings that are ranked: twice as many as the chart shows."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class StudyPage:
    """The store and the chosen study of a page; `tier` names the tiers of the study."""

    store: Store
    study: str
    tier: str


_states: list[str] = []


def snapshot() -> str:
    """The state of the database, which changes when it is replaced. Empty where there is no database.

    With a new state all answers from the former one are dropped, since no page needs them again.
    """
    try:
        stat = find_home().database.stat()
    except OSError:
        return ""
    state = f"{find_home().database}:{stat.st_ino}:{stat.st_mtime_ns}"
    if _states != [state]:
        _states[:] = [state]
        for kept in (_answer, _winner, _for_program):
            kept.clear()
    return state


@st.cache_data(show_spinner=False, max_entries=300)
def _answer(name: str, arguments: tuple[Any, ...], options: tuple[tuple[str, Any], ...], _query: Callable[..., T]) -> T:
    return _query(Store(), *arguments, **dict(options))


def cached(query: Callable[Concatenate[Store, P], T], *arguments: P.args, **options: P.kwargs) -> T:
    """What a query of the store gives, computed once for each state of the database.

    `query` is a function of `promptlab.results` that takes the store first. Changing the answer changes a copy.
    """
    snapshot()
    return _answer(f"{query.__module__}.{query.__qualname__}", arguments, tuple(options.items()), query)


def progress_of(study: str) -> pd.Series[Any]:
    """How far a study is: cells, planned, ok, failed, missing, last_run."""
    studies = cached(tables.studies)
    return studies[studies["study"] == study].iloc[0]


def heading(title: str, question: str) -> None:
    """Head a page by its title and its question."""
    st.caption(title.upper())
    st.title(question, anchor=False)


def begin(title: str, question: str, *, needs_study: bool = True) -> StudyPage:
    """Head the page by its question and let a study be chosen; stops with advice where there is none."""
    heading(title, question)
    store = Store()
    try:
        tiers_of = cached(pages.study_tiers) if snapshot() else {}
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
        return StudyPage(store, "", "")
    wanted = st.session_state.get("study") or st.query_params.get("study")
    index = known.index(wanted) if wanted in known else 0
    study = st.sidebar.selectbox("Study", known, index=index, help="All pages show this study.")
    st.session_state["study"] = study
    st.query_params["study"] = study
    for tier in tiers_of[study]:
        st.sidebar.caption(f"{tier}, {TIERS[tier]}." if tier in TIERS else "No tier is known.")
    return StudyPage(store, study, ", ".join(tier or "unknown tier" for tier in tiers_of[study]))


def fragment(run: Callable[P, None]) -> Callable[P, None]:
    """A part of a page that its own filters run again without the rest, over one connection."""

    @st.fragment
    @wraps(run)
    def connected(*arguments: P.args, **options: P.kwargs) -> None:
        with opened_once():
            run(*arguments, **options)

    return connected


def show_command(verb: str, study: str, options: str = "") -> None:
    """The command for a study, with the file that it was written in where that is found: `promptlab run FILE`."""
    name = re.compile(rf"^name: *[\"']?{re.escape(study)}[\"']? *(#.*)?$", re.MULTILINE)
    for folder in (Path("studies"), Path(__file__).resolve().parent.parent / "studies"):
        for path in sorted(folder.glob("**/*.yaml")):
            if path.stem == study or name.search(path.read_text("utf-8", errors="replace")):
                short = Path("studies") / path.relative_to(folder)
                st.code(f"promptlab {verb} {short.as_posix()}{options}", language=None)
                return
    st.code(f"promptlab {verb} FILE{options}", language=None)
    st.caption("FILE is the study file that it was run from. It is not among the studies here; its text is on Studies.")


def _axes(study: str) -> tuple[AxisColumn, ...]:
    from promptlab.results.queries import study_axes

    return cached(study_axes, study)


def axes_of_kind(study: str, *kinds: AxisKind) -> dict[str, AxisKind]:
    """The axes of the study that are of these kinds, by name, and their kind."""
    columns = sorted(_axes(study), key=lambda column: column.name)
    return {column.name: column.kind for column in columns if column.part == "level" and column.kind in kinds}


def column_of(study: str, axis: str, part: Literal["arm", "at"]) -> str | None:
    """The name of the column that an axis of the study brings along as this part; None where it brings none."""
    return next((column.name for column in _axes(study) if column.axis == axis and column.part == part), None)


def choose_family(
    container: DeltaGenerator, study: str, on_change: Callable[[], None], help: str | None = None
) -> str | None:
    """The prompt family that is chosen in a container of the page; None for all of them."""
    known = cached(pages.prompt_families, study)
    every = f"all {len(known)}"
    chosen = container.selectbox(
        "Prompt family",
        [ALL, *known],
        format_func=lambda group: known.get(group, every),
        key="family",
        bind="query-params",
        on_change=on_change,
        help=help,
    )
    return None if chosen == ALL else str(chosen)


def ranked_wordings(study: str, measure: str, axis: str | None, group: str | None = None) -> pd.DataFrame:
    """Wordings, the best first, each with how far it is behind the best: `promptlab.results.tables.ranking`."""
    return cached(tables.ranking, study, measure, axis, group=group, most=MAX_RANKED)


@st.cache_data(show_spinner=False, max_entries=50)
def _winner(study: str, measure: str, axis: str | None, group: str | None) -> Winner:
    from promptlab.exchange.export import winner
    from promptlab.results import Results

    return winner(Results(Store(), study), measure, axis, group, ranked_wordings(study, measure, axis, group))


def winner_of(study: str, measure: str, axis: str | None, group: str | None = None) -> Winner:
    """The winner of such a ranking, with the recipe of its best image."""
    snapshot()
    return _winner(study, measure, axis, group)


@st.cache_data(show_spinner=False, max_entries=50)
def _for_program(winner: Winner, program: str) -> tuple[str | None, tuple[str, ...]]:
    from promptlab.exchange.export import written
    from promptlab.results import Results

    try:
        text = written(Results(Store(), winner.study), winner, program)
    except PromptlabError as error:
        return None, (str(error),)
    return text.text, text.unsaid


def winner_for_program(winner: Winner, program: str) -> tuple[str | None, tuple[str, ...]]:
    """A winner's text for one of `exchange.export.PROGRAMS`, None where it has none; and what the text leaves out."""
    snapshot()
    return _for_program(winner, program)
