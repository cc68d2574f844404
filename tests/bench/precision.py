"""Whether what promptlab says depends on how its images are computed: one study twice, compared image by image.

    uv run python tests/bench/precision.py --help
    uv run python tests/bench/precision.py --folder ~/precision     # minutes; the folder keeps both homes

    study --float32, uncompiled--> outcomes, effects  --+
    study --dtype and compile auto--> outcomes, effects +--> outcomes that differ; each effect's shift, in intervals

Both runs score with the same probes. An effect's shift is the difference of its two estimates over half the width of
its interval in float32: an effect that moves by less than a tenth of that says the same.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptlab.bench import Measured

__all__ = ["precision_figures"]

WAYS = {"float32": ("float32", "off"), "automatic": ("auto", "auto")}
"""dtype and compile."""
MOVED = 0.1
"""Share of half an interval by which an effect may move."""


def precision_figures(study: Path, folder: Path | None = None) -> list[Measured]:
    """Outcomes and effects of a study file in both ways; `folder` keeps the two homes for a second call."""
    from promptlab.run import run_study
    from promptlab.run.options import RunOptions
    from promptlab.store import Store
    from promptlab.study.study import load_study

    loaded = load_study(study)
    tables: dict[str, Any] = {}
    effects: dict[str, dict[tuple[str, str, str], Any]] = {}
    details: dict[str, dict[str, float | str]] = {}
    with nullcontext(str(folder)) if folder else TemporaryDirectory() as place:
        for way, (dtype, compiled) in WAYS.items():
            store, began = Store(Path(place) / way), time.perf_counter()
            summary = run_study(loaded, store, RunOptions(passports_n=0, dtype=dtype, compile=compiled))
            details[way] = {"seconds": time.perf_counter() - began, "made": float(sum(summary.made.values()))}
            details[way] |= _facts(store)
            tables[way] = store.query(
                "SELECT image, probe, measure, target, label FROM score WHERE label IS NOT NULL "
                "AND image IN (SELECT image FROM cell_image WHERE study = ?)",
                [loaded.name],
            )
            effects[way] = {(one.contrast, one.measure, one.target): one for one in summary.effects}
    both = tables["float32"].merge(tables["automatic"], on=["image", "probe", "measure", "target"], how="outer")
    differ = both[both["label_x"] != both["label_y"]]
    detail: dict[str, float | str] = {
        "labels": len(both),
        "labels_that_differ": len(differ),
        "images": both["image"].nunique(),
    }
    figures = [Measured(f"run: {way}", float(found["seconds"]), "s", detail=found) for way, found in details.items()]
    figures.append(Measured("outcomes", differ["image"].nunique(), "images that differ", detail=detail))
    return figures + [_effect(one, effects["automatic"][key]) for key, one in effects["float32"].items()]


def _facts(store: Any) -> dict[str, str]:
    names = ("dtype", "speed.compile", "speed.channels_last")
    found = store.query("SELECT name, value FROM fact WHERE name LIKE 'diffusion.%'")
    known = dict(zip(found["name"], found["value"], strict=True))
    return {name: str(known.get(f"diffusion.{name}", "none")) for name in names}


def _effect(exact: Any, automatic: Any) -> Measured:
    """How far an effect moved, in half widths of its interval."""
    shown: dict[str, float | str] = {"float32": _said(exact), "automatic": _said(automatic)}
    name = f"effect: {exact.contrast}"
    if None in (exact.estimate, exact.low, exact.high, automatic.estimate):
        same = exact.estimate == automatic.estimate
        return Measured(name, 0.0 if same else float("inf"), "of half its interval", MOVED, detail=shown)
    half = (exact.high - exact.low) / 2
    moved = abs(exact.estimate - automatic.estimate)
    return Measured(name, moved / half if half else moved, "of half its interval", MOVED, detail=shown)


def _said(one: Any) -> str:
    if one.estimate is None or one.low is None or one.high is None:
        return str(one.reason)
    return f"{one.estimate:.4f} [{one.low:.4f}, {one.high:.4f}]"


def main() -> None:
    """Print the figures."""
    from promptlab.cli.maintain import show_figure

    parser = argparse.ArgumentParser(description="One study in float32 and in automatic settings.")
    parser.add_argument("--study", type=Path, default=Path("studies/attribute_binding.yaml"))
    parser.add_argument("--folder", type=Path, help="keeps the homes of both runs, so that it goes on where it stopped")
    given = parser.parse_args()
    for figure in precision_figures(given.study, given.folder):
        show_figure(figure)


if __name__ == "__main__":
    main()
