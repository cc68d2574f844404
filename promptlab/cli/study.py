"""Commands of a study: write, check, count, run, score and answer it; settle claims.

What a run says at its end: outcomes with intervals, contrasts, one sentence each, where the results are.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from promptlab.cli.terminal import (
    BudgetOption,
    CompileOption,
    DtypeOption,
    HomeOption,
    JsonOption,
    MaxCells,
    ModelOption,
    StudyFile,
    Terminal,
    WithoutOption,
    chosen_study,
    console,
    duration,
    print_frame,
    print_json,
    rate,
    repeated_options,
    rows_of,
    size,
)
from promptlab.records import OUTCOMES

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.claims import Claim, Settled
    from promptlab.records import ContrastEffect
    from promptlab.run import Summary
    from promptlab.run.plan import Plan
    from promptlab.store import Store
    from promptlab.study.study import Study

__all__ = [
    "claims",
    "in_words",
    "init",
    "plan",
    "run",
    "schema",
    "score",
    "show_answer",
    "show_plan",
    "status",
    "validate",
]


def init(
    name: Annotated[str, typer.Argument(help="Name of the new study.", show_default=False)],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path("studies"),
) -> None:
    """Write a commented study to start from."""
    from promptlab.errors import StudyError
    from promptlab.study.strict_yaml import Mistake
    from promptlab.study.study import check_name, commented_study

    try:
        check_name(name)
    except Mistake as mistake:
        raise StudyError(f"study name: {mistake.message}") from None
    path = folder / f"{name}.yaml"
    if path.exists():
        raise StudyError(f"{path} exists: choose another name, or edit it")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(commented_study(name), encoding="utf-8")
    console.print(f"wrote {path}. Next: promptlab plan {path}", highlight=False)


def validate(study: StudyFile, model: ModelOption = None, without: WithoutOption = None) -> None:
    """Check a study file, and whether --model can follow it."""
    from promptlab.study.grid import count_images

    loaded = chosen_study(study, model, without)
    if model is not None:
        from promptlab.run.plan import plan_study

        plan_study(loaded, None, 10**6)
    console.print(f"{study} is a valid study of {count_images(loaded, 10**12):,} pictures.", highlight=False)


def plan(
    study: StudyFile,
    home: HomeOption = None,
    model: ModelOption = None,
    without: WithoutOption = None,
    budget: BudgetOption = None,
    max_cells: MaxCells = 10_000,
    json_: JsonOption = False,
) -> None:
    """Count what a run would make, and what it would take."""
    from promptlab.run.plan import plan_facts, plan_study
    from promptlab.store import Store

    planned = plan_study(chosen_study(study, model, without, budget), Store(home), max_cells)
    if json_:
        print_json(plan_facts(planned))
        return
    show_plan(planned)
    console.print(f"Next: promptlab run {study}{repeated_options(model, without, budget)}", highlight=False)


def run(
    study: StudyFile,
    home: HomeOption = None,
    model: ModelOption = None,
    without: WithoutOption = None,
    budget: BudgetOption = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=1024, help="Images a call of the model.")] = None,
    max_cells: MaxCells = 10_000,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while another process runs this study.")] = 0.0,
    retry: Annotated[bool, typer.Option(help="Make again every image that did not end ok.")] = False,
    passports: Annotated[int, typer.Option(min=0, help="Rendered images a cell for the passport of a new probe.")] = 60,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Processes that make images.")] = None,
    ray: Annotated[str | None, typer.Option(help="Make images on a Ray cluster: auto, or HOST:PORT.")] = None,
    compile_: CompileOption = None,
    dtype: DtypeOption = "auto",
    overlap: Annotated[
        bool | None,
        typer.Option(
            "--overlap/--no-overlap",
            help="Score images while others are made. By default where that slows nothing down.",
        ),
    ] = None,
) -> None:
    """Make what is missing of a study, score it, and answer it.

    Run the same command again to go on after a stop, or after an edit of the study.
    """
    from promptlab.errors import IncompleteError
    from promptlab.run import run_study
    from promptlab.run.options import RunOptions
    from promptlab.run.plan import check_paid, plan_study
    from promptlab.store import Store

    loaded = chosen_study(study, model, without, budget)
    options = RunOptions(
        batch_size=batch_size,
        max_cells=max_cells,
        wait=wait,
        retry=retry,
        passports_n=passports,
        workers=workers,
        ray=ray,
        compile=compile_,
        dtype=dtype,
        overlap=overlap,
    )
    store = Store(home)
    planned = plan_study(loaded, store, max_cells, retry=retry)
    show_plan(planned)
    check_paid(planned.cost)
    with Terminal() as terminal:
        summary = run_study(loaded, store, options, terminal, planned)
    show_answer(loaded, store, summary)
    if summary.failed or summary.stopped:
        more = repeated_options(model, without, budget)
        failed = [f"{n} {status}" for status, n in summary.made.items() if status != "ok"]
        counts = "; ".join(filter(None, (summary.stopped, ", ".join(failed))))
        raise IncompleteError(f"{counts}; the rest is done. See: promptlab status; again: promptlab run {study}{more}")


def score(
    study: StudyFile,
    home: HomeOption = None,
    model: ModelOption = None,
    without: WithoutOption = None,
    max_cells: MaxCells = 10_000,
) -> None:
    """Score the images that a study has, and make none.

    For a new probe, or where the model is not on this disk.
    """
    from promptlab.run import run_study
    from promptlab.run.options import RunOptions
    from promptlab.store import Store

    loaded, store = chosen_study(study, model, without), Store(home)
    with Terminal() as terminal:
        summary = run_study(loaded, store, RunOptions(max_cells=max_cells, make=False), terminal)
    show_answer(loaded, store, summary)
    if summary.plan.missing:
        more = repeated_options(model, without)
        console.print(f"{len(summary.plan.missing):,} pictures are not made yet. Next: promptlab run {study}{more}")


def status(home: HomeOption = None, json_: JsonOption = False) -> None:
    """List the studies that were run, and how far each is."""
    from promptlab.results.tables import studies
    from promptlab.store import Store

    store = Store(home)
    known = studies(store) if store.home.database.exists() else None
    if json_:
        print_json(rows_of(known) if known is not None else [])
    elif known is None:
        console.print(f"no study was run at {store.home.path} yet. Next: promptlab run studies/attribute_binding.yaml")
    else:
        print_frame(known)
        console.print(f"database: {store.home.database}")


def schema(path: Annotated[Path, typer.Argument()] = Path("studies/study.schema.json")) -> None:
    """Write the JSON Schema of study files, for editors."""
    from promptlab.study.study import write_schema

    write_schema(path)


def claims(
    only: Annotated[list[str] | None, typer.Argument(help="Some claims by id, such as C5c; by default all.")] = None,
    home: HomeOption = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of your own claims, in place of those that ship.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List what would be settled, and run nothing.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, max=1024, help="Images a call of the model.")] = None,
    json_: JsonOption = False,
) -> None:
    """Settle claims about prompting, with a verdict on each.

    Run the same command again to go on after a stop, or to see the verdicts again.
    """
    from promptlab.claims import load_claims, run_claims, write_figures
    from promptlab.progress import Silent
    from promptlab.store import Store

    everything = load_claims(folder)
    chosen = load_claims(folder, only or ())
    if list_:
        _list_claims(chosen)
        return
    store = Store(home)
    with nullcontext(Silent()) if json_ else Terminal() as progress:  # JSON stands alone on the output
        settled = run_claims(store, chosen, progress, family=everything, batch_size=batch_size)
    paths = write_figures(settled, store.home.path / "claims")
    if json_:
        print_json([_claim_row(one) for one in settled])
        return
    _show_claims(settled)
    console.print(f"a figure each in {paths[0].parent}. Next: promptlab dashboard", highlight=False)


def _claim_row(one: Settled) -> dict[str, object]:
    effect = one.effect
    row: dict[str, object] = {"id": one.claim.id, "claim": one.claim.claim, "verdict": one.verdict}
    row |= {"estimate": effect.estimate, "low": effect.low, "high": effect.high, "p_adjusted": effect.p_adjusted}
    row |= {"unit": one.claim.unit, "margin": one.claim.margin, "expects": one.claim.expects, "tier": one.tier}
    return row | {"n": effect.n_groups, "n_pairs": effect.n_pairs, "reason": effect.reason}


def _list_claims(chosen: tuple[Claim, ...]) -> None:
    for claim in chosen:
        what = claim.analysis or f"{claim.contrast} of {Path(claim.study or '').name}"
        console.print(
            f"{claim.id}: {claim.claim}\n    {claim.design} ({what}; expects {claim.expects})", highlight=False
        )


def _show_claims(settled: tuple[Settled, ...]) -> None:
    from promptlab.results.words import tiers_in_words, with_interval

    table = Table(show_edge=False, pad_edge=False)
    for name in ("", "claim", "verdict", "difference [95 % interval]", "n"):
        table.add_column(name)
    for one in settled:
        e = one.effect
        found = e.reason or "not measured"
        if one.claim.expects == "exactly" and e.estimate is not None:
            found = "exact"
        elif e.estimate is not None and e.low is not None and e.high is not None:
            found = f"{with_interval('{:+.3g}'.format, e.estimate, e.low, e.high)} {one.claim.unit}"
        table.add_row(one.claim.id, one.claim.claim, one.verdict, found, str(e.n_groups or ""))
    tiers = ", ".join(sorted({tier for one in settled for tier in one.tier.split(", ")}))
    console.print(f"tier {tiers_in_words(tiers)}; n counts units of inference, not images", highlight=False)
    console.print(table)


def show_plan(plan: Plan) -> None:
    """What a run would do."""
    study = plan.study
    console.print(f"{study.name}: {study.question}")
    even = plan.planned == len(plan.cells) * len(study.seeds)
    seeds = f"x {len(study.seeds)} seeds =" if even else f"of up to {len(study.seeds)} seeds, in all"
    console.print(
        f"  {len(plan.cells):,} cells {seeds} {plan.planned:,} pictures "
        f"({plan.images:,} distinct) of {plan.groups} prompt families, {_models(plan)}"
    )
    todo = f"  {plan.made:,} are made, {len(plan.missing):,} are missing"
    if plan.missing:
        time_left = "time unknown" if plan.seconds is None else f"about {duration(plan.seconds)}"
        basis = f" ({plan.basis})" if plan.basis else ""
        todo += f": {time_left}{basis}, about {size(1e6 * plan.megabytes)} of pictures"
    console.print(todo)
    if plan.cost and plan.missing:
        budget = "no budget yet: --budget" if plan.cost.budget is None else f"budget ${plan.cost.budget:.2f}"
        console.print(f"  cost: about ${plan.cost.usd:.2f} ({plan.cost.basis}); {budget}")
        if plan.cost.keyless:
            console.print(f"  no key: the environment variable {plan.cost.keyless} is not set; a run needs it")
    if plan.memory:
        console.print(
            f"  memory for weights: about {size(plan.memory)}, and more for each row of a batch (an estimate)"
        )
    several = len(plan.truncations) > 1
    for one in plan.truncations:
        who = f"{one.encoder} of {one.model}" if several else "the encoder"
        if one.truncated:
            console.print(
                f"  {one.truncated} prompts are longer than {one.limit} tokens (up to {one.longest}); "
                f"{who} does not see: {one.lost[:100]!r}"
            )
        elif several:
            console.print(f"  {who} reads all of every prompt (up to {one.longest} of {one.limit} tokens)")
    if plan.unknown:
        from promptlab.errors import nearest
        from promptlab.miniature.captions import LEXICON

        words = ", ".join(f"{word!r}{nearest(word, LEXICON)}" for word in plan.unknown[:5])
        more = f" and {len(plan.unknown) - 5} more" if len(plan.unknown) > 5 else ""
        console.print(f"  the miniature never learned: {words}{more}. It draws something all the same")
    _power(plan)


def _power(plan: Plan) -> None:
    """What the design can find, and what more families or seeds would."""
    if not plan.power:
        return
    found = {(one.families, one.seeds): one.detectable for one in plan.power}
    seeds = sorted({m for _, m in found})
    console.print(
        "  smallest difference of rates found with 80 % power (a contrast over all prompt families, seed correlation "
        ".3, sd of the effect .1):"
    )
    for n in sorted({n for n, _ in found}):
        able = (f"{found[n, m]:.2f}" if found[n, m] is not None else "none" for m in seeds)
        console.print(
            f"    {n} families: "
            + ", ".join(f"{a} at {m} seed{'s' * (m > 1)}" for a, m in zip(able, seeds, strict=True))
        )


def _models(plan: Plan) -> str:
    names = list(dict.fromkeys(cell.model for cell in plan.cells))
    return f"model {names[0]}" if len(names) == 1 else f"models {', '.join(names)}"


def show_answer(study: Study, store: Store, summary: Summary) -> None:
    """Print what the study came to."""
    from promptlab.results import tables

    made = sum(summary.made.values())
    overlapped = f"{summary.overlapped} of them overlapped; " if summary.overlapped else ""
    console.print(
        f"\n{made} pictures made ({duration(summary.seconds.get('generate', 0))}), {summary.scores} scores "
        f"({overlapped}{duration(summary.seconds.get('score', 0))}); {summary.plan.made} pictures were there"
    )
    axis = "guidance_scale" if any(dict(c.levels).get("guidance_scale") for c in summary.plan.cells) else None
    shares = tables.outcome_shares(store, study.name, axis)
    if len(shares) and shares["n"].sum():
        _outcomes(shares, axis)
    _contrasts(summary)
    if len(shares) and shares["n"].sum():
        _sentence(tables.outcome_shares(store, study.name), summary)
    for line in in_words(study, summary):
        console.print(line)
    console.print(f"\nresults: {store.home.database}   pictures: {store.home.images}")
    console.print("next: open the database in pandas (README), or add a level to the study and run it again")


def _outcomes(shares: pd.DataFrame, axis: str | None) -> None:
    from promptlab.results.words import tiers_in_words

    tier = shares["tier"].dropna().iloc[0] if shares["tier"].notna().any() else "T2"
    console.print(f"\ntwo-object prompts; 95 % intervals over prompts; tier {tiers_in_words(tier)}")
    table = Table(show_edge=False, pad_edge=False)
    levels = list(dict.fromkeys(shares["level"]))
    parts = [_by_outcome(shares if level is None else shares[shares["level"] == level]) for level in levels]
    table.add_column("outcome")
    for level, rows in zip(levels, parts, strict=True):
        name = "all" if axis is None else f"w = {level}" if axis == "guidance_scale" else str(level)
        table.add_column(f"{name} (n {rows['correct']['n']})", justify="right")
    for outcome in (*OUTCOMES, "accuracy"):
        cells = [rate(*(rows[outcome][k] for k in ("share", "low", "high"))) for rows in parts]
        table.add_row(f"{outcome}*" if outcome == "accuracy" else outcome, *cells)
    corrected = [[r["correct"].get(k) for k in ("corrected", "corrected_low", "corrected_high")] for r in parts]
    table.add_row("correct, corrected**", *(rate(*three) for three in corrected))
    console.print(table)
    console.print("*  correct, given both objects. Two nulls: colours dealt out, 50 %; each object picks its own, 25 %")
    reasons = [r["correct"].get("reason") for r in parts]
    reason = next((f": {one}" for one in reasons if one), "")
    console.print(f"** by the probe's passport on rendered truth{reason}")


def _contrasts(summary: Summary) -> None:
    if not summary.effects:
        return
    console.print("\ncontrasts, paired per prompt at shared seeds (difference [95 % interval])")
    for effect in summary.effects:
        prompts = f"{effect.n_groups} prompt{'' if effect.n_groups == 1 else 's'}"
        console.print(
            "; ".join((f"  {effect.contrast}, {effect.measure}: {_effect(effect)}, {prompts}", *_notes(effect)))
        )


def _effect(effect: ContrastEffect) -> str:
    """The difference with interval and p, as far as there are any."""
    from promptlab.results.words import with_interval

    text = with_interval("{:+.3f}".format, effect.estimate, effect.low, effect.high)
    text += "" if effect.p is None else f", p {effect.p:.4f}"
    return text + ("" if effect.p_adjusted is None else f" (Holm {effect.p_adjusted:.4f})")


def _notes(effect: ContrastEffect) -> list[str]:
    """Whether the difference is as good as none, and why something is not known."""
    notes = [effect.reason] if effect.reason else []
    test = effect.detail.get("equivalence")
    if test and test.get("equivalent") is not None:
        notes.insert(0, f"{'equal' if test['equivalent'] else 'not shown equal'} within {test['margin']:g}")
    return notes


def _sentence(shares: pd.DataFrame, summary: Summary) -> None:
    rows = _by_outcome(shares)
    first = next((c.prompt.text for c in summary.plan.cells if len(c.prompt.bindings) == 2), "")
    correct, accuracy, swap = rows["correct"], rows["accuracy"], rows["swap"]
    both = ""
    if accuracy["n"]:
        between = f"{rate(accuracy['low'])} to {rate(accuracy['high'])}"
        both = f"where both objects were there, in {rate(accuracy['share'])} ({between}); "
    prompts = f"{correct['n_prompts']} prompt{'' if correct['n_prompts'] == 1 else 's'}"
    span = f"{rate(correct['low'])} to {rate(correct['high'])}"
    console.print(
        f'\nPrompts like "{first}" came out right in {rate(correct["share"])} of {correct["n"]} pictures (95 % '
        f"interval {span}, {prompts}); {both}their colours were exchanged in {rate(swap['share'])}."
    )


def in_words(study: Study, summary: Summary) -> list[str]:
    """One sentence a confirmatory contrast: what the first level does to the measure, with its interval."""
    planned = {contrast.name: contrast for contrast in study.contrasts if contrast.family == "confirmatory"}
    lines = []
    for e in summary.effects:
        contrast = planned.get(e.contrast)
        if contrast is None or e.estimate is None or e.low is None or e.high is None:
            continue
        subject = contrast.says or f"{contrast.axis.replace('_', ' ')} {contrast.levels[0]}, not {contrast.levels[1]},"
        what, rate_like = e.measure.replace("_", " "), summary.measures[e.measure].unit == "1 or 0"
        low, high = sorted((abs(e.low), abs(e.high)))
        by, span = _amount(abs(e.estimate), rate_like), f"[{_amount(low, rate_like)}, {_amount(high, rate_like)}]"
        if e.low > 0 or e.high < 0:
            unit = " points" if rate_like else ""
            lines.append(f"{_capital(subject)} {'raises' if e.low > 0 else 'lowers'} {what} by {by}{unit} {span}.")
        else:
            signed = f"{_amount(e.estimate, rate_like, '+')}{' points' if rate_like else ''}"
            span = f"[{_amount(e.low, rate_like, '+')}, {_amount(e.high, rate_like, '+')}]"
            lines.append(f"{_capital(subject)}: no change of {what} that {e.n_groups} prompts show ({signed} {span}).")
    return lines


def _amount(value: float, rate_like: bool, sign: str = "") -> str:
    return f"{100 * value:{sign}.0f}" if rate_like else f"{value:{sign}.3g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _by_outcome(shares: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["outcome"]: row for row in rows_of(shares)}
