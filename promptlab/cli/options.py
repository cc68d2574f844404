"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["HomeOption", "JsonOption", "MaxCells", "ModelOption", "StudyFile"]

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
