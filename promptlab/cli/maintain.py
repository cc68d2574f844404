"""Commands that keep promptlab trustworthy: the store, passports of probes, speed, and the shipped miniature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from promptlab.cli.terminal import HomeOption, JsonOption, Terminal, console, print_frame, print_json, rate

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.bench import Measured
    from promptlab.bench.shapes import Timing
    from promptlab.records import Passport

__all__ = ["bench", "doctor", "miniature", "passport", "publish", "rebuild", "show_figure", "simulate"]


def doctor(home: HomeOption = None) -> None:
    """Look for damage in journals, images and database."""
    from promptlab.store import Store

    findings = Store(home).doctor()
    for finding in findings:
        console.print(str(finding))
    grave = [finding for finding in findings if not finding.harmless]
    console.print("nothing is wrong" if not grave else f"{len(grave)} findings. Next: promptlab rebuild")
    raise typer.Exit(1 if grave else 0)


def rebuild(home: HomeOption = None) -> None:
    """Set damaged files aside, and build the database anew.

    What is lost is named.
    """
    from promptlab.store import Store

    console.print(str(Store(home).rebuild()))


def publish(home: HomeOption = None) -> None:
    """Build the database from the journals."""
    from promptlab.store import Store

    console.print(f"published {Store(home).publish()}")


def passport(
    probes: Annotated[list[str] | None, typer.Argument(help="Probes by name; by default all.")] = None,
    n: Annotated[int, typer.Option(min=20, help="Rendered images a cell.")] = 400,
    every: Annotated[bool, typer.Option("--all", help="Every probe whose judge is on this disk.")] = False,
    recover: Annotated[
        bool, typer.Option("--recover", help="Instead, test whether hidden rates of faults are recovered.")
    ] = False,
    trials: Annotated[int, typer.Option(min=1, help="With --recover: number of triples of hidden rates.")] = 20,
    pictures: Annotated[int, typer.Option(min=20, help="With --recover: images a trial.")] = 200,
    home: HomeOption = None,
) -> None:
    """Measure on known truth how far each probe can be trusted."""
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
            none = "no passport, since no question of known truth is about its measures"
            terminal.say(f"{name}: {f'{len(rows)} passports' if rows else none}")
    store.publish()
    print_frame(_with_intervals(measured))
    console.print("95 % intervals: Wilson; J Newcombe; AUC DeLong. Below Youden J 0.5 a probe reports no rate.")


def _with_intervals(rows: Sequence[Passport]) -> pd.DataFrame:
    import pandas as pd

    def shown(value: float | None, bounds: Sequence[float] | None) -> str:
        if value is None or bounds is None:
            return "-"
        return f"{value:.2f} [{bounds[0]:.2f}, {bounds[1]:.2f}]"

    out = []
    for row in rows:
        measured = "counts" in row.detail  # else one of the two truths was never measured
        se, sp = (row.sensitivity_low, row.sensitivity_high), (row.specificity_low, row.specificity_high)
        out.append(
            {
                "probe": row.probe,
                "kind": row.kind,
                "n": row.n,
                "Se": shown(row.sensitivity, se if measured else None),
                "Sp": shown(row.specificity, sp if measured else None),
                "J": shown(row.youden, row.detail.get("youden_interval")),
                "AUC": shown(row.auc, row.detail.get("auc_interval")),
            }
        )
    return pd.DataFrame(out, columns=["probe", "kind", "n", "Se", "Sp", "J", "AUC"])


def _recover(probes: Sequence[str], trials: int, pictures: int, calibration: int) -> None:
    import pandas as pd

    from promptlab import plugins
    from promptlab.analyzer.passports import FAULTS, recover
    from promptlab.errors import PromptlabError

    for name in probes:
        try:
            with Terminal() as progress:
                probe = plugins.load("probe", name)
                counts = {"trials": trials, "pictures": pictures, "calibration": calibration}
                rows = list(recover(probe, **counts, progress=progress))
        except ValueError as error:
            raise PromptlabError(str(error)) from None
        shown = []
        for row in rows:
            observed = f"{row.observed:.3f} [{row.observed_low:.3f}, {row.observed_high:.3f}]"
            corrected = row.reason
            if not (row.corrected is None or row.low is None or row.high is None):
                corrected = f"{row.corrected:.3f} [{row.low:.3f}, {row.high:.3f}]{'' if row.covers else ' *'}"
            shown.append(
                {
                    "trial": row.trial + 1,
                    "fault": row.fault,
                    "hidden rate": f"{row.rate:.3f}",
                    "said": observed + ("" if row.observed_covers else " *"),
                    "corrected": corrected,
                }
            )
        print_frame(pd.DataFrame(shown))
        for fault in FAULTS:
            same = [row for row in rows if row.fault == fault]
            n_observed, n_corrected = (
                sum(bool(getattr(row, what)) for row in same) for what in ("observed_covers", "covers")
            )
            off = [
                sum(abs(value - row.rate) for row in same if (value := getattr(row, what)) is not None) / len(same)
                for what in ("observed", "corrected")
            ]
            console.print(
                f"{name}, {fault}: the corrected interval holds the hidden rate in {n_corrected} of {len(same)} trials "
                f"(mean distance {off[1]:.3f}), the uncorrected one in {n_observed} ({off[0]:.3f})"
            )
    console.print(
        f"* does not hold the hidden rate. {pictures} pictures a trial, {calibration} an outcome to calibrate."
    )


SEEDS = (1, 4, 16)


def simulate(
    prompts: Annotated[int, typer.Option(min=2, max=500, help="Prompt families of a study.")] = 24,
    seeds: Annotated[
        list[int] | None,
        typer.Option(min=1, max=500, help="Seeds of a study; repeat it for several.", show_default="1, 4, 16"),
    ] = None,
    tau: Annotated[
        float, typer.Option(min=0, max=0.5, help="Standard deviation over prompts of the true difference.")
    ] = 0.25,
    studies: Annotated[int, typer.Option(min=20, max=100_000, help="Number of simulated studies.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Count false findings in simulated studies without effect.

    By a test over images, by one over prompts (ours), and by a mixed model.
    """
    import numpy as np

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
        rates = (rate(*(row[f"{kind}{end}"] for end in ("", "_low", "_high"))) for kind in kinds)
        table.add_row(str(row["prompts"]), str(row["seeds"]), *rates)
    console.print(
        f"{studies} studies a line; no effect on average, but prompts differ (sd {tau:g}) in which arm they favour. "
        "At p < 0.05 a sound test finds something in 5 % of them:"
    )
    console.print(table)
    console.print("Images of one prompt resemble each other: counted singly, they make chance look like a finding.")


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="all, generate, score, overhead, plan, store, start, workers; or gpu and, to leave others out, its "
            "parts (speed, loop, guidance, study, memory) and shapes (sd15, sdxl, sd35, flux).",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is measured; the median counts.")] = 3,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object, for a machine.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="For gpu: tiny models on the CPU, as without CUDA.")] = False,
) -> None:
    """Measure the speed of promptlab on this machine.

    Ratios to what one would write by hand; `gpu` measures models of real shape on a GPU.
    """
    import json
    from dataclasses import asdict

    from promptlab.bench import BENCHES, machine
    from promptlab.bench import bench as measure

    if what and what[0] == "gpu":
        _bench_gpu(what[1:], dry, json_)
        return
    names = list(BENCHES) if what in (None, [], ["all"]) else what or []
    figures = []
    for name in names:
        for figure in measure(name, repeats):
            figures.append(figure)
            if not json_:
                show_figure(figure)
    if json_:
        shown = [{**asdict(figure), "met": figure.met} for figure in figures]
        console.print(json.dumps({"machine": machine(), "repeats": repeats, "figures": shown}, indent=1))
    else:
        console.print("machine: " + _in_line(machine()))


def show_figure(figure: Measured) -> None:
    """Print a figure beside its goal, and its detail."""
    goal = "no goal" if figure.goal is None else f"goal {'>=' if figure.at_least else '<='} {figure.goal:g}"
    met = {None: "", True: ", met", False: ", NOT met"}[figure.met]
    console.print(f"{figure.name}: {_short(figure.value)} {figure.unit} ({goal}{met})")
    if figure.detail:
        console.print("  " + _in_line(figure.detail))


def _in_line(detail: dict[str, float | str]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in detail.items())


def _bench_gpu(parts: Sequence[str], dry: bool, json_: bool) -> None:
    """Figures as they come, so that a run that is cut off has said what it found."""
    import json
    from dataclasses import asdict

    import torch

    from promptlab.bench import Measured, machine
    from promptlab.bench.gpu import DRY_RUN, bench_gpu

    dry = dry or not torch.cuda.is_available()
    found: Iterable[Measured | Timing] = bench_gpu(parts, dry)
    if json_:
        rows = [{**asdict(one), **({"met": one.met} if isinstance(one, Measured) else {})} for one in found]
        console.print(json.dumps({"machine": machine(), "dry_run": dry, "rows": rows}, indent=1))
        return
    if dry:
        console.print(DRY_RUN)
    headed = False
    for one in found:
        if isinstance(one, Measured):
            show_figure(one)
            headed = False
            continue
        if not headed:
            heads = ("step ms", "images/s", "TFLOP/s", "of ceiling", "GB")
            console.print(f"{'model':6}{'batch':>6} {'way':30}" + "".join(f"{head:>11}" for head in heads))
            headed = True
        _show_timing(one)
    console.print(("dry run: " if dry else "") + "machine: " + _in_line(machine()))


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


miniature = typer.Typer(help="Train, evaluate and ship the miniature.", no_args_is_help=True)


@miniature.command()
def train(
    preset: Annotated[str, typer.Option(help="smoke, cpu, gpu, or a TOML file.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder to train in; the same folder goes on.")] = Path("miniature"),
    stages: Annotated[str, typer.Option(help="Some stages only, with commas: vae,parser,clip,denoiser,scorer.")] = "",
    warm: Annotated[Path | None, typer.Option(help="Go on from this miniature, such as data/miniature.")] = None,
) -> None:
    """Train the miniature from nothing, or go on with a training."""
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
    folder: Annotated[Path | None, typer.Option(help="A trained miniature; by default the shipped one.")] = None,
    n: Annotated[int, typer.Option(min=10, help="Images a gate.")] = 500,
    out: Annotated[Path | None, typer.Option(help="Write the gates here, as JSON.")] = None,
) -> None:
    """Measure whether the miniature is good enough to study."""
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
    """Copy a finished training to the folder that ships."""
    from promptlab.miniature.train import load_preset, ship

    to.mkdir(parents=True, exist_ok=True)
    ship(trained, to, load_preset(preset))
    console.print(f"shipped to {to}. Next: promptlab miniature evaluate --out {to / 'gates.json'}")


@miniature.command()
def card(folder: Annotated[Path, typer.Option(help="The folder that ships.")] = Path("data/miniature")) -> None:
    """Draw the contact sheet, and write gates into the card."""
    from promptlab.run.miniature_gates import contact_sheet, write_card

    contact_sheet(folder, folder / "contact_sheet.png", lambda line: console.print(line))
    write_card(folder)
    console.print(f"wrote {folder / 'README.md'} and {folder / 'contact_sheet.png'}")
