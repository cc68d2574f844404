"""The command that shows where words look: a heat map of one prompt, or the figures of a traced study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptlab.cli.options import HomeOption
from promptlab.cli.say import console

__all__ = ["attention"]


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
    from promptlab.heatmaps import sheet
    from promptlab.tracing import word_maps

    found = word_maps(what, seed, model=model)
    page = sheet(found.picture, found.words, found.maps, f"{what}   ({model}, seed {seed})", thirds)
    try:
        page.save(out, "PNG")
    except (OSError, ValueError) as error:
        raise DiskError(f"{out} cannot be written ({error}); name another file with --out") from None
    console.print(f"wrote {out}: {', '.join(found.words)}")


def _figures(path: Path, home: Path | None) -> None:
    from promptlab.attention_answer import attention_figures
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
