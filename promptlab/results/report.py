"""A study as one HTML file that can be mailed: question, answer, images, methods, and what is missing.

The template escapes every text of a study, a model or a person. Images are inside the file as small WebP. The file
links to nothing, and its own policy forbids the browser to fetch anything.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab import __version__
from promptlab.records import OUTCOMES
from promptlab.results import check_study_name, tables
from promptlab.results.words import OUTCOME_COLOURS, TIERS, with_interval
from promptlab.store import pictures

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["report_html", "write_report"]

EACH = 12
"""Images of a gallery."""


def write_report(store: Store, study: str, path: Path) -> Path:
    """Write the report of `study` to `path`. Raises PromptlabError for a study that was never run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_html(store, study), encoding="utf-8")
    return path


def report_html(store: Store, study: str) -> str:
    """The report of a study as one HTML document."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    check_study_name(store, study)
    declared = store.query(
        "SELECT coalesce(text, '') AS text, coalesce(question, name) AS question FROM study WHERE name = ?", [study]
    )
    axes = store.query("SELECT DISTINCT axis FROM level WHERE study = ?", [study])["axis"].tolist()
    shares = tables.outcome_shares(store, study, "guidance_scale" if "guidance_scale" in axes else None)
    tier = str(
        store.query("SELECT any_value(tier) AS tier FROM cell WHERE study = ? AND current", [study])["tier"].iloc[0]
    )
    environment = Environment(
        loader=PackageLoader("promptlab.results", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        study=study,
        question=str(declared["question"].iloc[0]),
        tier=tier,
        tier_words=TIERS.get(tier, "no tier is known"),
        answer=_answer(store, study),
        colours=OUTCOME_COLOURS,
        shares=_shares(shares) if len(shares) and shares["n"].sum() else [],
        effects=[_effect(row) for row in tables.effects(store, study).to_dict("records")],
        leaks=[_leak(row) for row in tables.leakage(store, study).to_dict("records")],
        galleries=_galleries(store, study),
        quality=tables.completeness(store, study).to_dict("records"),
        methods=_methods(store, study),
        text=str(declared["text"].iloc[0]),
        version=__version__,
    )


def _percent(value: Any) -> str:
    return "not known" if value is None or value != value else f"{100 * value:.0f} %"


def _span(row: dict[Any, Any], name: str) -> str:
    return "not known" if row[name] != row[name] else with_interval(_percent, row[name], row["low"], row["high"])


def _answer(store: Store, study: str) -> list[str]:
    shares = tables.outcome_shares(store, study)
    if not len(shares) or not shares["n"].sum():
        return []
    rows = {row["outcome"]: row for row in shares.to_dict("records")}
    correct, accuracy = rows["correct"], rows["accuracy"]
    families = f"{correct['n_prompts']} prompt {'family' if correct['n_prompts'] == 1 else 'families'}"
    lines = [
        f"Prompts with two objects came out right in {_span(correct, 'share')} of {correct['n']} pictures "
        f"({families}); where both objects were there, in {_span(accuracy, 'share')}."
    ]
    if _known(correct.get("corrected")):
        corrected = (correct[name] for name in ("corrected", "corrected_low", "corrected_high"))
        lines.append(f"Corrected by the probe's passport: {with_interval(_percent, *corrected)}.")
    return lines


def _known(value: Any) -> bool:
    return value is not None and value == value


def _shares(shares: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for level in dict.fromkeys(shares["level"]):
        part = shares if level is None else shares[shares["level"] == level]
        rows = {row["outcome"]: row for row in part.to_dict("records")}
        spans = {name: _span(rows[name], "share") for name in OUTCOMES}
        parts = [{"outcome": name, "share": rows[name]["share"] or 0.0} for name in OUTCOMES]
        words = ", ".join(f"{name} {_percent(rows[name]['share'])}" for name in OUTCOMES)
        title = "all" if level is None else f"guidance_scale {level}"
        counts = {"n": rows["correct"]["n"], "n_prompts": rows["correct"]["n_prompts"]}
        out.append({"name": title, "spans": spans, "parts": parts, "words": words, **counts})
    return out


def _effect(row: dict[Any, Any]) -> dict[str, Any]:
    difference = "not measured"
    if _known(row["estimate"]):
        difference = with_interval("{:+.3g}".format, row["estimate"], row["low"], row["high"])
    p = f"{row['p_adjusted']:.4f}" if _known(row["p_adjusted"]) else ""
    facts = {name: row[name] for name in ("contrast", "measure")} | {"n": row["n_groups"]}
    return {**facts, "difference": difference, "p": p, "reason": row["reason"] or ""}


def _leak(row: dict[Any, Any]) -> dict[str, Any]:
    shown = {
        "own": _percent(row["own"] + row["both"]),
        "leaked": _span(row, "leaked"),
        "expected": _percent(row["expected"]),
    }
    return {"attribute": row["attribute"], "n": row["n"], **shown}


def _galleries(store: Store, study: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Right and wrong images where an outcome is known, a prompt once; else the first ones."""
    outcomes = store.query(
        """
        SELECT prompt, seed, file, outcome FROM outcomes
        WHERE study = ? AND measure = 'correct' AND outcome IS NOT NULL AND file IS NOT NULL
            AND (SELECT count(*) FROM binding WHERE binding.prompt_id = outcomes.prompt_id) > 1
        ORDER BY cell_id, seed
        """,
        [study],
    )
    if not len(outcomes):
        first = store.query(
            """
            SELECT DISTINCT ON (cell.position) cell.prompt, cell_image.seed, image.file, NULL AS outcome FROM cell
            JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
            JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
            WHERE cell.study = ? AND cell.current ORDER BY cell.position, cell_image.seed LIMIT ?
            """,
            [study, EACH],
        )
        return [("Pictures", _embedded(store, first))] if len(first) else []
    right = outcomes[outcomes["outcome"] == "correct"].drop_duplicates("prompt").head(EACH)
    wrong = outcomes[outcomes["outcome"] != "correct"].drop_duplicates(["prompt", "outcome"]).head(EACH)
    named = (("Right", right), ("Wrong, and how", wrong))
    return [(title, _embedded(store, part)) for title, part in named if len(part)]


def _embedded(store: Store, rows: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for row in rows.to_dict("records"):
        small = pictures.thumbnail(store.home, str(row["file"]), 128).read_bytes()
        outcome = f", {row['outcome']}" if isinstance(row["outcome"], str) else ""
        data = "data:image/webp;base64," + base64.b64encode(small).decode()
        out.append({"prompt": row["prompt"], "seed": row["seed"], "outcome": outcome, "data": data})
    return out


def _methods(store: Store, study: str) -> list[tuple[str, str]]:
    cells = store.query(
        """
        SELECT string_agg(DISTINCT model, ', ') AS model, string_agg(DISTINCT backend, ', ') AS backend,
            count(*) AS cells, count(DISTINCT prompt) AS prompts, count(DISTINCT prompt_group) AS "prompt families",
            string_agg(DISTINCT num_inference_steps::VARCHAR, ', ') AS num_inference_steps,
            string_agg(DISTINCT guidance_scale::VARCHAR, ', ') AS guidance_scale,
            string_agg(DISTINCT width || ' x ' || height, ', ') AS size
        FROM cell WHERE study = ? AND current
        """,
        [study],
    ).to_dict("records")[0]
    facts = store.query(
        """
        SELECT name, any_value(value) AS value FROM fact JOIN run ON run.id = fact.run
        WHERE run.study = ? AND (name IN ('torch', 'diffusers', 'transformers', 'open_clip_torch', 'duckdb')
            OR name IN ('diffusion.commit', 'diffusion.dtype', 'diffusion.device', 'diffusion.batch_size'))
        GROUP BY name ORDER BY name
        """,
        [study],
    )
    methods = [(str(name), str(value)) for name, value in cells.items() if _known(value)]
    return methods + [(str(row["name"]), str(row["value"])) for row in facts.to_dict("records")]
