"""The commands of the store and of trust: doctor, rebuild, publish, passport.

The command that shows why the prompt is the unit of inference: findings where there is nothing to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from promptlab.cli.terminal import HomeOption, JsonOption, Terminal, console, frame_table, print_json, rate

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.records import Passport

__all__ = ["doctor", "passport", "publish", "rebuild", "simulate"]


def doctor(home: HomeOption = None) -> None:
    """Look for what is wrong with journals, pictures and database; changes nothing."""
    from promptlab.store import Store

    findings = Store(home).doctor()
    for finding in findings:
        console.print(str(finding))
    grave = [finding for finding in findings if not finding.harmless]
    console.print("nothing is wrong" if not grave else f"{len(grave)} findings. Next: promptlab rebuild")
    raise typer.Exit(1 if grave else 0)


def rebuild(home: HomeOption = None) -> None:
    """Set aside what is damaged, say what is lost, and build the database anew from the journals."""
    from promptlab.store import Store

    console.print(str(Store(home).rebuild()))


def publish(home: HomeOption = None) -> None:
    """Build the database from the journals."""
    from promptlab.store import Store

    console.print(f"published {Store(home).publish()}")


def passport(
    probes: Annotated[list[str] | None, typer.Argument(help="Probes; all if none is named.")] = None,
    n: Annotated[int, typer.Option(min=20, help="Rendered pictures a cell.")] = 400,
    every: Annotated[bool, typer.Option("--all", help="Every probe whose judge is on this disk.")] = False,
    recover: Annotated[
        bool, typer.Option("--recover", help="Instead: are hidden rates of faults recovered from what a probe says?")
    ] = False,
    trials: Annotated[int, typer.Option(min=1, help="With --recover: how many triples of hidden rates.")] = 20,
    pictures: Annotated[int, typer.Option(min=20, help="With --recover: pictures a trial.")] = 200,
    home: HomeOption = None,
) -> None:
    """Measure on pictures of known truth how far each probe can be trusted."""
    from promptlab import plugins
    from promptlab.analyzer.passports import passports
    from promptlab.errors import ModelError, PromptlabError
    from promptlab.store import Store

    if probes and every:
        raise PromptlabError("either name probes, or give --all")
    if recover:
        _recover(probes or ["binding"], trials, pictures, n)
        return
    store = Store(home)
    measured: list[Passport] = []
    with store.open_run("passports") as run, Terminal() as terminal:
        for name in probes or plugins.names("probe"):
            try:
                rows = passports(plugins.load("probe", name), n, progress=terminal)
            except ModelError as error:
                if probes:
                    raise
                terminal.say(f"{name}: no passport, {error}")
                continue
            run.add(*rows)
            measured += rows
            terminal.say(f"{name}: {len(rows)} passports")
    store.publish()
    console.print(frame_table(_with_intervals(measured)))
    console.print("95 % intervals: Wilson; J Newcombe; AUC DeLong. Below Youden J 0.5 a probe reports no rate.")


def _with_intervals(rows: Sequence[Passport]) -> pd.DataFrame:
    import pandas as pd

    def shown(value: float | None, bounds: Sequence[float] | None) -> str:
        if value is None or bounds is None:
            return "-"
        return f"{value:.2f} [{bounds[0]:.2f}, {bounds[1]:.2f}]"

    out = []
    for row in rows:
        told = "counts" in row.detail  # else one of the two truths was never measured
        se, sp = (row.sensitivity_low, row.sensitivity_high), (row.specificity_low, row.specificity_high)
        out.append(
            {
                "probe": row.probe.split("-")[0],
                "family": row.family,
                "n": row.n,
                "Se": shown(row.sensitivity, se if told else None),
                "Sp": shown(row.specificity, sp if told else None),
                "J": shown(row.youden, row.detail.get("youden_interval")),
                "AUC": shown(row.auc, row.detail.get("auc_interval")),
            }
        )
    return pd.DataFrame(out, columns=["probe", "family", "n", "Se", "Sp", "J", "AUC"])


def _recover(probes: Sequence[str], trials: int, pictures: int, calibration: int) -> None:
    import pandas as pd

    from promptlab import plugins
    from promptlab.analyzer.passports import FAULTS, recover
    from promptlab.errors import PromptlabError

    for name in probes:
        try:
            with Terminal() as told:
                probe = plugins.load("probe", name)
                counts = {"trials": trials, "pictures": pictures, "calibration": calibration}
                rows = list(recover(probe, **counts, progress=told))
        except ValueError as error:
            raise PromptlabError(str(error)) from None
        shown = [
            {
                "trial": row.trial + 1,
                "fault": row.fault,
                "hidden rate": f"{row.rate:.3f}",
                "said": f"{row.said:.3f} [{row.said_low:.3f}, {row.said_high:.3f}]{'' if row.said_covers else ' *'}",
                "corrected": row.reason
                if row.corrected is None or row.low is None or row.high is None
                else f"{row.corrected:.3f} [{row.low:.3f}, {row.high:.3f}]{'' if row.covers else ' *'}",
            }
            for row in rows
        ]
        console.print(frame_table(pd.DataFrame(shown)))
        for fault in FAULTS:
            own = [row for row in rows if row.fault == fault]
            raw, mended = (sum(bool(getattr(row, what)) for row in own) for what in ("said_covers", "covers"))
            off = [
                sum(abs(value - row.rate) for row in own if (value := getattr(row, what)) is not None) / len(own)
                for what in ("said", "corrected")
            ]
            console.print(
                f"{name}, {fault}: the corrected interval holds the hidden rate in {mended} of {len(own)} trials "
                f"(mean distance {off[1]:.3f}), the uncorrected one in {raw} ({off[0]:.3f})"
            )
    console.print(
        f"* does not hold the hidden rate. {pictures} pictures a trial, {calibration} an outcome to calibrate."
    )


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
    from promptlab.stats.paired import wilson
    from promptlab.stats.power import false_positive_rate

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
