"""Ratings by people: imported as scores of the probe `human`, or made blind in the dashboard.

Imported ratings have the same measures as probes, so that the same tables and views serve both. The probe's id is
`human-1-<hash of the file>`:

    correct, swap, leak, other, neglect, both_present, accuracy      of the whole image, as `binding` gives them: the
                          answer of more than half of the raters; NULL, with the votes as reason, where there is none
    fused                 NULL: nobody was asked
    noun, colour          of each object: present; in its colour, given that it is (label: the colours chosen most)
    judgement             of each rater (target "rater 1", ...): 1 if the outcome is correct; its detail holds the
                          outcome and the answers
    caption_fit           mean of the raters' 1 to 4

Rated images that are not on this disk get a record without a file. With a study of the images themselves, as
`promptlab import` writes it, the ratings go to those. How far the raters agree is a fact of the run (table `fact`,
`agreement.<tag>.alpha` and so on).

Blind rating asks which of two images at one seed fits the prompt better, with settings and scores hidden. Choices go to
a journal of their own, `ratings/blind.jsonl` of the home: one line a choice, fsynced, never rewritten.
`agreement_with_measures` compares them with what a measure says of the same two images:

    agree = share of choices in which the measure prefers the same image; pairs that either calls equal are left out

Half is chance. The interval is Wilson's over choices: it speaks of these raters and these images.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from promptlab.analyzer.judges.outcomes import MEASURES, Judgement, majority, outcome_seen, read_annotations
from promptlab.errors import PromptlabError
from promptlab.records import OUTCOMES, Cell, Image, Measure, Score, Settings, Source, content_id
from promptlab.run.plan import tier_of
from promptlab.stats.calibration import Agreement, krippendorff_alpha
from promptlab.stats.paired import wilson
from promptlab.store import Store
from promptlab.store.home import Home
from promptlab.study.grid import expand
from promptlab.study.prompt_lists import ListedPrompt, RequestedObject, read_list
from promptlab.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Choice", "Rated", "agreement_with_measures", "choices", "import_ratings", "next_pair", "remember"]

RATER_MEASURES = (
    Measure("judgement", "a rater's outcome is correct", "1 or 0", 0, 1, True, "promptlab.analyzer.judges.outcomes"),
    Measure("caption_fit", "how well the picture fits its caption, mean of the raters", "", 1, 4, True, "GenEval"),
)


@dataclass(frozen=True)
class Rated:
    """What was imported: pictures, judgements by tag and outcome, agreement by tag."""

    study: str
    pictures: int
    judgements: int
    outcomes: Mapping[str, Counter[str]]
    agreement: Mapping[str, Agreement]


def import_ratings(
    annotations: Path, prompts: Path, store: Store, name: str, *, model: str = "unknown", study: Study | None = None
) -> Rated:
    """Put the ratings of a file in GenEval's form into the store and publish it.

    Args:
        prompts: GenEval's evaluation_metadata.jsonl, which says what each prompt asks for.
        name: of the study that holds the ratings; ignored where `study` is given.
        model: who made the pictures.
        study: a study of the pictures themselves; theirs are then the scores.

    Raises:
        PromptlabError: a file that cannot be used, ratings that fit no prompt, a picture that the study lacks, a name
            that another study has.
    """
    items = read_list(prompts, "geneval")
    if study is None and store.home.database.exists():
        written = store.query("SELECT count(*) AS n FROM study WHERE name = ? AND text <> ''", [name])
        if int(written["n"].iloc[0]):
            raise PromptlabError(f"{name!r} is a study with a file of its own: choose another --name for the ratings")
    pictures: dict[tuple[int, int], list[Judgement]] = defaultdict(list)
    for judgement in read_annotations(annotations):
        _check(judgement, items)
        pictures[judgement.prompt, judgement.image].append(judgement)
    probe_id = f"human-1-{hashlib.sha256(annotations.read_bytes()).hexdigest()[:8]}"
    cells = _cells_of_addresses(pictures, items, name, model) if study is None else _cells_of(study)
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    units: dict[str, list[tuple[int, list[str | None]]]] = defaultdict(list)
    scores: list[Score] = []
    for (prompt, image), judgements in sorted(pictures.items()):
        cell = cells.get(items[prompt].prompt.text)
        if cell is None or cell.source(image) is None:
            raise PromptlabError(f"the study has no picture {image} of {items[prompt].prompt.text!r}, which is rated")
        tag, requested = str(dict(items[prompt].columns)["tag"]), _requested_objects(items[prompt], judgements[0].nouns)
        rated = [outcome_seen(requested, judgement.seen) for judgement in judgements]
        outcomes[tag].update(one or "not told" for one in rated)
        units[tag].append((prompt, rated))
        make = partial(Score, cell.image_id(image), "human", probe_id, prompt=cell.prompt.id)
        scores += _scores(make, cell, requested, judgements, rated)
    agreement = {tag: _agreement(rows) for tag, rows in units.items()}
    with store.open_run(study.name if study else name, text=study.source if study else "") as run:
        if study is None:
            run.plan(cells.values(), sorted({image for _, image in pictures}), tier_of)
            run.add(*_absent(cells.values()))
        run.add(*(measure for measure in (*MEASURES, *RATER_MEASURES)))
        run.add(*scores)
        run.fact({"human": {"probe": probe_id, "annotations": annotations.name}})
        run.fact(
            {"agreement": {tag: {k: v for k, v in asdict(a).items() if v is not None} for tag, a in agreement.items()}}
        )
    store.publish()
    count = sum(map(len, pictures.values()))
    return Rated(study.name if study else name, len(pictures), count, dict(outcomes), agreement)


def _check(judgement: Judgement, items: Sequence[ListedPrompt]) -> None:
    if judgement.prompt >= len(items) or items[judgement.prompt].prompt.text != judgement.caption:
        raise PromptlabError(f"prompt {judgement.prompt}, {judgement.caption!r}, is not so in the list of prompts")
    nouns = {binding.noun for binding in items[judgement.prompt].prompt.bindings}
    if nouns != set(judgement.nouns):
        raise PromptlabError(
            f"{judgement.caption!r} was rated for {judgement.nouns}, the list asks for {sorted(nouns)}"
        )


def _requested_objects(item: ListedPrompt, nouns: Sequence[str]) -> tuple[RequestedObject, ...]:
    """What was asked for, in the order of the questions."""
    colours = {b.noun: b.attribute for b in item.prompt.bindings if b.kind == "colour" and b.attribute is not None}
    return tuple(RequestedObject(noun, colours.get(noun)) for noun in nouns)


def _cells_of_addresses(
    pictures: Mapping[tuple[int, int], list[Judgement]], items: Sequence[ListedPrompt], name: str, model: str
) -> dict[str, Cell]:
    """A cell for each rated prompt, whose pictures are named by their addresses and are not here."""
    sources: dict[int, list[Source]] = defaultdict(list)
    for (prompt, image), judgements in sorted(pictures.items()):
        sources[prompt].append(Source(image, "", judgements[0].url, None))
    cells = {}
    for prompt, found in sources.items():
        item = items[prompt]
        levels = (("text", item.prompt.text), *item.columns)
        group = content_id({"unit": [["text", item.prompt.text]]})
        cell = Cell(name, levels, item.prompt, Settings(), group, "folder", model, tuple(found))
        cells[item.prompt.text] = cell
    return cells


def _cells_of(study: Study) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for cell in expand(study):
        if cell.prompt.text in cells:
            raise PromptlabError(f"the study has several cells of {cell.prompt.text!r}: whose pictures were rated?")
        cells[cell.prompt.text] = cell
    return cells


def _absent(cells: Iterable[Cell]) -> Iterator[Image]:
    for cell in cells:
        for source in cell.sources:
            yield Image(cell.image_id(source.seed), cell.recipe(source.seed))


def _scores(
    make: Any,
    cell: Cell,
    requested: Sequence[RequestedObject],
    judgements: Sequence[Judgement],
    rated: Sequence[str | None],
) -> Iterator[Score]:
    names = {binding.noun: binding.object for binding in cell.prompt.bindings}
    if len(requested) > 1:
        yield from _whole(make, rated)
    for k, thing in enumerate(requested):
        present = majority([None if j.seen[k].count is None else j.seen[k].count != 0 for j in judgements])
        yield _share(make, "noun", names[thing.noun], present, "the raters are divided")
        if thing.colour is None:
            continue
        seers = [j.seen[k].colours for j in judgements if j.seen[k].colours]
        correct = majority([thing.colour in colours for colours in seers]) if present else None
        votes = Counter(colour for colours in seers for colour in sorted(colours))
        most = [colour for colour, n in votes.items() if n == max(votes.values())]
        reason = "the raters are divided" if present else f"most raters see no {thing.noun}"
        label = "|".join(sorted(most)) if present else None
        yield _share(
            make, "colour", names[thing.noun], correct, reason, label, {"votes": dict(votes), "raters": len(seers)}
        )
    for n, (judgement, outcome) in enumerate(zip(judgements, rated, strict=True), 1):
        detail = {
            "outcome": outcome,
            "fit": judgement.fit,
            "objects": [_rated_object(*p) for p in zip(requested, judgement.seen, strict=True)],
        }
        correct = None if outcome is None else outcome == "correct"
        yield _share(make, "judgement", f"rater {n}", correct, "an answer is missing", None, detail)
    fits = [judgement.fit for judgement in judgements if judgement.fit is not None]
    value = float(np.mean(fits)) if fits else None
    yield make("caption_fit", "", value, reason=None if fits else "nobody answered")


def _whole(make: Any, rated: Sequence[str | None]) -> Iterator[Score]:
    outcome = majority(rated)
    votes = dict(Counter(one or "not told" for one in rated))
    why = "no outcome has more than half of the raters: " + ", ".join(f"{n} {one}" for one, n in sorted(votes.items()))
    detail = {"votes": votes}
    yield _share(make, "correct", "", None if outcome is None else outcome == "correct", why, outcome, detail)
    for name in OUTCOMES[1:]:
        known = outcome is not None and name != "fused"
        reason = "the raters were not asked" if name == "fused" else why
        yield _share(make, name, "", outcome == name if known else None, reason)
    present = majority([None if one is None else one != "neglect" for one in rated])
    yield _share(make, "both_present", "", present, "the raters are divided")
    right = None if outcome in (None, "neglect") else outcome == "correct"
    yield _share(make, "accuracy", "", right, why if outcome is None else "not every object is there")


def _share(
    make: Any,
    measure: str,
    target: str,
    value: Any,
    reason: str,
    label: Any = None,
    detail: dict[str, Any] | None = None,
) -> Score:
    known = value is not None
    score: Score = make(
        measure,
        target,
        float(value) if known else None,
        label if known else None,
        None if known else reason,
        detail or {},
    )
    return score


def _rated_object(thing: RequestedObject, seen: Any) -> dict[str, Any]:
    facts = {"noun": thing.noun, "asked": thing.colour, "count": seen.count, "colours": sorted(seen.colours)}
    return {**facts, "realism": seen.realism}


def _agreement(rows: Sequence[tuple[int, list[str | None]]]) -> Agreement:
    return krippendorff_alpha(
        [rated for _, rated in rows], [prompt for prompt, _ in rows], rng=np.random.default_rng(0)
    )


@dataclass(frozen=True)
class Choice:
    """One choice between two images of a study, by id: a, b, or tie."""

    study: str
    image_a: str
    image_b: str
    chosen: Literal["a", "b", "tie"]
    rater: str = ""
    at: str = ""


def remember(home: Home, choice: Choice) -> None:
    """Append a choice to the home's journal of ratings, safely on disk when this returns."""
    path = home.path / "ratings" / "blind.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    when = choice.at or datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({**asdict(choice), "at": when}, ensure_ascii=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def choices(home: Home, study: str) -> tuple[Choice, ...]:
    """All choices of a study, oldest first; a line that was cut off by a crash is left out."""
    path = home.path / "ratings" / "blind.jsonl"
    found = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            choice = Choice(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if choice.study == study and choice.chosen in ("a", "b", "tie"):
            found.append(choice)
    return tuple(found)


def next_pair(store: Store, study: str, done: Iterable[Choice]) -> tuple[str, str, str] | None:
    """Two images of one prompt at one seed that nobody rated yet, and their prompt: (image a, image b, prompt).

    They differ in settings alone, so the prompt can be shown. Which is a and which is b follows their ids: no order of
    levels is told. A prompt and seed of which fewest pairs are rated comes first, so that few choices reach over many
    prompts; among those, and among its pairs, by chance that is the same each time. None where every pair is rated.
    """
    rated = {(min(one.image_a, one.image_b), max(one.image_a, one.image_b)) for one in done}
    a, b = (list(side) for side in zip(*sorted(rated), strict=True)) if rated else ([], [])
    rows = store.query(_NEXT, {"study": study, "a": a, "b": b})
    return (str(rows["a"].iloc[0]), str(rows["b"].iloc[0]), str(rows["prompt"].iloc[0])) if len(rows) else None


_NEXT = """
WITH shown AS MATERIALIZED (
    SELECT DISTINCT cell.prompt, cell_image.seed, cell_image.image FROM cell
    JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
    JOIN image ON image.id = cell_image.image AND image.status = 'ok' AND image.file IS NOT NULL
    WHERE cell.study = $study AND cell.current
), rated AS (
    SELECT unnest($a::VARCHAR[]) AS a, unnest($b::VARCHAR[]) AS b
), spot AS (
    SELECT prompt, seed, count(*) * (count(*) - 1) // 2 AS pairs FROM shown GROUP BY ALL
), used AS (
    SELECT one.prompt, one.seed, count(*) AS pairs FROM rated
    JOIN shown one ON one.image = rated.a
    JOIN shown two ON two.image = rated.b AND two.prompt = one.prompt AND two.seed = one.seed GROUP BY ALL
), free AS (
    SELECT spot.prompt, spot.seed FROM spot LEFT JOIN used ON used.prompt = spot.prompt AND used.seed = spot.seed
    WHERE coalesce(used.pairs, 0) < spot.pairs
    ORDER BY coalesce(used.pairs, 0), md5(spot.prompt || spot.seed), spot.seed LIMIT 1
)
SELECT one.image AS a, two.image AS b, free.prompt FROM free
JOIN shown one ON one.prompt = free.prompt AND one.seed = free.seed
JOIN shown two ON two.prompt = free.prompt AND two.seed = free.seed AND one.image < two.image
ANTI JOIN rated ON rated.a = one.image AND rated.b = two.image
ORDER BY md5(one.image || two.image) LIMIT 1
"""


def agreement_with_measures(store: Store, study: str, made: Iterable[Choice]) -> pd.DataFrame:
    """How often each measure prefers the picture that people chose. Columns: measure, agree, low, high, n."""
    import pandas as pd

    decided = [(one.image_a, one.image_b, one.chosen) for one in made if one.chosen != "tie"]
    out: list[dict[str, object]] = []
    if not decided:
        return pd.DataFrame(out, columns=["measure", "agree", "low", "high", "n"])
    rows = store.query(
        """
        SELECT image, measure, avg(value) AS value, any_value(higher_is_better) AS better FROM scored
        WHERE study = ? AND status = 'ok' AND value IS NOT NULL AND higher_is_better IS NOT NULL
            AND image IN (SELECT unnest(?::VARCHAR[])) GROUP BY image, measure
        """,
        [study, sorted({image for a, b, _ in decided for image in (a, b)})],
    )
    for measure, part in rows.groupby("measure"):
        value = dict(zip(part["image"], part["value"], strict=True))
        sign = 1 if bool(part["better"].iloc[0]) else -1
        hits = [
            (sign * (value[a] - value[b]) > 0) == (chosen == "a")
            for a, b, chosen in decided
            if a in value and b in value and value[a] != value[b]
        ]
        if hits:
            low, high = wilson(sum(hits), len(hits))
            row = {"measure": measure, "agree": sum(hits) / len(hits), "low": low, "high": high, "n": len(hits)}
            out.append(row)
    return pd.DataFrame(out, columns=["measure", "agree", "low", "high", "n"])
