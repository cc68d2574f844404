"""The commands of the miniature: train, evaluate, and assemble what ships."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptlab.cli.terminal import console

__all__ = ["miniature"]

miniature = typer.Typer(help="The shipped miniature: train it, evaluate it.", no_args_is_help=True)


@miniature.command()
def train(
    preset: Annotated[str, typer.Option(help="smoke, cpu, gpu, or a TOML file.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Where to train; the same folder goes on.")] = Path("miniature"),
    stages: Annotated[str, typer.Option(help="Some stages only, with commas: vae,parser,clip,denoiser,scorer.")] = "",
    warm: Annotated[Path | None, typer.Option(help="Go on from this miniature, such as data/miniature.")] = None,
) -> None:
    """Train the miniature from nothing; goes on where an interrupted training stopped."""
    from promptlab.miniature.train import STAGES, load_preset, train

    chosen = tuple(stages.split(",")) if stages else STAGES
    settings = load_preset(preset)
    if warm is not None:
        from promptlab.miniature.train import warm_start

        warm_start(warm, out, chosen, settings)
    train(settings, out, lambda line: console.print(line), chosen)
    console.print(f"trained: {out / 'pipeline'}. Next: promptlab miniature evaluate --folder {out}")


@miniature.command()
def evaluate(
    folder: Annotated[Path | None, typer.Option(help="A trained miniature; the shipped one if not given.")] = None,
    n: Annotated[int, typer.Option(min=10, help="Pictures a gate.")] = 500,
    out: Annotated[Path | None, typer.Option(help="Write the gates here, as JSON.")] = None,
) -> None:
    """Measure the gates of the model card: is the miniature good enough to study?"""
    from rich.table import Table

    from promptlab.cli.terminal import rate
    from promptlab.resources import shipped_folder
    from promptlab.run.miniature_gates import evaluate

    gates, figures = evaluate(folder or shipped_folder(), n, lambda line: console.print(line), out)
    table = Table(show_edge=False, pad_edge=False)
    for name in ("gate", "measured [95 % interval]", "n", "wanted", "met"):
        table.add_column(name)
    for g in gates:
        met = "" if g.met is None else "yes" if g.met else "NO"
        table.add_row(g.name, rate(g.rate, g.low, g.high), str(g.n), g.wanted, met)
    console.print(table)
    console.print(", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in figures.items()))


@miniature.command()
def ship(
    trained: Annotated[Path, typer.Option("--from", help="A finished training.")],
    to: Annotated[Path, typer.Option(help="The folder that ships.")] = Path("data/miniature"),
    preset: Annotated[str, typer.Option(help="The preset of that training.")] = "cpu",
) -> None:
    """Copy a finished training to what ships, with the counts of its pool and its loss curves."""
    from promptlab.miniature.train import load_preset, ship

    to.mkdir(parents=True, exist_ok=True)
    ship(trained, to, load_preset(preset))
    console.print(f"shipped to {to}. Next: promptlab miniature evaluate --out {to / 'gates.json'}")


@miniature.command()
def card(folder: Annotated[Path, typer.Option(help="The folder that ships.")] = Path("data/miniature")) -> None:
    """Draw the contact sheet and put the measured gates into the model card."""
    from promptlab.run.miniature_gates import contact_sheet, write_card

    contact_sheet(folder, folder / "contact_sheet.png", lambda line: console.print(line))
    write_card(folder)
    console.print(f"wrote {folder / 'README.md'} and {folder / 'contact_sheet.png'}")
