"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from promptlab.study import Study

__all__ = [
    "BudgetOption",
    "CompileOption",
    "HomeOption",
    "JsonOption",
    "MaxCells",
    "ModelOption",
    "StudyFile",
    "WithoutOption",
    "chosen_study",
    "given_options",
]

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
        help="Compile the model: on, off, or auto (the default): on a GPU, where the pictures repay it.",
    ),
]


def chosen_study(path: Path, model: str | None, without: list[str] | None, budget: float | None = None) -> Study:
    """The study of a file, on the model and without the axes that were asked for; says what goes with them."""
    from promptlab.study import load_study
    from promptlab.study_overrides import with_budget, with_model, without_axis

    study = load_study(path)
    for name in dict.fromkeys(without or ()):
        study, contrasts = without_axis(study, name)
        also = f", nor the contrasts {', '.join(contrasts)}" if contrasts else ""
        typer.echo(f"without the axis {name}{also}", err=True)
    study = study if budget is None else with_budget(study, budget)
    return study if model is None else with_model(study, model)


def given_options(model: str | None, without: list[str] | None, budget: float | None = None) -> str:
    """Those options again, for a next command."""
    given = (f" --model {model}" if model else "") + "".join(f" --without {name}" for name in without or ())
    return given if budget is None else f"{given} --budget {budget:g}"
