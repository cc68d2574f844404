"""The wording that wins a study, as something to take along: its best picture's recipe, for A1111 or ComfyUI.

Which one wins says `Loaded.ranking`: the level of an axis, or the whole prompt, with the best mean of a measure. The
recipe is that of its best picture (ties: the first of the plan), so the seed is picked by its result: other seeds do as
the mean says. A lead whose interval holds 0 is no proof, and `Winner.says` says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptlab.errors import PromptlabError
from promptlab.handover import AXES, Written, a1111, comfyui
from promptlab.samplers import Sampler, named_elsewhere

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.analysis import Loaded

__all__ = ["PROGRAMS", "Winner", "plot_axes", "winner", "written"]

PROGRAMS = {"a1111": "a1111.txt", "comfyui": "comfyui.json"}
"""Programs that a winner can be handed to, and how the file's name ends."""


@dataclass(frozen=True)
class Winner:
    """The first of a ranking, and the recipe of its best picture.

    `place` is its row of `tables.ranking`, `lead` (estimate, low, high) how far the next is behind it, paired: None
    where there is no other, or no pair. `pipeline` and `sampler` are those of the run that made the picture.
    """

    study: str
    measure: str
    axis: str | None
    place: dict[str, Any]
    lead: tuple[float, float | None, float | None] | None
    recipe: dict[str, Any]
    pipeline: str | None
    sampler: Sampler

    def says(self) -> str:
        """In one line: what leads, by how much, whether that is shown, n and tier."""
        row = self.place
        over = "seeds of this prompt" if self.axis is None else "prompts"
        said = f"{row['level']!r} leads: {self.measure} {row['mean']:.3g}"
        said += "" if row["low"] is None else f" [{row['low']:.3g}, {row['high']:.3g}] over {over}"
        said += f", n {row['n']}, tier {row['tier']}"
        if self.lead is None:
            return f"{said}; nothing was compared with it"
        gap, low, high = self.lead
        if gap == 0:
            return f"{said}; level with the next"
        if low is None or high is None:
            return f"{said}; ahead of the next by {gap:.3g}, without an interval"
        shown = "ahead" if low > 0 or high < 0 else "not shown to be ahead"
        return f"{said}; {shown} of the next: {gap:.3g} [{low:.3g}, {high:.3g}], paired"


def winner(
    found: Loaded,
    measure: str | None = None,
    axis: str | None = None,
    group: str | None = None,
    ranked: pd.DataFrame | None = None,
) -> Winner:
    """The winner by `measure` (accuracy, else correct, if not given) among levels of `axis`, or whole prompts.

    `group` is a prompt family: of its pictures alone. `ranked` is that ranking, where it is known already. Raises
    PromptlabError for an unknown measure or axis, and where nothing was measured.
    """
    chosen = measure
    if chosen is None:
        known = {name.partition(".")[2] for name in found.measures()["measure"]}
        chosen = next((name for name in ("accuracy", "correct") if name in known), None)
        if chosen is None:
            there = f"it has {', '.join(sorted(known))}" if known else "nothing was measured; promptlab score measures"
            raise PromptlabError(f"say by which --measure {found.study} is ranked: {there}")
    rows = found.ranking(chosen, axis, group, most=2) if ranked is None else ranked
    if not len(rows):
        raise PromptlabError(f"{found.study} has no value of {chosen} to rank by")
    place = {str(name): value if value == value else None for name, value in rows.iloc[0].to_dict().items()}
    best = found.sql("SELECT recipe, run FROM image WHERE id = ?", [place["best_image"]])
    recipe: dict[str, Any] = json.loads(best["recipe"].iloc[0])
    told = found.sql("SELECT name, value FROM fact WHERE run = ?", [best["run"].iloc[0]])
    facts: dict[str, str] = dict(zip(told["name"], told["value"], strict=True))
    sampler = _sampler(facts, recipe.get("scheduler"))
    return Winner(str(found.study), chosen, axis, place, _lead(rows), recipe, facts.get("diffusion.pipeline"), sampler)


def written(found: Loaded, won: Winner, program: str) -> Written:
    """The winner's recipe for one of `PROGRAMS`."""
    if program == "comfyui":
        return comfyui(won.recipe, won.sampler, won.pipeline)
    axes = plot_axes(found)
    family = _family(found, won.recipe)
    return a1111(won.recipe, won.sampler, {**({"prompt": family} if len(family) > 1 else {}), **axes})


def plot_axes(found: Loaded) -> dict[str, list[str]]:
    """The settings (and seeds) that the study varies and an X/Y/Z plot can: their levels in order.

    Schedulers are by A1111's name; one that has none there is left out.
    """
    axes = {name: levels for name, levels in found.axes().items() if name in AXES and len(levels) > 1}
    if "scheduler" in axes:
        names = (named_elsewhere(name, {}).sampler for name in axes["scheduler"])
        axes["scheduler"] = list(dict.fromkeys(name for name in names if name))
    seeds = found.sql(_SEEDS, [found.study])["seed"].tolist()
    if len(seeds) > 1:
        axes["seed"] = [str(seed) for seed in seeds]
    return {name: axes[name] for name in AXES if len(axes.get(name, ())) > 1}


def _lead(rows: pd.DataFrame) -> tuple[float, float | None, float | None] | None:
    if len(rows) < 2 or rows["behind"].isna().iloc[1]:
        return None
    gap, low, high = (float(rows[name].iloc[1]) for name in ("behind", "behind_low", "behind_high"))
    return gap, None if low != low else low, None if high != high else high


def _sampler(facts: dict[str, str], asked: str | None) -> Sampler:
    """By what the run that made the picture recorded of its schedulers."""
    head = f"diffusion.schedulers.{asked or 'default'}."
    config = {name.removeprefix(f"{head}config."): value for name, value in facts.items() if name.startswith(head)}
    return named_elsewhere(facts.get(f"{head}class", asked), config)


def _family(found: Loaded, recipe: dict[str, Any]) -> list[str]:
    """The prompts of the winner's family, its own first."""
    own = str(recipe.get("prompt"))
    return [own, *(text for text in found.sql(_FAMILY, [found.study, found.study, own])["prompt"] if text != own)]


_SEEDS = """
SELECT DISTINCT seed FROM cell_image JOIN cell ON cell.study = cell_image.study AND cell.id = cell_image.cell_id
WHERE cell.study = ? AND cell.current ORDER BY seed
"""

_FAMILY = """
SELECT prompt, min(position) AS place FROM cell
WHERE study = ? AND current AND prompt_group IN (
    SELECT prompt_group FROM cell WHERE study = ? AND current AND prompt = ?)
GROUP BY prompt ORDER BY place
"""
