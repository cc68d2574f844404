"""The command that settles claims about prompting, and says the verdicts."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptlab.cli.terminal import HomeOption, JsonOption, Terminal, console, print_json

if TYPE_CHECKING:
    from promptlab.claims import Claim, Settled

__all__ = ["claims"]


def claims(
    only: Annotated[list[str] | None, typer.Argument(help="Some claims by id, such as C5c; all if none.")] = None,
    home: HomeOption = None,
    folder: Annotated[Path | None, typer.Option(help="Claims of your own, in place of those that ship.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what would be settled, and run nothing.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, max=1024, help="Pictures a call of the model.")] = None,
    json_: JsonOption = False,
) -> None:
    """Run what the claims about prompting need, and give a verdict on each. Run again to go on or to see them again."""
    from promptlab.claims import load_claims, run_claims
    from promptlab.claims.figures import write_figures
    from promptlab.progress import Silent
    from promptlab.store import Store

    everything = load_claims(folder)
    chosen = load_claims(folder, only or ())
    if list_:
        _list(chosen)
        return
    store = Store(home)
    with nullcontext(Silent()) if json_ else Terminal() as told:  # JSON stands alone on the output
        settled = run_claims(store, chosen, told, family=everything, batch_size=batch_size)
    paths = write_figures(settled, store.home.path / "claims")
    if json_:
        print_json([_row(one) for one in settled])
        return
    _show(settled)
    console.print(f"a figure each in {paths[0].parent}. Next: promptlab dashboard", highlight=False)


def _row(one: Settled) -> dict[str, object]:
    effect = one.effect
    row: dict[str, object] = {"id": one.claim.id, "claim": one.claim.claim, "verdict": one.verdict}
    row |= {"estimate": effect.estimate, "low": effect.low, "high": effect.high, "p_adjusted": effect.p_adjusted}
    row |= {"unit": one.claim.unit, "margin": one.claim.margin, "expects": one.claim.expects, "tier": one.tier}
    return row | {"n": effect.n_groups, "n_pairs": effect.n_pairs, "reason": effect.reason}


def _list(chosen: tuple[Claim, ...]) -> None:
    for claim in chosen:
        what = claim.analysis or f"{claim.contrast} of {Path(claim.study or '').name}"
        console.print(
            f"{claim.id}: {claim.claim}\n    {claim.design} ({what}; expects {claim.expects})", highlight=False
        )


def _show(settled: tuple[Settled, ...]) -> None:
    from rich.table import Table

    from promptlab.results.report import tiers_in_words

    table = Table(show_edge=False, pad_edge=False)
    for name in ("", "claim", "verdict", "difference [95 % interval]", "n"):
        table.add_column(name)
    for one in settled:
        e = one.effect
        found = "exact" if one.claim.expects == "exactly" and e.estimate is not None else e.reason or "not measured"
        if e.estimate is not None and e.low is not None and e.high is not None:
            found = f"{e.estimate:+.3g} [{e.low:+.3g}, {e.high:+.3g}] {one.claim.unit}"
        table.add_row(one.claim.id, one.claim.claim, one.verdict, found, str(e.n_groups or ""))
    tiers = ", ".join(sorted({tier for one in settled for tier in one.tier.split(", ")}))
    console.print(f"tier {tiers_in_words(tiers)}; n: units of inference, not pictures", highlight=False)
    console.print(table)
