"""`promptlab report`: one HTML file of a study to be mailed: question, answer, pictures, methods, what is missing.

Everything that a study, a model or a person said is escaped by the template; pictures are inside as small WebP; the
file names no other place, and its own policy forbids the browser to fetch anything.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab import __version__
from promptlab.errors import PromptlabError, nearest
from promptlab.records import OUTCOMES
from promptlab.results import tables
from promptlab.store import pictures

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = ["TIER_WORDS", "report_html", "tiers_in_words", "write_report"]

COLOURS = dict(zip(OUTCOMES, ("#009E73", "#D55E00", "#E69F00", "#CC79A7", "#56B4E9", "#8A8A8A"), strict=True))
"""Okabe and Ito's, in the order of the outcomes."""
TIER_WORDS = {
    "T0": "drawn truth, which says how far a probe can be trusted and nothing about a model",
    "T1": "the miniature, whose rates say nothing about SDXL or FLUX",
    "T2": "a real model",
}
EACH = 12
"""Pictures of a gallery."""


def tiers_in_words(tiers: str) -> str:
    """What "T1" or "T0, T1" stand for; a name that is not a tier stays as it is."""
    return "; ".join(f"{t}: {TIER_WORDS[t]}" if t in TIER_WORDS else t for t in tiers.split(", "))


def write_report(store: Store, study: str, path: Path) -> Path:
    """Write the report of `study` to `path`. Raises PromptlabError for a study that was never run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report_html(store, study), encoding="utf-8")
    return path


def report_html(store: Store, study: str) -> str:
    """The report of a study as one HTML document."""
    import yaml
    from jinja2 import Environment, PackageLoader, StrictUndefined

    known = tables.studies(store)["study"].tolist()
    if study not in known:
        raise PromptlabError(f"no study called {study!r} was run: there are {', '.join(known)}{nearest(study, known)}")
    text = str(store.query("SELECT text FROM study WHERE name = ?", [study])["text"].iloc[0] or "")
    written = yaml.safe_load(text) if text else {}
    question = str(written.get("question", study)) if isinstance(written, dict) else study
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
        question=question,
        tier=tier,
        tier_words=TIER_WORDS.get(tier, "no tier is known"),
        answer=_answer(store, study),
        colours=COLOURS,
        shares=_shares(shares) if len(shares) and shares["n"].sum() else [],
        effects=[_effect(row) for row in tables.effects(store, study).to_dict("records")],
        leaks=[_leak(row) for row in tables.leakage(store, study).to_dict("records")],
        galleries=_galleries(store, study),
        quality=tables.completeness(store, study).to_dict("records"),
        methods=_methods(store, study),
        text=text,
        version=__version__,
    )


def _percent(value: Any) -> str:
    return "not known" if value is None or value != value else f"{100 * value:.0f} %"


def _span(row: dict[Any, Any], name: str) -> str:
    return f"{_percent(row[name])} [{_percent(row['low'])}, {_percent(row['high'])}]"


def _answer(store: Store, study: str) -> list[str]:
    shares = tables.outcome_shares(store, study)
    if not len(shares) or not shares["n"].sum():
        return []
    rows = {row["outcome"]: row for row in shares.to_dict("records")}
    right, given = rows["correct"], rows["accuracy"]
    lines = [
        f"Prompts with two objects came out right in {_span(right, 'share')} of {right['n']} pictures "
        f"({right['n_prompts']} prompt families); where both objects were there, in {_span(given, 'share')}."
    ]
    if right.get("corrected") is not None and right["corrected"] == right["corrected"]:
        low, high = _percent(right["corrected_low"]), _percent(right["corrected_high"])
        lines.append(f"Corrected by the probe's passport: {_percent(right['corrected'])} [{low}, {high}].")
    return lines


def _shares(shares: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for level in dict.fromkeys(shares["level"]):
        part = shares if level is None else shares[shares["level"] == level]
        rows = {row["outcome"]: row for row in part.to_dict("records")}
        said = {name: _span(rows[name], "share") for name in OUTCOMES}
        parts = [{"outcome": name, "share": rows[name]["share"] or 0.0} for name in OUTCOMES]
        words = ", ".join(f"{name} {_percent(rows[name]['share'])}" for name in OUTCOMES)
        named = "all" if level is None else f"guidance_scale {level}"
        counts = {"n": rows["correct"]["n"], "n_prompts": rows["correct"]["n_prompts"]}
        out.append({"name": named, "said": said, "parts": parts, "words": words, **counts})
    return out


def _effect(row: dict[Any, Any]) -> dict[str, Any]:
    said = "not measured"
    if row["estimate"] is not None and row["estimate"] == row["estimate"]:
        said = f"{row['estimate']:+.3g} [{row['low']:+.3g}, {row['high']:+.3g}]"
    p = row["p_adjusted"] if row["p_adjusted"] == row["p_adjusted"] else None
    kept = {name: row[name] for name in ("contrast", "measure")} | {"n": row["n_groups"], "reason": row["reason"] or ""}
    return {**kept, "said": said, "p": "" if p is None else f"{p:.4f}"}


def _leak(row: dict[Any, Any]) -> dict[str, Any]:
    shown = {
        "own": _percent(row["own"] + row["both"]),
        "leaked": _span(row, "leaked"),
        "expected": _percent(row["expected"]),
    }
    return {"attribute": row["attribute"], "n": row["n"], **shown}


def _galleries(store: Store, study: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Right and wrong pictures where an outcome is known, a prompt once; else the first ones."""
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
        said = f", {row['outcome']}" if isinstance(row["outcome"], str) else ""
        data = "data:image/webp;base64," + base64.b64encode(small).decode()
        out.append({"prompt": row["prompt"], "seed": row["seed"], "said": said, "data": data})
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
    told = [(str(name), str(value)) for name, value in cells.items() if value is not None and value == value]
    return told + [(str(row["name"]), str(row["value"])) for row in facts.to_dict("records")]
