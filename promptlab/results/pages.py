"""What the pages of the dashboard read from the published database, one function for each part of a page.

Each takes the store first and the rest as bound parameters, and gives a DataFrame, or a plain list, dict, number or
text. They read and conclude nothing: means with intervals are in `promptlab.results.tables`. A page keeps the answers
until the database is replaced, so none of these is asked twice of the same database.

Frames of images have the columns that a gallery needs: image (id), file (SHA-256 of the PNG), prompt, seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.results.queries import preferred_probe

if TYPE_CHECKING:
    import pandas as pd

    from promptlab.store import Store

__all__ = [
    "axis_levels",
    "captions_of_family",
    "cell_outcomes",
    "cells_with_images",
    "compared_axes",
    "compared_means",
    "damaged_journals",
    "described_measure",
    "exported_means",
    "exported_outcomes",
    "gallery_image",
    "image_files",
    "image_levels",
    "image_phrases",
    "image_record",
    "image_scores",
    "images_along_axis",
    "images_of_cells",
    "images_of_family",
    "images_of_study",
    "last_run",
    "measure_names",
    "model_names",
    "neighbours",
    "newest_images",
    "prompt_families",
    "recent_seconds",
    "run_fact",
    "run_facts",
    "same_prompt_images",
    "study_text",
    "study_tiers",
    "unmeasured",
    "varies",
]

MAX_EXPORTED = 100_000
"""Rows of a CSV that a page hands out."""

_COMPARED_AXES = """
SELECT axis FROM (
    SELECT level.axis, cell.prompt_group, count(DISTINCT level.level) AS n FROM level
    JOIN cell ON cell.study = level.study AND cell.id = level.cell_id AND cell.current
    WHERE level.study = ? GROUP BY ALL)
GROUP BY axis HAVING max(n) > 1 ORDER BY axis
"""
_CELLS_WITH_IMAGES = """
SELECT cell.id AS cell, cell.prompt, cell.position, cell.guidance_scale, cell.num_inference_steps, cell.model,
    count(image.id) AS made
FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
WHERE cell.study = ? AND cell.current AND cell.prompt_group = coalesce(?, cell.prompt_group)
GROUP BY ALL ORDER BY cell.position LIMIT ?
"""
_COMPARED_MEANS = """
WITH cell_mean AS (
    SELECT measure, target, cell_id, fsum(total) / sum(with_value) AS mean, sum(with_value)::BIGINT AS n
    FROM cell_score WHERE study = $study AND cell_id IN ($a, $b) GROUP BY ALL
)
SELECT cell_mean.measure, cell_mean.target, any_value(measure.higher_is_better) AS higher_is_better,
    any_value(cell_mean.mean) FILTER (cell_mean.cell_id = $a) AS a,
    any_value(cell_mean.mean) FILTER (cell_mean.cell_id = $b) AS b,
    coalesce(any_value(cell_mean.n) FILTER (cell_mean.cell_id = $a), 0) AS n_a,
    coalesce(any_value(cell_mean.n) FILTER (cell_mean.cell_id = $b), 0) AS n_b
FROM cell_mean LEFT JOIN measure ON measure.name = cell_mean.measure GROUP BY ALL ORDER BY ALL
"""
_NEIGHBOURS = """
SELECT before, after, place, total, cell FROM (
    SELECT image, cell, lag(image) OVER study_order AS before, lead(image) OVER study_order AS after,
        row_number() OVER study_order AS place, count(*) OVER () AS total
    FROM (
        SELECT image.id AS image, arg_min(cell.id, cell.position) AS cell, min(cell.position) AS position,
            min(image.seed) AS seed
        FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
        JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
        WHERE cell.study = ? AND cell.current GROUP BY image.id)
    WINDOW study_order AS (ORDER BY position, seed)) WHERE image = ?
"""
_IMAGES_OF_FAMILY = """
SELECT cell.id AS cell, cell.prompt, cell.position, cell_image.seed, image.id AS image, image.file, image.status,
    level.axis, level.level
FROM cell JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
LEFT JOIN image ON image.id = cell_image.image
LEFT JOIN level ON level.study = cell.study AND level.cell_id = cell.id
WHERE cell.study = ? AND cell.current AND cell.prompt_group = ? ORDER BY cell.position, cell_image.seed
"""
_IMAGES_ALONG_AXIS = """
WITH cell_level AS (
    SELECT cell.id, cell.study, cell.prompt, cell.position, level.level, level.level_position AS place
    FROM cell JOIN level ON level.study = cell.study AND level.cell_id = cell.id AND level.axis = $axis
    WHERE cell.study = $study AND cell.current
), complete AS (  -- the first prompts that have every level
    SELECT prompt FROM cell_level GROUP BY prompt
    HAVING count(DISTINCT level) = (SELECT max(place) + 1 FROM cell_level) ORDER BY min(position) LIMIT 40
)
SELECT cell_level.level, cell_level.place, cell_level.prompt, cell_image.seed, image.id AS image, image.file
FROM cell_level JOIN complete USING (prompt)
JOIN cell_image ON cell_image.study = cell_level.study AND cell_image.cell_id = cell_level.id
JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
QUALIFY count(DISTINCT cell_level.level) OVER (PARTITION BY cell_level.prompt, cell_image.seed)
    = max(cell_level.place) OVER () + 1
ORDER BY cell_level.position, cell_image.seed, cell_level.place LIMIT 240
"""


# Studies


def study_tiers(store: Store) -> dict[str, list[str | None]]:
    """Every study that plans an image, with the tiers of its current cells in order; None where a tier is not known."""
    rows = store.query(
        """
        SELECT study, list(DISTINCT tier ORDER BY tier) AS tiers FROM cell
        WHERE current AND (study, id) IN (SELECT (study, cell_id) FROM cell_image) GROUP BY study ORDER BY study
        """
    )
    return {str(study): list(tiers) for study, tiers in zip(rows["study"], rows["tiers"], strict=True)}


def study_text(store: Store, study: str) -> str | None:
    """The YAML that the study was run from; None where it was made in Python."""
    rows = store.query("SELECT text FROM study WHERE name = ?", [study])
    return str(rows["text"].iloc[0]) if len(rows) and rows["text"].iloc[0] else None


def model_names(store: Store, study: str) -> tuple[str, ...]:
    """The models of the study's current cells, sorted."""
    rows = store.query("SELECT DISTINCT model FROM cell WHERE study = ? AND current ORDER BY model", [study])
    return tuple(map(str, rows["model"]))


def measure_names(store: Store, study: str, *, with_labels: bool = False) -> list[str]:
    """Measures of which some image of the study has a value, or with `with_labels` a value or a label; sorted."""
    rows = store.query(
        """
        SELECT DISTINCT measure FROM measured
        WHERE study = ? AND (with_value > 0 OR (? AND with_label > 0)) ORDER BY measure
        """,
        [study, with_labels],
    )
    return [str(name) for name in rows["measure"]]


def described_measure(store: Store, measure: str) -> pd.DataFrame:
    """What a measure means, one row or none: name, description, unit, lower, upper, higher_is_better and more."""
    return store.query("SELECT * FROM measure WHERE name = ?", [measure])


def varies(store: Store, study: str, axis: str) -> bool:
    """Whether cells of the study have levels of this axis."""
    return bool(len(store.query("SELECT 1 FROM level WHERE study = ? AND axis = ? LIMIT 1", [study, axis])))


def compared_axes(store: Store, study: str) -> list[str]:
    """Axes with several levels within a prompt family, sorted: their levels can be compared in pairs."""
    return [str(axis) for axis in store.query(_COMPARED_AXES, [study])["axis"]]


def axis_levels(store: Store, study: str) -> pd.DataFrame:
    """Every level of every axis in the order of the study. Columns: axis, level, place (from 0), cells."""
    return store.query(
        """
        SELECT level.axis, level.level, min(level.level_position) AS place, count(DISTINCT level.cell_id) AS cells
        FROM level JOIN cell ON cell.study = level.study AND cell.id = level.cell_id AND cell.current
        WHERE level.study = ? GROUP BY ALL ORDER BY axis, place
        """,
        [study],
    )


def prompt_families(store: Store, study: str) -> dict[str, str]:
    """The prompt families of the study in the order of its plan, each with its first prompt; at most 5000."""
    rows = store.query(
        """
        SELECT prompt_group, arg_min(prompt, position) AS prompt FROM cell
        WHERE study = ? AND current GROUP BY ALL ORDER BY min(position) LIMIT 5000
        """,
        [study],
    )
    return dict(zip(map(str, rows["prompt_group"]), map(str, rows["prompt"]), strict=True))


# Runs


def last_run(store: Store, study: str) -> pd.DataFrame:
    """The run of the study that started last: one row of the table `run`, or none."""
    return store.query("SELECT * FROM run WHERE study = ? ORDER BY started DESC LIMIT 1", [study])


def recent_seconds(store: Store, study: str) -> float | None:
    """The median time of the study's last 64 images, in seconds each; None where no time is known."""
    rows = store.query(
        """
        SELECT median(seconds) AS seconds FROM (
            SELECT image.seconds FROM image JOIN cell_image ON cell_image.image = image.id
            WHERE cell_image.study = ? AND image.seconds IS NOT NULL ORDER BY image.rowid DESC LIMIT 64)
        """,
        [study],
    )
    seconds = float(rows["seconds"].astype(float).iloc[0])
    return None if seconds != seconds else seconds


def run_facts(store: Store, study: str) -> pd.DataFrame:
    """What decided the images of the study's runs. Columns: name, value (one of them), versions (how many values)."""
    return store.query(
        """
        SELECT name, any_value(value) AS value, count(DISTINCT value) AS versions FROM fact
        JOIN run ON run.id = fact.run WHERE run.study = ? GROUP BY name ORDER BY name LIMIT 300
        """,
        [study],
    )


def damaged_journals(store: Store) -> pd.DataFrame:
    """The lines of journals that could not be read: the table `damage`."""
    return store.query("SELECT * FROM damage")


def unmeasured(store: Store, study: str) -> pd.DataFrame:
    """What no probe could measure on images that are ok. Columns: probe, measure, reason, n (images), most first."""
    return store.query(
        """
        SELECT probe, measure, reason, count(*) AS n FROM scored
        WHERE study = ? AND status = 'ok' AND value IS NULL AND label IS NULL GROUP BY ALL ORDER BY n DESC LIMIT 200
        """,
        [study],
    )


# Images


def newest_images(store: Store, study: str) -> pd.DataFrame:
    """The twelve images of the study that were made last: image, file, prompt, seed."""
    return store.query(
        """
        SELECT image.id AS image, image.file, image.prompt, image.seed
        FROM image JOIN (SELECT DISTINCT image FROM cell_image WHERE study = ?) mine ON mine.image = image.id
        WHERE image.status = 'ok' AND image.file IS NOT NULL ORDER BY image.rowid DESC LIMIT 12
        """,
        [study],
    )


def images_of_study(store: Store, study: str) -> pd.DataFrame:
    """The first 480 images of the study in its order: image, file, prompt, seed."""
    return store.query(
        """
        SELECT image.id AS image, image.file, image.prompt, image.seed FROM cell
        JOIN cell_image ON cell_image.study = cell.study AND cell_image.cell_id = cell.id
        JOIN image ON image.id = cell_image.image AND image.file IS NOT NULL
        WHERE cell.study = ? AND cell.current ORDER BY cell.position, cell_image.seed LIMIT 480
        """,
        [study],
    )


def images_of_family(store: Store, study: str, group: str) -> pd.DataFrame:
    """The planned images of a prompt family, one row an image and axis.

    Columns: cell, prompt, position, seed, image, file, status, axis, level. Status is NULL where the image is not
    made, axis and level where the cell has no levels.
    """
    return store.query(_IMAGES_OF_FAMILY, [study, group])


def captions_of_family(store: Store, study: str, group: str, measure: str) -> pd.DataFrame:
    """What a measure says of each image of a prompt family. Columns: cell, seed, caption.

    The caption is a label, else the mean value with three digits, else the reason why there is none.
    """
    return store.query(
        """
        SELECT cell_id AS cell, seed,
            coalesce(any_value(label), format('{:.3g}', avg(value)), any_value(reason)) AS caption
        FROM scored WHERE study = ? AND prompt_group = ? AND measure = ? GROUP BY ALL
        """,
        [study, group, measure],
    )


def images_along_axis(store: Store, study: str, axis: str) -> pd.DataFrame:
    """Images of the first prompts and seeds that have one at every level of `axis`, in the order of the study.

    At most 40 prompts and 240 images. Columns: level, place (of the level, from 0), prompt, seed, image, file.
    """
    return store.query(_IMAGES_ALONG_AXIS, {"axis": axis, "study": study})


def image_files(store: Store, images: tuple[str, ...]) -> dict[str, str]:
    """The file of each image by its id."""
    rows = store.query("SELECT id, file FROM image WHERE list_contains(?::VARCHAR[], id)", [list(images)])
    return dict(zip(map(str, rows["id"]), map(str, rows["file"]), strict=True))


# Two cells beside each other


def cells_with_images(store: Store, study: str, group: str | None, limit: int) -> pd.DataFrame:
    """Cells of the study, or of a prompt family, that have images, in the order of the study.

    Columns: cell, prompt, position, guidance_scale, num_inference_steps, model, made (images).
    """
    return store.query(_CELLS_WITH_IMAGES, [study, group, limit])


def images_of_cells(store: Store, study: str, a: str, b: str) -> pd.DataFrame:
    """The images of two cells, by seed. Columns: cell, seed, image, file, prompt."""
    return store.query(
        """
        SELECT cell_image.cell_id AS cell, cell_image.seed, image.id AS image, image.file, image.prompt
        FROM cell_image JOIN image ON image.id = cell_image.image
        WHERE cell_image.study = ? AND cell_image.cell_id IN (?, ?) AND image.file IS NOT NULL
        ORDER BY cell_image.seed LIMIT 120
        """,
        [study, a, b],
    )


def cell_outcomes(store: Store, study: str, a: str, b: str) -> pd.DataFrame:
    """The outcome of each image of two cells, by the preferred probe. Columns: cell, seed, probe, label."""
    rows = store.query(
        """
        SELECT cell_id AS cell, seed, probe, label FROM scored
        WHERE study = ? AND cell_id IN (?, ?) AND status = 'ok' AND measure = 'correct' AND label IS NOT NULL
        ORDER BY ALL
        """,
        [study, a, b],
    )
    return rows[rows["probe"] == preferred_probe(rows["probe"])]


def compared_means(store: Store, study: str, a: str, b: str) -> pd.DataFrame:
    """The mean of every measure in two cells. Columns: measure, target, higher_is_better, a, b, n_a, n_b (images)."""
    return store.query(_COMPARED_MEANS, {"study": study, "a": a, "b": b})


# One image


def image_record(store: Store, image: str) -> pd.DataFrame:
    """All that the table `image` holds of an image: one row, or none."""
    return store.query("SELECT * FROM image WHERE id = ?", [image])


def gallery_image(store: Store, image: str) -> pd.DataFrame:
    """An image as a gallery shows it: one row, or none, of image, file, prompt, seed."""
    return store.query("SELECT id AS image, file, prompt, seed FROM image WHERE id = ?", [image])


def neighbours(store: Store, study: str, image: str) -> pd.DataFrame:
    """The place of an image in the order of its study: one row, or none where the study has no such image.

    Columns: before, after (ids of images, NULL at the ends), place (from 1), total, cell (id of its first cell).
    """
    return store.query(_NEIGHBOURS, [study, image])


def image_levels(store: Store, study: str, image: str) -> pd.DataFrame:
    """The levels at which the study has an image. Columns: axis, level."""
    return store.query(
        """
        SELECT level.axis, level.level FROM cell_image
        JOIN level ON level.study = cell_image.study AND level.cell_id = cell_image.cell_id
        WHERE cell_image.study = ? AND cell_image.image = ? LIMIT 40
        """,
        [study, image],
    )


def run_fact(store: Store, run: str, name: str) -> str | None:
    """A fact of a run, such as `diffusion.dtype`; None where the run does not say it."""
    found = store.query("SELECT value FROM fact WHERE run = ? AND name = ?", [run, name])["value"]
    return None if found.empty else str(found.iloc[0])


def image_scores(store: Store, image: str) -> pd.DataFrame:
    """What the probes say of an image.

    Columns: probe, probe_id, measure, target, value, label, reason, detail (JSON).
    """
    return store.query(
        """
        SELECT DISTINCT probe, probe_id, measure, target, value, label, reason, detail FROM score
        WHERE image = ? ORDER BY probe_id, measure, target LIMIT 500
        """,
        [image],
    )


def image_phrases(store: Store, study: str, image: str) -> pd.DataFrame:
    """The tracked phrases of the prompt of an image. Columns: name, text, role, start_char, end_char."""
    return store.query(
        """
        SELECT phrase.name, phrase.text, phrase.role, phrase.start_char, phrase.end_char FROM phrase
        JOIN (SELECT prompt_id FROM cell JOIN cell_image ON cell_image.study = cell.study
                  AND cell_image.cell_id = cell.id
              WHERE cell.study = ? AND cell_image.image = ? LIMIT 1) mine ON mine.prompt_id = phrase.prompt_id
        ORDER BY phrase.position
        """,
        [study, image],
    )


def same_prompt_images(store: Store, image: str, prompt: str, model: str) -> pd.DataFrame:
    """Up to 48 other images of a model and prompt. Columns: image, file, prompt, seed, guidance_scale."""
    return store.query(
        """
        SELECT DISTINCT image.id AS image, image.file, image.prompt, image.seed, image.guidance_scale FROM image
        WHERE image.prompt = ? AND image.model = ? AND image.id <> ? AND image.file IS NOT NULL
        ORDER BY image.guidance_scale, image.seed LIMIT 48
        """,
        [prompt, model, image],
    )


# Exports


def exported_means(store: Store, study: str) -> pd.DataFrame:
    """The mean of every measure in every cell, over images that are ok; at most MAX_EXPORTED rows."""
    return store.query(
        """
        SELECT cell_id, prompt, model, tier, guidance_scale, num_inference_steps, measure, target,
            avg(value) AS mean, count(value) AS n
        FROM scored WHERE study = ? AND status = 'ok' GROUP BY ALL ORDER BY ALL LIMIT ?
        """,
        [study, MAX_EXPORTED],
    )


def exported_outcomes(store: Store, study: str) -> pd.DataFrame:
    """The outcome of every image with its prompt, seed and settings; at most MAX_EXPORTED rows."""
    return store.query(
        """
        SELECT study, prompt, seed, guidance_scale, num_inference_steps, outcome, tier, image, file FROM outcomes
        WHERE study = ? AND measure = 'correct' ORDER BY prompt, seed LIMIT ?
        """,
        [study, MAX_EXPORTED],
    )
