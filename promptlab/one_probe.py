"""Whose word counts where several probes answer the same question: of one picture, one answer.

The probe that was asked for; else `binding`, which reads the miniature's pictures, else `human`, what raters said, else
the first by name. Ids of a probe (`binding-1-0a1b2c3d`) go by its name; of its versions the views show the one that the
study used last (table `outdated`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptlab.store import Store

__all__ = ["chosen_probe", "ids_of_one_probe"]

FIRST = ("binding", "human")


def chosen_probe(there: Iterable[str], asked: str | None = None) -> str:
    """`asked`, or the name that goes before the others of `there`; "" where there is none."""
    names = set(there)
    return asked or next((name for name in FIRST if name in names), min(names, default=""))


def ids_of_one_probe(store: Store, study: str, measure: str, asked: str | None = None) -> list[str]:
    """Ids of the probe that `chosen_probe` takes of those that told `measure` of a picture of the study.

    One, but for people, whose every file of ratings has its own; none where nobody told it.
    """
    rows = store.query(
        """
        SELECT DISTINCT probe FROM measured
        WHERE study = ? AND measure = ? AND with_value + with_label > 0 ORDER BY probe
        """,
        [study, measure],
    )
    ids = {str(one): str(one).split("-")[0] for one in rows["probe"]}
    chosen = chosen_probe(ids.values(), asked)
    return [one for one, name in ids.items() if name == chosen]
