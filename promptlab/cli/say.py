"""How promptlab speaks in a terminal: progress with ETA, plans, tables. Off a terminal: a plain line now and then."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.plan import Plan
    from promptlab.store import Store

__all__ = [
    "Terminal",
    "console",
    "duration",
    "frame_table",
    "print_json",
    "rate",
    "rows_of",
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
    from promptlab.tables import studies

    if as_json:
        print_json(rows_of(studies(store)) if store.home.database.exists() else [])
        return
    if not store.home.database.exists():
        console.print(f"no study was run at {store.home.path} yet. Next: promptlab run studies/attribute_binding.yaml")
        return
    console.print(frame_table(studies(store)))
    console.print(f"database: {store.home.database}")
