"""The command that reads a prompt as a model does, and makes no picture."""

from __future__ import annotations

from typing import Annotated

import typer

from promptlab.cli.options import HomeOption, JsonOption
from promptlab.cli.say import console, print_json

__all__ = ["lint"]


def lint(
    prompt: Annotated[str, typer.Argument(help="The prompt, in quotes.", show_default=False)],
    model: Annotated[str, typer.Option(help="As in a study: miniature, a folder, or OWNER/NAME.")] = "miniature",
    home: HomeOption = None,
    json_: JsonOption = False,
) -> None:
    """Read a prompt as a model does, without a picture: tokens, what is cut, what says nothing, what is confused."""
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from promptlab.lint import advice, verdicts
    from promptlab.lint import lint as read
    from promptlab.store import Store

    found = read(prompt, model)
    told = advice(found, verdicts(Store(home)))
    if json_:
        print_json({**asdict(found), "silent": found.silent, "advice": [{"claim": c, "advice": a} for c, a in told]})
        return
    for one in found.encoders:
        lost = f"; it does not read: {one.lost}" if one.lost else ""
        console.print(Text(f"{one.encoder}: {one.total} tokens of {one.limit}{lost}"))
    table = Table(show_edge=False, pad_edge=False)
    for name in ("word", "token", "tokens", "read", "reach"):
        table.add_column(name)
    for word in found.words:
        reach = "" if word.reach is None else f"{word.reach:.3f}"
        table.add_row(Text(word.text), str(word.slot), str(word.tokens), "yes" if word.kept else "NO", reach)
    console.print(table)
    if found.unknown:
        console.print(Text(f"the miniature never learned: {', '.join(found.unknown)}"))
    if found.silent:
        console.print(Text(f"says next to nothing to the encoder: {', '.join(found.silent)}"))
    if found.order is not None:
        told_apart = "hardly tells" if found.order < 1 else "tells"
        console.print(
            Text(f"the encoder {told_apart} it from {found.swapped!r}: that differs {found.order:.2f} times as much as")
        )
        console.print("the same prompt with its objects named in the other order, which means the same")
    if found.reason:
        console.print(Text(found.reason))
    for claim, line in told:
        console.print(Text(f"{claim}: {line}"))
    if not told:
        console.print("no advice: no settled claim speaks of this prompt (promptlab claims settles them)")
