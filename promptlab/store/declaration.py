"""What a study declares, as plain data: question, model, axes, probes and contrasts.

A run writes it into its journal, so that nobody reads the study's YAML out of the database again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from promptlab.errors import PromptlabError

if TYPE_CHECKING:
    from promptlab.study import Study

__all__ = ["declaration", "declaration_of_text"]


def declaration(study: Study, probes: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    """The record of `study`; `probes` are name and id of each of its probes, in order."""
    from promptlab.study.grid import axis_columns

    return {
        "study": study.name,
        "question": study.question,
        "backend": study.backend,
        "model": study.model,
        "axes": [asdict(column) for column in axis_columns(study)],
        "probes": [
            {"name": name, "probe_id": probe_id, "options": use.options}
            for (name, probe_id), use in zip(probes, study.probes, strict=True)
        ],
        "contrasts": [
            {
                "name": contrast.name,
                "probe": contrast.probe,
                "measure": contrast.measure.removeprefix(f"{contrast.probe}."),
                "target": contrast.target or "",
                "axis": contrast.axis,
                "levels": list(contrast.levels),
                "conditions": contrast.where,
                "margin": contrast.margin,
                "detect": contrast.detect,
                "says": contrast.says,
                "family": contrast.family,
            }
            for contrast in study.contrasts
        ],
    }


@lru_cache(maxsize=256)
def declaration_of_text(text: str) -> dict[str, Any] | None:
    """The record of the study with this YAML, for runs that wrote none; None for a text that is no study today."""
    from promptlab.study import parse_study

    if not text:
        return None
    try:
        study = parse_study(text)
    except PromptlabError:
        return None
    return declaration(study, [(use.name, None) for use in study.probes])
