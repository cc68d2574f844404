"""The command that shows what a text encoder's states are arranged by, without a picture."""

from __future__ import annotations

from typing import Annotated

import typer

from promptlab.cli.options import JsonOption
from promptlab.cli.say import console, print_json

__all__ = ["geometry"]


def geometry(
    model: Annotated[
        str,
        typer.Option(
            help="miniature, miniature-bag, miniature-scorer, a pipeline, local-dir:/path, an open_clip name."
        ),
    ] = "miniature",
    checkpoint: Annotated[str | None, typer.Option(help="Weights of an open_clip name: a safetensors file.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="colours, poses or verbs; several times for several.", show_default="by the model"),
    ] = None,
    permutations: Annotated[int, typer.Option(min=19, max=100_000, help="For the p-value of the word.")] = 999,
    json_: JsonOption = False,
) -> None:
    """Show what a text encoder arranges phrases by: variance by noun and word, clusters, a probe, order."""
    from dataclasses import asdict

    from rich.table import Table

    from promptlab.model_tables import reports as measured
    from promptlab.text_grids import measure_primacy

    reports = measured(model, grid, checkpoint, permutations)
    order = measure_primacy(model, checkpoint=checkpoint)
    if json_:
        print_json({"model": model, "grids": [asdict(one) for one in reports], "primacy": order})
        return
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(f"text states of {model}")
    for one in reports:
        g = one.geometry
        state = "pooled" if one.at == "pooled" else "noun's token"
        table.add_column(f"{one.grid}, {state} ({g.n_nouns} x {g.n_words} x {g.n_frames})", justify="right")
    for label, values in _rows([one.geometry for one in reports]):
        table.add_row(label, *values)
    console.print(table)
    interval = "" if order["low"] is None else f" [{order['low']:+.3f}, {order['high']:+.3f}]"
    console.print(
        f"text primacy {order['mean']:+.3f}{interval} over {order['n']} pairs of things: above 0, the first-named has "
        "more of the pooled state"
    )


def _rows(found: list) -> list[tuple[str, list[str]]]:  # type: ignore[type-arg]
    def say(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return [
        ("variance by noun", [say(g.partition.noun) for g in found]),
        ("variance by word", [f"{say(g.partition.word)} (p {g.partition.p:.2g})" for g in found]),
        ("variance by noun x word", [say(g.partition.noun_word) for g in found]),
        ("variance by frame", [say(g.partition.frame) for g in found]),
        ("by word within a noun (chance)", [f"{say(g.word_inside)} ({say(g.word_inside_chance)})" for g in found]),
        ("word read off other nouns (chance)", [f"{say(g.probe)} ({say(g.probe_chance)})" for g in found]),
        ("additivity", [say(g.additivity) for g in found]),
        ("silhouette of word within a noun", [say(g.silhouette_inside) for g in found]),
        ("silhouette of word over all", [say(g.silhouette_everywhere) for g in found]),
        ("clusters follow word, noun (ARI)", [f"{say(g.ari_word)}, {say(g.ari_noun)}" for g in found]),
    ]
