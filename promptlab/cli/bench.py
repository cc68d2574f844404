"""The command that measures promptlab itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptlab.cli.say import console

__all__ = ["bench"]


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="all, generate, score, overhead, plan, store, start, workers; dashboard (minutes, not in all).",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is measured; the median counts.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="For dashboard: where its store is kept, and found again.", show_default=False)
    ] = None,
    pictures: Annotated[int, typer.Option(min=240, help="For dashboard: pictures in its store.")] = 100_000,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object, for a machine.")] = False,
) -> None:
    """Measure promptlab against what one would write by hand, on this machine."""
    import json
    from dataclasses import asdict

    from promptlab.bench import BENCHES, LONG, machine
    from promptlab.bench import bench as measure

    names = [name for name in BENCHES if name not in LONG] if what in (None, [], ["all"]) else what or []
    figures = []
    for name in names:
        options = {"folder": folder, "pictures": pictures} if name == "dashboard" else {}
        for figure in measure(name, repeats, **options):
            figures.append(figure)
            if json_:
                continue
            goal = "no goal" if figure.goal is None else f"goal {'>=' if figure.at_least else '<='} {figure.goal:g}"
            met = {None: "", True: ", met", False: ", NOT met"}[figure.met]
            console.print(f"{figure.name}: {_short(figure.value)} {figure.unit} ({goal}{met})")
            if figure.detail:
                console.print(
                    "  " + ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in figure.detail.items())
                )
    if json_:
        shown = [{**asdict(figure), "met": figure.met} for figure in figures]
        console.print(json.dumps({"machine": machine(), "repeats": repeats, "figures": shown}, indent=1))
    else:
        console.print("machine: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine().items()))


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
