"""The commands of a study: init, validate, plan, run, status; those of the store and the miniature are added here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptlab import __version__
from promptlab.cli.bench import bench
from promptlab.cli.claims import claims
from promptlab.cli.exchange import import_, import_prompts, import_ratings, reproduce
from promptlab.cli.miniature import miniature
from promptlab.cli.models import geometry, lint, models
from promptlab.cli.results import attention, dashboard, export, list_, report, table
from promptlab.cli.store import doctor, passport, publish, rebuild, simulate
from promptlab.cli.terminal import (
    BudgetOption,
    CompileOption,
    DtypeOption,
    HomeOption,
    JsonOption,
    MaxCells,
    ModelOption,
    StudyFile,
    Terminal,
    WithoutOption,
    chosen_study,
    console,
    given_options,
    print_json,
    show_plan,
    show_studies,
)

__all__ = ["app"]

app = typer.Typer(
    name="promptlab",
    help="Find out what the words of a text-to-image prompt really do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(miniature, name="miniature")


def _version(value: bool) -> None:
    if value:
        console.print(f"promptlab {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it.")] = False,
) -> None: ...


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the new study.", show_default=False)],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path("studies"),
) -> None:
    """Write a commented study to start from."""
    from promptlab.errors import StudyError
    from promptlab.study import check_name, commented_study
    from promptlab.study.strict_yaml import Mistake

    try:
        check_name(name)
    except Mistake as mistake:
        raise StudyError(f"study name: {mistake.message}") from None
    path = folder / f"{name}.yaml"
    if path.exists():
        raise StudyError(f"{path} exists: choose another name, or edit it")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(commented_study(name), encoding="utf-8")
    console.print(f"wrote {path}. Next: promptlab plan {path}", highlight=False)


@app.command()
def validate(study: StudyFile, model: ModelOption = None, without: WithoutOption = None) -> None:
    """Check a study file; says the line and column of what is wrong. With --model, check that the model can do it."""
    from promptlab.study.grid import count_images

    loaded = chosen_study(study, model, without)
    if model is not None:
        from promptlab.run.plan import plan_study

        plan_study(loaded, None, 10**6)
    console.print(f"{study} is a valid study of {count_images(loaded, 10**12):,} pictures.", highlight=False)


@app.command()
def plan(
    study: StudyFile,
    home: HomeOption = None,
    model: ModelOption = None,
    without: WithoutOption = None,
    budget: BudgetOption = None,
    max_cells: MaxCells = 10_000,
    json_: JsonOption = False,
) -> None:
    """Count a study before it runs: cells, pictures, what exists, what the encoders cut, time, memory, disk."""
    from promptlab.run.plan import plan_facts, plan_study
    from promptlab.store import Store

    planned = plan_study(chosen_study(study, model, without, budget), Store(home), max_cells)
    if json_:
        print_json(plan_facts(planned))
        return
    show_plan(planned)
    console.print(f"Next: promptlab run {study}{given_options(model, without, budget)}", highlight=False)


@app.command()
def run(
    study: StudyFile,
    home: HomeOption = None,
    model: ModelOption = None,
    without: WithoutOption = None,
    budget: BudgetOption = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=1024, help="Pictures a call of the model.")] = None,
    max_cells: MaxCells = 10_000,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while another process runs this study.")] = 0.0,
    retry: Annotated[bool, typer.Option(help="Make again whatever did not end ok.")] = False,
    passports: Annotated[int, typer.Option(min=0, help="Rendered pictures a cell for a new probe's passport.")] = 60,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Processes that make pictures.")] = None,
    ray: Annotated[str | None, typer.Option(help="Make them on a Ray cluster: auto, or HOST:PORT.")] = None,
    compile_: CompileOption = None,
    dtype: DtypeOption = "auto",
    overlap: Annotated[
        bool | None,
        typer.Option(
            "--overlap/--no-overlap", help="Measure while making; else where it takes nothing from the making."
        ),
    ] = None,
) -> None:
    """Make what is missing of a study, measure it, and say what came out. Run again to go on or to add."""
    from promptlab.cli.terminal import show_answer
    from promptlab.errors import IncompleteError
    from promptlab.run import run_study
    from promptlab.run.plan import check_paid, plan_study
    from promptlab.store import Store

    loaded = chosen_study(study, model, without, budget)
    store = Store(home)
    planned = plan_study(loaded, store, max_cells, retry=retry)
    show_plan(planned)
    check_paid(planned.cost)
    with Terminal() as terminal:
        summary = run_study(
            loaded,
            store,
            terminal,
            batch_size=batch_size,
            max_cells=max_cells,
            wait=wait,
            retry=retry,
            passports_n=passports,
            workers=workers,
            ray=ray,
            compile=compile_,
            dtype=dtype,
            overlap=overlap,
        )
    show_answer(loaded, store, summary)
    if summary.failed or summary.stopped:
        more = given_options(model, without, budget)
        failed = [f"{n} {status}" for status, n in summary.made.items() if status != "ok"]
        counts = "; ".join(filter(None, (summary.stopped, ", ".join(failed))))
        raise IncompleteError(f"{counts}; the rest is done. See: promptlab status; again: promptlab run {study}{more}")


@app.command()
def score(
    study: StudyFile,
    home: HomeOption = None,
    model: ModelOption = None,
    without: WithoutOption = None,
    max_cells: MaxCells = 10_000,
) -> None:
    """Measure the pictures of a study that are there, and make none: after a new probe, or where there is no model."""
    from promptlab.cli.terminal import show_answer
    from promptlab.run import run_study
    from promptlab.store import Store

    loaded, store = chosen_study(study, model, without), Store(home)
    with Terminal() as terminal:
        summary = run_study(loaded, store, terminal, max_cells=max_cells, make=False)
    show_answer(loaded, store, summary)
    if summary.plan.missing:
        more = given_options(model, without)
        console.print(f"{len(summary.plan.missing):,} pictures are not made yet. Next: promptlab run {study}{more}")


@app.command()
def status(home: HomeOption = None, json_: JsonOption = False) -> None:
    """What studies there are, and how far each is."""
    from promptlab.store import Store

    show_studies(Store(home), json_)


@app.command(hidden=True)
def schema(path: Annotated[Path, typer.Argument()] = Path("studies/study.schema.json")) -> None:
    """Write the JSON Schema of study files, for editors."""
    from promptlab.study import write_schema

    write_schema(path)


for command in (
    models,
    attention,
    table,
    report,
    export,
    import_prompts,
    import_ratings,
    reproduce,
    passport,
    doctor,
    rebuild,
    publish,
    bench,
    claims,
    dashboard,
    lint,
    geometry,
    simulate,
):
    app.command()(command)
app.command("list")(list_)
app.command("import")(import_)
