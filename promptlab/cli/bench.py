"""The command that measures promptlab itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptlab.cli.terminal import console

if TYPE_CHECKING:
    from promptlab.bench import Figure
    from promptlab.bench.timing import Timing

__all__ = ["bench"]


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="all, generate, score, overhead, plan, store, start, workers; dashboard, precision (minutes, not in "
            "all); or gpu and, to leave others out, its parts (speed, loop, guidance, study, memory) and shapes "
            "(sd15, sdxl, sd35, flux).",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is measured; the median counts.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="For dashboard, precision: where stores are kept.", show_default=False)
    ] = None,
    pictures: Annotated[int, typer.Option(min=240, help="For dashboard: pictures in its store.")] = 100_000,
    study: Annotated[Path, typer.Option(help="For precision: the study.")] = Path("studies/attribute_binding.yaml"),
    json_: Annotated[bool, typer.Option("--json", help="One JSON object, for a machine.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="gpu: tiny, on the CPU; so it is without CUDA.")] = False,
) -> None:
    """Measure promptlab against what one would write by hand, on this machine; `gpu`: models of real shape on a GPU."""
    import json
    from dataclasses import asdict

    from promptlab.bench import BENCHES, LONG, machine
    from promptlab.bench import bench as measure

    if what and what[0] == "gpu":
        _gpu(what[1:], dry, json_)
        return
    names = [name for name in BENCHES if name not in LONG] if what in (None, [], ["all"]) else what or []
    figures = []
    for name in names:
        own: dict[str, dict[str, Any]] = {"dashboard": {"pictures": pictures}, "precision": {"study": study}}
        options = {"folder": folder, **own[name]} if name in own else {}
        for figure in measure(name, repeats, **options):
            figures.append(figure)
            if not json_:
                _show(figure)
    if json_:
        shown = [{**asdict(figure), "met": figure.met} for figure in figures]
        console.print(json.dumps({"machine": machine(), "repeats": repeats, "figures": shown}, indent=1))
    else:
        console.print("machine: " + _listed(machine()))


def _show(figure: Figure) -> None:
    goal = "no goal" if figure.goal is None else f"goal {'>=' if figure.at_least else '<='} {figure.goal:g}"
    met = {None: "", True: ", met", False: ", NOT met"}[figure.met]
    console.print(f"{figure.name}: {_short(figure.value)} {figure.unit} ({goal}{met})")
    if figure.detail:
        console.print("  " + _listed(figure.detail))


def _listed(detail: dict[str, float | str]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in detail.items())


def _gpu(asked: Sequence[str], dry: bool, json_: bool) -> None:
    """Figures as they come, so that a run that is cut off has said what it found."""
    import json
    from dataclasses import asdict

    import torch

    from promptlab.bench import Figure, machine
    from promptlab.bench.gpu import DRY_RUN, bench_gpu

    dry = dry or not torch.cuda.is_available()
    found: Iterable[Figure | Timing] = bench_gpu(asked, dry)
    if json_:
        rows = [{**asdict(one), **({"met": one.met} if isinstance(one, Figure) else {})} for one in found]
        console.print(json.dumps({"machine": machine(), "dry_run": dry, "rows": rows}, indent=1))
        return
    if dry:
        console.print(DRY_RUN)
    headed = False
    for one in found:
        if isinstance(one, Figure):
            _show(one)
            headed = False
            continue
        if not headed:
            heads = ("step ms", "images/s", "TFLOP/s", "of ceiling", "GB")
            console.print(f"{'model':6}{'batch':>6} {'way':30}" + "".join(f"{head:>11}" for head in heads))
            headed = True
        _show_timing(one)
    console.print(("dry run: " if dry else "") + "machine: " + _listed(machine()))


def _show_timing(one: Timing) -> None:
    line = f"{one.shape:6}{one.batch:6d} {one.way:30}"
    if one.step is None or one.pictures is None or one.flops is None or one.share is None:
        console.print(f"{line}  {one.note}")
        return
    memory = "-" if one.memory is None else f"{one.memory / 1e9:.1f}"
    cells = (f"{1e3 * one.step:.2f}", f"{one.pictures:.3g}", f"{one.flops / 1e12:.3g}", f"{one.share:.0%}", memory)
    console.print(line + "".join(f"{cell:>11}" for cell in cells) + (f"  {one.note}" if one.note else ""))


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
