"""The commands that show what there is: list, table, export.

The command that shows where words look: a heat map of one prompt, or the figures of a traced study.

The command that opens the dashboard: Streamlit on this machine alone, on the store of a home.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from promptlab.cli.terminal import HomeOption, JsonOption, console, frame_table, print_json, rows_of

__all__ = ["attention", "dashboard", "export", "list_", "report", "table"]

KINDS = ("studies", "probes", "backends", "presets")


def list_(
    what: Annotated[str, typer.Argument(help="studies, probes, backends or presets.")] = "studies",
    folder: Annotated[Path, typer.Option(help="Where study files lie.")] = Path("studies"),
    json_: JsonOption = False,
) -> None:
    """Say what can be run: study files with their questions, probes with their measures, backends, presets."""
    from promptlab.errors import PromptlabError, nearest

    if what not in KINDS:
        raise PromptlabError(f"nothing is listed as {what!r}: choose from {', '.join(KINDS)}{nearest(what, KINDS)}")
    rows = {
        "studies": lambda: _studies(folder),
        "probes": _probes,
        "backends": _backends,
        "presets": _presets,
    }[what]()
    if json_:
        print_json(rows)
        return
    for row in rows:
        name, *rest = row.values()
        console.print(f"{name}: {'; '.join(map(str, rest))}" if rest else str(name))
    if not rows:
        console.print(f"no study in {folder}. Next: promptlab init NAME")


def _studies(folder: Path) -> list[dict[str, Any]]:
    from promptlab.errors import StudyError
    from promptlab.study import load_study

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
    from promptlab import plugins

    loaded = {name: plugins.load("probe", name) for name in plugins.names("probe")}
    return [{"name": name, "measures": ", ".join(m.name for m in probe.measures)} for name, probe in loaded.items()]


def _backends() -> list[dict[str, Any]]:
    from promptlab import plugins

    return [{"name": name} for name in plugins.names("backend")]


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
) -> None:
    """Print a table of a study, with n and intervals, from the database."""
    from promptlab.errors import PromptlabError, nearest
    from promptlab.results import contrasts, findings, tables
    from promptlab.store import Store

    store = Store(home)
    made = {
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
    if what not in made:
        raise PromptlabError(f"no table is called {what!r}: choose from {', '.join(made)}{nearest(what, made)}")
    known = tables.studies(store)["study"].tolist()
    if study not in known:
        raise PromptlabError(f"no study called {study!r} was run: there are {', '.join(known)}{nearest(study, known)}")
    if what == "means" and not (measure and by):
        raise PromptlabError("a table of means needs --measure and --by, as in: --measure colourfulness --by order")
    _known_axis(store, study, by)
    frame = made[what]()
    if json_:
        print_json(rows_of(frame))
    elif not len(frame):
        console.print(f"table {what} of {study} is empty. See: promptlab table {study} completeness")
    else:
        console.print(frame_table(frame.dropna(axis="columns", how="all")))


def _known_axis(store: Any, study: str, by: str | None) -> None:
    from promptlab.errors import PromptlabError, nearest

    axes = store.query("SELECT DISTINCT axis FROM level WHERE study = ? ORDER BY 1", [study])["axis"].tolist()
    if by is not None and by not in axes:
        raise PromptlabError(f"{study} has no axis {by!r}: it has {', '.join(axes)}{nearest(by, axes)}")


def report(
    study: Annotated[str, typer.Argument(help="A study, by name.", show_default=False)],
    to: Annotated[Path | None, typer.Option(help="The file to write; STUDY.html if not given.")] = None,
    home: HomeOption = None,
) -> None:
    """Write one HTML file of a study that can be mailed: answer, figures, best and worst pictures, methods."""
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
    measure: Annotated[str | None, typer.Option(help="What the winner wins by; accuracy if not given.")] = None,
    axis: Annotated[str | None, typer.Option(help="The winner among its levels; whole prompts if not given.")] = None,
    home: HomeOption = None,
) -> None:
    """Write a study's tables, or its winning prompt, to files that other programs read; CSV holds no formula."""
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
    seed: Annotated[int, typer.Option(min=0, help="Of a prompt's picture.")] = 0,
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("attention.png"),
    thirds: Annotated[bool, typer.Option(help="Early, middle and late steps apart as well.")] = False,
    model: Annotated[str, typer.Option(help="A model, for a prompt.")] = "miniature",
    home: HomeOption = None,
) -> None:
    """Draw where each word of a prompt looks; or, for a study with traced pictures, say what its attention is worth."""
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
    from promptlab.store import Store
    from promptlab.study import load_study

    for figure in attention_figures(Store(home), load_study(path).name):
        one = figure.found
        if one.estimate is None:
            console.print(f"{figure.says}: not measured ({one.reason})")
            continue
        between = "" if one.low is None else f" [{one.low:+.3f}, {one.high:+.3f}]"
        n = f"n {one.n} pictures of {one.n_groups} prompts, {one.n_dropped} not measured"
        also = f"; {one.reason}" if one.reason else ""
        console.print(f"{figure.says}: {one.estimate:+.3f}{between}, chance {figure.chance:g} ({n}{also})")


def dashboard(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open a browser at it.")] = True,
) -> None:
    """Look at the results in a browser: pictures, curves, outcomes, on this machine alone. Ctrl-C ends it."""
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
