"""Commands that show results: lists, tables, a report, files for other programs, attention, the dashboard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from promptlab.cli.terminal import HomeOption, JsonOption, console, print_frame, print_json, print_raw, rows_of

__all__ = ["attention", "dashboard", "export", "list_", "report", "table"]

KINDS = ("studies", "probes", "backends", "findings", "presets")


def list_(
    what: Annotated[str, typer.Argument(help="studies, probes, backends, findings or presets.")] = "studies",
    folder: Annotated[Path, typer.Option(help="Where study files lie.")] = Path("studies"),
    json_: JsonOption = False,
) -> None:
    """List studies, probes, backends, findings or presets."""
    from promptlab.errors import PromptlabError, nearest

    if what not in KINDS:
        raise PromptlabError(f"nothing is listed as {what!r}: choose from {', '.join(KINDS)}{nearest(what, KINDS)}")
    rows = {
        "studies": lambda: _studies(folder),
        "probes": _probes,
        "backends": lambda: _plugins("backend"),
        "findings": lambda: _plugins("finding"),
        "presets": _presets,
    }[what]()
    if json_:
        print_json(rows)
        return
    for row in rows:
        name, *rest = _shown(row).values()
        console.print(f"{name}: {'; '.join(map(str, rest))}" if rest else str(name))
    if not rows:
        console.print(f"no study in {folder}. Next: promptlab init NAME" if what == "studies" else f"no {what}")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """The row, with the source and module of a plugin from outside alone."""
    if row.get("source") == "promptlab":
        return {key: value for key, value in row.items() if key not in ("source", "module")}
    return row


def _studies(folder: Path) -> list[dict[str, Any]]:
    from promptlab.errors import StudyError
    from promptlab.study.study import load_study

    rows = []
    for path in sorted(folder.glob("**/*.yaml")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):  # such as an editor's checkpoints
            continue
        try:
            rows.append({"file": str(path), "question": load_study(path).question})
        except StudyError as error:
            rows.append({"file": str(path), "question": f"cannot be used: {error}"})
    return rows


def _probes() -> list[dict[str, Any]]:
    """Probes with their measures. One from outside is not imported, so its measures are not known."""
    from promptlab import plugins

    rows = _plugins("probe")
    for row in rows:
        if row["source"] == "promptlab":
            row["measures"] = ", ".join(m.name for m in plugins.load("probe", row["name"]).measures)
    return rows


def _plugins(kind: str) -> list[dict[str, Any]]:
    from promptlab.plugins import registry

    return [{"name": one.name, "source": one.source, "module": one.module} for one in registry(kind).values()]


def _presets() -> list[dict[str, Any]]:
    from promptlab.miniature.train import presets

    return [{"name": name} for name in presets()]


def table(
    study: Annotated[str, typer.Argument(help="A study, by name.", show_default=False)],
    what: Annotated[
        str,
        typer.Argument(
            help="outcomes, leakage, means, effects, mixed, findings, judges, agreement, completeness or passports."
        ),
    ] = "outcomes",
    by: Annotated[str | None, typer.Option(help="An axis: one row a level.")] = None,
    measure: Annotated[str | None, typer.Option(help="For means: which measure.")] = None,
    home: HomeOption = None,
    json_: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="All columns as CSV, for a spreadsheet.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="All columns, however wide.")] = False,
) -> None:
    """Print a table of a study's results, with intervals and n."""
    from promptlab.errors import PromptlabError, nearest
    from promptlab.results import contrasts, findings, load, tables
    from promptlab.store import Store

    store = Store(home)
    make = {
        "outcomes": lambda: tables.outcome_shares(store, study, by),
        "leakage": lambda: tables.leakage(store, study),
        "means": lambda: tables.cell_means(store, study, measure or "", by or ""),
        "effects": lambda: tables.effects(store, study),
        "mixed": lambda: contrasts.mixed(store, study),
        "findings": lambda: findings.findings(store, study),
        "judges": lambda: tables.judges(store, study),
        "agreement": lambda: tables.agreements(store, study),
        "completeness": lambda: tables.completeness(store, study),
        "passports": lambda: tables.passports(store),
    }
    if what not in make:
        raise PromptlabError(f"no table is called {what!r}: choose from {', '.join(make)}{nearest(what, make)}")
    if sum((json_, csv, wide)) > 1:
        raise PromptlabError("--json, --csv and --wide are three ways to show all columns: choose one")
    found = load(study, home)
    if what == "means" and not (measure and by):
        raise PromptlabError("a table of means needs --measure and --by, as in: --measure colourfulness --by order")
    found.check_axis(by)
    frame = make[what]()
    if json_:
        print_json(rows_of(frame))
    elif csv:
        from promptlab.exchange.export import csv_text

        print_raw(csv_text(frame))
    elif not len(frame):
        console.print(f"table {what} of {study} is empty. See: promptlab table {study} completeness")
    else:
        print_frame(frame, wide)


def report(
    study: Annotated[str, typer.Argument(help="A study, by name.", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="The file to write; by default STUDY.html.")] = None,
    home: HomeOption = None,
) -> None:
    """Write a study's results as one HTML file, ready to mail."""
    from promptlab.results.report import write_report
    from promptlab.store import Store

    path = write_report(Store(home), study, to or Path(f"{study}.html"))
    console.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB, nothing outside it)", highlight=False)


def export(
    study: Annotated[str, typer.Argument(help="A study, by name.", show_default=False)],
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("export"),
    as_: Annotated[
        str, typer.Option("--as", help="Tables: parquet or csv. The winning prompt: a1111 or comfyui.")
    ] = "parquet",
    measure: Annotated[str | None, typer.Option(help="Measure that ranks the winner; by default accuracy.")] = None,
    axis: Annotated[str | None, typer.Option(help="Rank the levels of this axis, not whole prompts.")] = None,
    home: HomeOption = None,
) -> None:
    """Write a study's tables, or its winning prompt, to files.

    A spreadsheet takes no cell of a CSV file for a formula.
    """
    from promptlab.errors import PromptlabError
    from promptlab.exchange.export import PROGRAMS, export_winner
    from promptlab.exchange.export import export as write
    from promptlab.results import load
    from promptlab.store import Store

    if as_ not in PROGRAMS:
        if measure or axis:
            raise PromptlabError(f"--measure and --axis choose a winner, for --as {' or '.join(PROGRAMS)}")
        for path, rows in write(Store(home), study, to, as_).items():
            console.print(f"{path}: {rows:,} rows")
        return
    path, won, unsaid = export_winner(load(study, home), to, as_, measure, axis)
    for line in (won.says(), *(f"not said in it: {one}" for one in unsaid), f"wrote {path}"):
        console.print(line, markup=False, highlight=False)


def attention(
    what: Annotated[str, typer.Argument(help="A prompt, or the file of a traced study.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="Seed of a prompt's image.")] = 0,
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("attention.png"),
    thirds: Annotated[bool, typer.Option(help="Add maps of early, middle and late steps.")] = False,
    model: Annotated[str, typer.Option(help="The model, for a prompt.")] = "miniature",
    home: HomeOption = None,
) -> None:
    """Draw where each word of a prompt looks in its image.

    For a study with traced images, say what its attention is worth.
    """
    if what.endswith((".yaml", ".yml")):
        _figures(Path(what), home)
        return
    from promptlab.errors import DiskError
    from promptlab.run.tracing import sheet, word_maps

    found = word_maps(what, seed, model=model)
    page = sheet(found.picture, found.words, found.maps, f"{what}   ({model}, seed {seed})", thirds)
    try:
        page.save(out, "PNG")
    except (OSError, ValueError) as error:
        raise DiskError(f"{out} cannot be written ({error}); name another file with --out") from None
    console.print(f"wrote {out}: {', '.join(found.words)}")


def _figures(path: Path, home: Path | None) -> None:
    from promptlab.results.findings.attention import attention_figures
    from promptlab.results.words import with_interval
    from promptlab.store import Store
    from promptlab.study.study import load_study

    for figure in attention_figures(Store(home), load_study(path).name):
        one = figure.found
        if one.estimate is None:
            console.print(f"{figure.says}: not measured ({one.reason})")
            continue
        estimate = with_interval("{:+.3f}".format, one.estimate, one.low, one.high)
        n = f"n {one.n} pictures of {one.n_groups} prompts, {one.n_dropped} not measured"
        note = f"; {one.reason}" if one.reason else ""
        console.print(f"{figure.says}: {estimate}, chance {figure.chance:g} ({n}{note})")


def dashboard(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Show the results in a browser, on this machine alone.

    Ctrl-C ends it.
    """
    import tempfile

    from promptlab.resources import dashboard_script
    from promptlab.results import open_demo
    from promptlab.store.home import find_home

    where = find_home(home)
    script = dashboard_script()
    if home is None and not where.database.is_file():
        demo = open_demo(Path(tempfile.mkdtemp(prefix="promptlab-demo-")))
        if demo is not None:
            console.print(f"nothing was run at {where.path} yet, so this is the demo. Yours: promptlab run STUDY")
            where = demo.home
    console.print(f"http://127.0.0.1:{port} shows {where.path}; Ctrl-C ends it", highlight=False)
    argv = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
    argv += ["--server.headless", "false" if browser else "true"]
    done = subprocess.run(argv, env={**os.environ, "PROMPTLAB_HOME": str(where.path.resolve())}, check=False)
    if done.returncode not in (0, 130, -2):
        raise typer.Exit(1)
