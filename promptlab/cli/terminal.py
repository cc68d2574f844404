"""How promptlab speaks in a terminal: progress with ETA, plans, tables. Off a terminal: a plain line now and then.

What a run says at its end: outcomes with intervals, contrasts, one sentence, where the results are.

Options that several commands share.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from promptlab.records import OUTCOMES

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.run import Summary
    from promptlab.run.plan import Plan
    from promptlab.store import Store
    from promptlab.study import Study

__all__ = [
    "BudgetOption",
    "CompileOption",
    "DtypeOption",
    "HomeOption",
    "JsonOption",
    "MaxCells",
    "ModelOption",
    "StudyFile",
    "Terminal",
    "WithoutOption",
    "chosen_study",
    "console",
    "duration",
    "frame_table",
    "given_options",
    "in_words",
    "print_json",
    "rate",
    "rows_of",
    "show_answer",
    "show_plan",
    "show_studies",
    "size",
]

console = Console(highlight=False, markup=False, soft_wrap=True)
PLAIN_SECONDS = 20.0


def duration(seconds: float) -> str:
    """`95` to "1.6 min"; for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes for people: `24e9` to "24.0 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def rate(share: float | None, low: float | None = None, high: float | None = None) -> str:
    """A share in per cent with its interval."""
    if share is None or share != share:
        return "-"
    if low is None or high is None:
        return f"{share:.0%}"
    return f"{share:.0%} [{low:.0%}, {high:.0%}]"


class Terminal:
    """A bar on a terminal; off it, a line every 20 seconds. Follows `promptlab.run.Progress`.

    Steps come in bursts, a batch of pictures at once; how fast it goes is known when a burst is whole: as the next one
    begins, after a pause that is longer than the mean step.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None
        self._what, self._total, self._done = "", 0, 0
        self._began = self._told = self._last = time.monotonic()

    def __enter__(self) -> Terminal:
        if console.is_terminal:
            named, left = TextColumn("{task.description:<22}"), TextColumn("{task.fields[left]}")
            self._bar = Progress(named, BarColumn(40), MofNCompleteColumn(), left, console=console)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def stage(self, what: str, total: int) -> None:
        """A stage of `total` steps begins."""
        self._what, self._total, self._done = what, total, 0
        self._began = self._told = self._last = time.monotonic()
        if self._bar:
            self._task = self._bar.add_task(what, total=total, left="")
        else:
            console.print(f"{what}: {total}")

    def step(self, count: int = 1) -> None:
        """So many steps are done."""
        now = time.monotonic()
        spent, paused = self._last - self._began, now - self._last
        told = ""
        if self._done and paused * self._done >= spent:
            told = f"{duration(max(0.0, spent / self._done * (self._total - self._done) - paused))} left"
        if self._bar:
            over = self._done + count >= self._total
            fields: dict[str, Any] = {"left": "" if over else told} if over or told else {}
            self._bar.update(self._task, advance=count, **fields)
        elif told and now - self._told > PLAIN_SECONDS:
            console.print(f"{self._what}: {self._done}/{self._total}, {told}")
            self._told = now
        self._done += count
        self._last = now

    def say(self, line: str) -> None:
        """One line."""
        console.print(line)


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
    several = len(plan.readings) > 1
    for one in plan.readings:
        who = f"{one.encoder} of {one.model}" if several else "the encoder"
        if one.cut:
            console.print(
                f"  {one.cut} prompts are longer than {one.limit} tokens (up to {one.longest}); "
                f"{who} does not see: {one.lost[:100]!r}"
            )
        elif several:
            console.print(f"  {who} reads all of every prompt (up to {one.longest} of {one.limit} tokens)")
    if plan.unknown:
        from promptlab.errors import nearest
        from promptlab.miniature.lexicon import LEXICON

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


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A DataFrame as plain rows; what is missing is None."""
    return [{str(k): None if _missing(v) else v for k, v in row.items()} for row in frame.to_dict("records")]


def _missing(value: Any) -> bool:
    return value is None or (not isinstance(value, list | dict | str) and value != value)


def print_json(value: Any) -> None:
    """One JSON object on the standard output: for machines. Numbers of numpy become plain ones, times text."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=_plain))  # noqa: T201


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value.tolist() if hasattr(value, "tolist") else str(value)


def frame_table(frame: pd.DataFrame, title: str = "") -> Table:
    """A DataFrame as a terminal table."""
    table = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False)
    for column in frame.columns:
        numeric = frame[column].dtype.kind in "if"
        table.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*("" if _missing(v) else f"{v:.3g}" if isinstance(v, float) else str(v) for v in row))
    return table


def show_studies(store: Store, as_json: bool = False) -> None:
    """All studies of a home."""
    from promptlab.results.tables import studies

    if as_json:
        print_json(rows_of(studies(store)) if store.home.database.exists() else [])
        return
    if not store.home.database.exists():
        console.print(f"no study was run at {store.home.path} yet. Next: promptlab run studies/attribute_binding.yaml")
        return
    console.print(frame_table(studies(store)))
    console.print(f"database: {store.home.database}")


_TIERS = {
    "T0": "drawn by the renderer, truth known",
    "T1": "the miniature: its rates say nothing about SDXL or FLUX",
    "T2": "a real model",
}


def show_answer(study: Study, store: Store, summary: Summary) -> None:
    """Print what the study came to."""
    from promptlab.results import tables

    made = sum(summary.made.values())
    meanwhile = f"{summary.meanwhile} of them meanwhile; " if summary.meanwhile else ""
    console.print(
        f"\n{made} pictures made ({duration(summary.seconds.get('generate', 0))}), {summary.scores} scores "
        f"({meanwhile}{duration(summary.seconds.get('score', 0))}); {summary.plan.made} pictures were there"
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
    tier = shares["tier"].dropna().iloc[0] if shares["tier"].notna().any() else "T2"
    console.print(f"\ntwo-object prompts, tier {tier} ({_TIERS.get(tier, '')}); 95 % intervals over prompts")
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
    behind = [[r["correct"].get(k) for k in ("corrected", "corrected_low", "corrected_high")] for r in parts]
    table.add_row("correct, corrected**", *(rate(*three) for three in behind))
    console.print(table)
    console.print("*  correct, given both objects. Two nulls: colours dealt out, 50 %; each object picks its own, 25 %")
    # pandas makes a missing reason NaN
    whys = [r["correct"].get("reason") for r in parts]
    why = next((f": {w}" for w in whys if isinstance(w, str)), "")
    console.print(f"** by the probe's passport on rendered truth{why}")


def _contrasts(summary: Summary) -> None:
    if not summary.effects:
        return
    console.print("\ncontrasts, paired per prompt at shared seeds (difference [95 % interval])")
    for e in summary.effects:
        notes = [e.reason] if e.reason else []
        same = e.detail.get("equivalence")
        if same and same.get("equivalent") is not None:
            notes.insert(0, f"{'equal' if same['equivalent'] else 'not shown equal'} within {same['margin']:g}")
        if e.estimate is None:
            said = "-"
        else:
            said = f"{e.estimate:+.3f} [{e.low or 0:+.3f}, {e.high or 0:+.3f}]"
            said += "" if e.p is None else f", p {e.p:.4f}"
            said += "" if e.p_adjusted is None else f" (Holm {e.p_adjusted:.4f})"
        console.print(f"  {e.contrast}, {e.measure}: {said}, {e.n_groups} prompts" + "".join(f"; {n}" for n in notes))


def _sentence(shares: pd.DataFrame, summary: Summary) -> None:
    rows = _by_outcome(shares)
    first = next((c.prompt.text for c in summary.plan.cells if len(c.prompt.bindings) == 2), "")
    c, a, s = rows["correct"], rows["accuracy"], rows["swap"]
    both = ""
    if a["n"]:
        both = f"where both objects were there, in {rate(a['share'])} ({rate(a['low'])} to {rate(a['high'])}); "
    console.print(
        f'\nPrompts like "{first}" came out right in {rate(c["share"])} of {c["n"]} pictures (95 % interval '
        f"{rate(c['low'])} to {rate(c['high'])}, {c['n_prompts']} prompts); {both}"
        f"their colours were exchanged in {rate(s['share'])}."
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
    return {row["outcome"]: {str(k): v for k, v in row.items()} for row in shares.to_dict("records")}


HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Where runs, images and database live (else PROMPTLAB_HOME, a clone's data/)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for a machine.")]
StudyFile = Annotated[Path, typer.Argument(help="A study, as in studies/*.yaml.", show_default=False)]
MaxCells = Annotated[int, typer.Option("--max-cells", help="Refuse larger grids.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="Another model than the study's: a folder, or OWNER/NAME[@REVISION] in the hub's cache."
    ),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option("--without", help="Leave out an axis of the study, such as one that the model cannot follow."),
]
BudgetOption = Annotated[
    float | None, typer.Option("--budget", help="US dollars that one run may spend on a closed system.")
]
CompileOption = Annotated[
    str | None,
    typer.Option(
        "--compile",
        help="Compile the model: on, off, or auto (the default): where the pictures repay it.",
    ),
]
DtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="Precision of the model: float32, bfloat16, float16, or auto (bfloat16 where it is faster here).",
    ),
]


def chosen_study(path: Path, model: str | None, without: list[str] | None, budget: float | None = None) -> Study:
    """The study of a file, on the model and without the axes that were asked for; says what goes with them."""
    from promptlab.study import load_study, with_budget, with_model, without_axis

    study = load_study(path)
    for name in dict.fromkeys(without or ()):
        study, contrasts = without_axis(study, name)
        also = f", nor the contrasts {', '.join(contrasts)}" if contrasts else ""
        typer.echo(f"without the axis {name}{also}", err=True)
    study = study if budget is None else with_budget(study, budget)
    return study if model is None else with_model(study, model)


def given_options(model: str | None, without: list[str] | None, budget: float | None = None) -> str:
    """Those options again, for a next command."""
    given = (f" --model {model}" if model else "") + "".join(f" --without {name}" for name in without or ())
    return given if budget is None else f"{given} --budget {budget:g}"
