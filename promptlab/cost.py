"""What a study on a closed system would cost, and whether a run may begin: nobody pays by accident.

A run of `backend: hosted` needs a budget, `budget_usd` of the study or `--budget`: US dollars that one run may spend.
An estimate over it is refused while planning; without one a run is refused; while it goes on, a run ends before it
would pass the budget, as when broken pictures had to be paid for twice (`promptlab.backends.prices.Purse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promptlab.backends.hosted import missing_key
from promptlab.backends.prices import list_price
from promptlab.errors import ModelError, StudyError
from promptlab.records import Cell
from promptlab.study import Study

__all__ = ["Cost", "check_paid", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """US dollars for the pictures that are missing, what they rest on, the budget, and what variable lacks a key."""

    usd: float
    basis: str
    budget: float | None
    keyless: str | None = None


def cost_of(study: Study, missing: Sequence[tuple[Cell, int]]) -> Cost | None:
    """The cost of `missing`; None where pictures cost nothing.

    Raises StudyError where no price is known, or the budget is less than the estimate.
    """
    if study.backend != "hosted":
        return None
    total, bases = 0.0, dict[str, None]()
    for cell, _ in missing:
        if study.price_per_image is not None:
            total += study.price_per_image
            bases["by the study's price_per_image"] = None
            continue
        price = list_price(cell.model, cell.settings.width, cell.settings.height)
        if price is None:
            message = f"no list price of {cell.model!r} is known; give price_per_image, in US dollars"
            raise study.error(("model",) if "model" in study.model_fields_set else (), message)
        total += price.usd
        quality = f", quality {price.quality}, the dearest that it may choose" if price.quality else ""
        bases[f"{price.source} of {price.date}{quality}"] = None
    keyless = next((name for name in map(missing_key, {cell.model: None for cell, _ in missing}) if name), None)
    cost = Cost(total, "; ".join(bases), study.budget_usd, keyless)
    if cost.budget is not None and total > cost.budget + 1e-9:
        raise StudyError(
            f"study {study.name}: {len(missing):,} missing pictures cost about ${total:.2f} ({cost.basis}), over the "
            f"budget of ${cost.budget:.2f}; allow more (--budget, budget_usd), or ask for fewer"
        )
    return cost


def check_paid(cost: Cost | None) -> None:
    """Raise ModelError without a key, StudyError without a budget, if pictures have to be paid for."""
    if cost is None or not cost.usd:
        return
    if cost.keyless:
        raise ModelError(f"no key: the environment variable {cost.keyless} is not set")
    if cost.budget is None:
        raise StudyError(
            f"this run would cost about ${cost.usd:.2f} ({cost.basis}); allow it by --budget {_up(cost.usd):.2f}, "
            "or by budget_usd in the study"
        )


def _up(usd: float) -> float:
    """Whole cents, rounded up."""
    return -(-round(usd * 1e6) // 10_000) / 100
