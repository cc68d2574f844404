"""Commands for what others made: images, prompts, ratings, published results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptlab.cli.study import show_plan
from promptlab.cli.terminal import BudgetOption, HomeOption, StudyFile, Terminal, console, repeated_options

if TYPE_CHECKING:
    from promptlab.exchange.imports import Imported

__all__ = ["import_", "import_prompts", "import_ratings", "reproduce"]

Name = Annotated[str, typer.Option("--name", help="Name of the new study.", show_default=False)]
Into = Annotated[Path, typer.Option("--into", help="Where to write the study.")]
Again = Annotated[bool, typer.Option("--again", help="Replace the study if it exists.")]
Probes = Annotated[str, typer.Option("--probes", help="Probes of the study, separated by commas.")]


def import_(
    folder: Annotated[Path, typer.Argument(help="Folder of images made elsewhere.", show_default=False)],
    name: Name,
    layout: Annotated[
        str | None, typer.Option(help="manifest, geneval, t2i_compbench or notes; by default detected.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="CSV or JSONL: file, prompt; also seed, model, settings, row and col.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Published list: its prompts take its claims.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that made the images.")] = None,
    probes: Probes = "exposure,clip_similarity,binding",
    into: Into = Path("studies"),
    again: Again = False,
) -> None:
    """Write a study of images that were made elsewhere.

    `promptlab run` then takes them in and scores them.
    """
    from promptlab.exchange.imports import import_pictures

    chosen = tuple(part.strip() for part in probes.split(",") if part.strip())
    done = import_pictures(
        folder, name, into, layout=layout, manifest=manifest, prompts=prompts, model=model, probes=chosen, again=again
    )
    seeds = "with their own seeds" if done.seeds_kept else "pictures of one prompt numbered"
    console.print(f"{done.pictures} pictures of {done.prompts} prompts, layout {done.layout}, {seeds}")
    for file, why in done.skipped[:5]:
        console.print(f"  left out: {file}: {why}")
    if len(done.skipped) > 5:
        console.print(f"  and {len(done.skipped) - 5} more files are left out")
    _print_next(done)


def import_prompts(
    prompts: Annotated[
        Path, typer.Argument(help="List of prompts: one a line, or GenEval's JSONL.", show_default=False)
    ],
    name: Name,
    form: Annotated[str | None, typer.Option("--format", help="lines, geneval or pictures.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only prompts of this tag, such as color_attr; repeat it for several.")
    ] = None,
    model: Annotated[str, typer.Option(help="The model that makes the images.")] = "miniature",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Images a prompt.")] = 4,
    probes: Probes = "exposure,clip_similarity,binding",
    into: Into = Path("studies"),
    again: Again = False,
) -> None:
    """Write a study of a list of prompts.

    The list stays where it is.
    """
    from promptlab.exchange.imports import import_prompts as write

    chosen = tuple(part.strip() for part in probes.split(",") if part.strip())
    tags = {"tag": only} if only else None
    done = write(prompts, name, into, form=form, only=tags, model=model, seeds=seeds, probes=chosen, again=again)
    console.print(f"{done.prompts} prompts, format {done.layout}")
    _print_next(done)


def import_ratings(
    annotations: Annotated[Path, typer.Argument(help="CSV of GenEval's human annotations.", show_default=False)],
    prompts: Annotated[
        Path, typer.Option(help="GenEval's evaluation_metadata.jsonl, with what was requested.", show_default=False)
    ],
    name: Name = "human_ratings",
    model: Annotated[str, typer.Option(help="The model that made the images.")] = "unknown",
    study: Annotated[Path | None, typer.Option(help="Study of the rated images, from promptlab import.")] = None,
    home: HomeOption = None,
) -> None:
    """Put human ratings into the database, as a probe's scores."""
    from promptlab.exchange.ratings import import_ratings as take
    from promptlab.store import Store
    from promptlab.study.study import load_study

    store = Store(home)
    done = take(annotations, prompts, store, name, model=model, study=load_study(study) if study else None)
    console.print(f"{done.judgements} judgements of {done.pictures} pictures, in the study {done.study}")
    for tag, counts in sorted(done.outcomes.items()):
        a = done.agreement[tag]
        alpha = "-" if a.alpha is None else f"{a.alpha:.2f}"
        if a.low is not None and a.high is not None:
            alpha += f" [{a.low:.2f}, {a.high:.2f}]"
        counted = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
        console.print(f"  {tag}: {counted}; Krippendorff's alpha {alpha} ({a.n_units} pictures)")
    console.print(f"results: {store.home.database}, probe human in the views scored and outcomes")


def reproduce(
    study: StudyFile,
    home: HomeOption = None,
    model: Annotated[str | None, typer.Option(help="Another model than the study's: a folder on disk.")] = None,
    measure: Annotated[str | None, typer.Option(help="Compare this probe.measure, in place of the study's.")] = None,
    budget: BudgetOption = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=1024, help="Images a call of the model.")] = None,
) -> None:
    """Run a published study, and compare with its results."""
    from promptlab.claims.published import as_measured, compare, sentences
    from promptlab.run import run_study
    from promptlab.run.options import RunOptions
    from promptlab.run.plan import check_paid, plan_study
    from promptlab.store import Store
    from promptlab.study.study import load_study, with_budget

    written = load_study(study)
    chosen = as_measured(written, measure, model)
    chosen = chosen if budget is None else with_budget(chosen, budget)
    store = Store(home)
    planned = plan_study(chosen, store)
    show_plan(planned)
    check_paid(planned.cost)
    with Terminal() as terminal:
        summary = run_study(chosen, store, RunOptions(batch_size=batch_size), terminal, planned)
    for comparison in compare(chosen, store):
        for line in sentences(comparison, written):
            console.print(line)
    if summary.failed or summary.stopped:
        from promptlab.errors import IncompleteError

        why = summary.stopped or f"{summary.failed} pictures failed"
        again = f"{study}{repeated_options(model, None, budget)}{f' --measure {measure}' if measure else ''}"
        raise IncompleteError(f"{why}, the rest is done; again: promptlab reproduce {again}")


def _print_next(done: Imported) -> None:
    console.print(
        f"  {done.declared} prompts declare their objects; {done.twins} have their swapped twin in the list "
        f"({done.twins // 2} pairs)"
    )
    console.print(f"wrote {done.path}. Next: promptlab run {done.path}")
