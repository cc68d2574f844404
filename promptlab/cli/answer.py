"""What a run says at its end: outcomes with intervals, contrasts, one sentence, where the results are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from promptlab.cli.say import console, duration, rate
from promptlab.records import OUTCOMES

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.run import Summary
    from promptlab.store import Store
    from promptlab.study import Study

__all__ = ["in_words", "show_answer"]

_TIERS = {
    "T0": "drawn by the renderer, truth known",
    "T1": "the miniature: its rates say nothing about SDXL or FLUX",
    "T2": "a real model",
}


def show_answer(study: Study, store: Store, summary: Summary) -> None:
    """Print what the study came to."""
    from promptlab import tables

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
