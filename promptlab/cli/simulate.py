"""The command that shows why the prompt is the unit of inference: findings where there is nothing to find."""

from __future__ import annotations

from typing import Annotated

import typer

from promptlab.cli.options import JsonOption
from promptlab.cli.say import console, print_json, rate

__all__ = ["simulate"]

SEEDS = (1, 4, 16)


def simulate(
    prompts: Annotated[int, typer.Option(min=2, max=500, help="Prompt families of a study.")] = 24,
    seeds: Annotated[
        list[int] | None, typer.Option(min=1, max=500, help="Seeds; give it several times.", show_default="1, 4, 16")
    ] = None,
    tau: Annotated[
        float, typer.Option(min=0, max=0.5, help="Standard deviation over prompts of the true difference.")
    ] = 0.25,
    studies: Annotated[int, typer.Option(min=20, max=100_000, help="How many are drawn.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Draw studies without an effect and count false findings: by a test over pictures, and by ours over prompts."""
    import numpy as np
    from rich.table import Table

    from promptlab.errors import PromptlabError
    from promptlab.simulations import false_positive_rate
    from promptlab.stats import wilson

    rows = []
    for m in seeds or SEEDS:
        try:
            # rates that a spread of tau keeps inside 0 and 1
            found = false_positive_rate(
                n_prompts=prompts,
                n_seeds=m,
                tau=tau,
                spread=min(0.15, max(0.0, 0.28 - tau / 2)),
                simulations=studies,
                rng=np.random.default_rng([seed, m]),
            )
        except ValueError as error:
            raise PromptlabError(str(error)) from None
        bounds = {kind: wilson(round(getattr(found, kind) * studies), studies) for kind in ("image_level", "mixed")}
        row = {"prompts": prompts, "seeds": m, "tau": tau, "studies": studies}
        row |= {"over_prompts": found.paired, "over_prompts_low": found.low, "over_prompts_high": found.high}
        for name, kind in (("over_pictures", "image_level"), ("by_mixed_model", "mixed")):
            row |= {name: getattr(found, kind), f"{name}_low": bounds[kind][0], f"{name}_high": bounds[kind][1]}
        rows.append(row)
    if json_:
        print_json(rows)
        return
    table = Table(show_edge=False, pad_edge=False)
    for name in ("prompts", "seeds", "false findings, test over pictures", "test over prompts (ours)", "mixed model"):
        table.add_column(name, justify="right")
    for row in rows:
        kinds = ("over_pictures", "over_prompts", "by_mixed_model")
        said = (rate(*(row[f"{kind}{end}"] for end in ("", "_low", "_high"))) for kind in kinds)
        table.add_row(str(row["prompts"]), str(row["seeds"]), *said)
    console.print(
        f"{studies} studies a line; no effect on average, but prompts differ (sd {tau:g}) in which arm they favour. "
        "At p < 0.05 a sound test finds something in 5 % of them:"
    )
    console.print(table)
    console.print("Pictures of one prompt resemble each other: counted singly, they make chance look like a finding.")
