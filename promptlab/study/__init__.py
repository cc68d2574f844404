"""What a person writes: a study file, its prompt, its axes, and the grid of cells that follows from them.

`load_study` reads a file and `parse_study` a text; both raise a StudyError with line and column for every mistake.
"""

from __future__ import annotations

from promptlab.study.grid import axis_columns
from promptlab.study.study import (
    Contrast,
    GivenSettings,
    ProbeUse,
    Published,
    Study,
    check_name,
    commented_study,
    load_study,
    parse_study,
    study_schema,
    with_budget,
    with_model,
    without_axis,
    write_schema,
)

__all__ = [
    "Contrast",
    "GivenSettings",
    "ProbeUse",
    "Published",
    "Study",
    "axis_columns",
    "check_name",
    "commented_study",
    "load_study",
    "parse_study",
    "study_schema",
    "with_budget",
    "with_model",
    "without_axis",
    "write_schema",
]
